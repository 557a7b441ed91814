"""The metric files of a run, read back line by line."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from mtsql.errors import DataError

Row = dict[str, JsonValue]
"""One line of a metrics file."""


def series_of(rows: Sequence[Row], key: str) -> list[float | None]:
    return [number_at(row, key) for row in rows]


def number_at(row: Row, key: str) -> float | None:
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else None


def read_rows(path: Path) -> list[Row]:
    """All whole lines of a metrics file; none when it is missing.

    The last line may still be in the writing: without its line end it may be left out.

    Raises:
        DataError: a line is not a JSON object.
    """
    if not path.is_file():
        return []
    rows: list[Row] = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(TypeAdapter(Row).validate_json(line))
        except ValidationError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataError(
                f"{path}: line {number} is not a JSON object; mend or remove it"
            ) from error
    return rows
