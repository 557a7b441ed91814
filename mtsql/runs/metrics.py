"""The metric files of a run, read back line by line, also while they grow."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter, ValidationError

from mtsql.errors import DataError

Row = dict[str, JsonValue]
"""One line of a metrics file."""
POLL_S = 0.25
"""How often a file that grows is looked at."""


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
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(TypeAdapter(Row).validate_json(line))
        except ValidationError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise DataError(
                f"{path}: line {number} is not a JSON object; mend or remove it"
            ) from error
    return rows


class Tail:
    """New JSON lines of a growing file; what stood there before is skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)
