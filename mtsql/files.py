"""Files that nobody reads half of, and records read back from them."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mtsql.errors import DataError

Model = TypeVar("Model", bound=BaseModel)


def write_whole(path: Path, text: str) -> Path:
    """Write a file whole or not at all, so that nobody reads half of it, and return its path."""
    partial = partial_of(path)
    try:
        partial.write_text(text, encoding="utf-8")
        return partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def partial_of(path: Path) -> Path:
    """Where `write_whole` has the text until it is whole."""
    return path.with_name(f"{path.name}.partial")


def read_record(path: Path, model: type[Model], *, fix: str) -> Model:
    """One JSON object as a record.

    Args:
        fix: what to do about a file that is none, for the error.

    Raises:
        DataError: no such file, or one that holds something else; the text names the key.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {fix}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path}: {f'key {key!r}: ' if key else ''}{first['msg']}; {fix}"
        ) from error
