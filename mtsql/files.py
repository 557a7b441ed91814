"""Text as people save it, atomic writes, and records written and read through their types."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mtsql.errors import DataError, first_mistake

Model = TypeVar("Model", bound=BaseModel)


def read_text(path: Path) -> str:
    """A text file that someone else has made, with line feeds for all line ends.

    Raises:
        DataError: it cannot be read, or is not text.
    """
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def decoded(raw: bytes) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 as editors on Windows save it, with or without a mark.

    Lines end in a line feed, whatever they ended in: the mark at the beginning and Windows's
    carriage returns belong to the file, not to its first word or its last one.

    Raises:
        ValueError: it is none of these; the text begins "is not UTF-8 text".
    """
    encoding = json.detect_encoding(raw)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"is not UTF-8 text (line {line} holds the byte 0x{raw[error.start]:02x}); "
            "save it as UTF-8"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


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
