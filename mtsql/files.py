"""Atomic file writes, and records written and read through their types."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mtsql.errors import DataError, first_mistake

Model = TypeVar("Model", bound=BaseModel)


def write_whole(path: Path, text: str) -> Path:
    """Write a file atomically, so that no reader sees half of it, and return its path."""
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


def write_record(path: Path, record: BaseModel) -> Path:
    """Write a record as JSON, whole or not at all, and return its path."""
    return write_whole(path, record.model_dump_json(indent=1))


def read_record(path: Path, model: type[Model], *, fix: str) -> Model:
    """One JSON object as a record.

    Args:
        fix: what to do about a file that holds no such record, for the error.

    Raises:
        DataError: no such file, or one that holds something else; the text names the key.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {fix}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {first_mistake(error, model)}; {fix}") from error
