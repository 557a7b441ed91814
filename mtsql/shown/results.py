"""What the agent reads: compact JSON that a database cell can never turn into protocol.

Every `<` leaves as \\u003c, so no special token or tag (they all open with `<`) can appear, and so
do control, zero-width, direction and tag characters. The text stays JSON for the same data.

Example, three rows of which two are shown:
    {"columns": ["name"], "rows": [["Ada"], ["Bob"]], "num_rows": 3, "more": true}
"""

import math

from mtsql.sql.records import Cell, QueryResult, QueryStatus, suspicion

MAX_MESSAGE_CHARS = 200


def observe_result(
    result: QueryResult, *, preview_rows: int, preview_cell_chars: int, preview_chars: int
) -> dict[str, object]:
    """Column names, previewed rows and the count; or the typed error.

    Cut at cells and rows, never inside the JSON: `cut` says that a cell or the header is shortened,
    `more` that rows are left out. Both are absent when nothing is missing.
    """
    if result.status is not QueryStatus.OK:
        kind = result.kind or str(result.status)
        return {"error": kind, "message": result.message[:MAX_MESSAGE_CHARS]}
    header = _fitting(
        [_shorten(name, preview_cell_chars) for name in result.columns], preview_chars
    )
    # One row always fits, so a result with rows never looks empty.
    cell_chars = min(preview_cell_chars, max(1, preview_chars // max(1, len(header))))
    rows: list[list[str | int | float | None]] = []
    is_cut = header != list(result.columns)
    used = 0
    for row in result.rows[:preview_rows]:
        plain = [json_cell(cell, cell_chars) for cell in row[: len(header)]]
        cells = [_shorten(cell, cell_chars) if isinstance(cell, str) else cell for cell in plain]
        used += sum(len(str(cell)) for cell in cells)
        if rows and used > preview_chars:
            break
        is_cut = is_cut or cells != plain
        rows.append(cells)
    count = len(result.rows)
    observation: dict[str, object] = {
        "columns": header,
        "rows": rows,
        "num_rows": f"at least {count}" if result.truncated else count,
    }
    if result.truncated or count > len(rows):
        observation["more"] = True
    if is_cut:
        observation["cut"] = True
    if len(header) < len(result.columns):
        observation["num_columns"] = len(result.columns)
    if note := suspicion(result):
        observation["note"] = note
    return observation


def preview_cell(cell: Cell, max_chars: int) -> str | int | float | None:
    """One cell as an observation shows it."""
    plain = json_cell(cell, max_chars)
    return _shorten(plain, max_chars) if isinstance(plain, str) else plain


def json_cell(cell: Cell, max_bytes: int | None = None) -> str | int | float | None:
    """The cell as JSON can hold it: a blob as x'00ff', infinity as text.

    Args:
        max_bytes: of a blob; more are not looked at.
    """
    if isinstance(cell, bytes):
        return f"x'{cell[:max_bytes].hex()}'"
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    return cell


def _shorten(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[:max_chars]}\u2026"


def _fitting(names: list[str], max_chars: int) -> list[str]:
    """As many leading names as fit, at least one."""
    used = 0
    for index, name in enumerate(names):
        used += len(name)
        if index and used > max_chars:
            return names[:index]
    return names
