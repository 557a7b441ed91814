"""What the agent reads: compact JSON that a database cell can never turn into protocol.

Every `<` leaves as \\u003c, so no special token or tag (they all open with `<`) can appear, and so
do control, zero-width, direction and tag characters. The text stays JSON for the same data.

Example, three rows of which two are shown:
    {"columns": ["name"], "rows": [["Ada"], ["Bob"]], "num_rows": 3, "more": true}
"""

import json
import math
import re
from collections.abc import Mapping, Sequence

from mtsql.memory import CLAUSE_NAMES, ClauseName, Clauses, Difference, PastTurn
from mtsql.sql.records import Cell, QueryResult, QueryStatus

MAX_MESSAGE_CHARS = 200

_UNSAFE = re.compile(
    "[<\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_LABELS: Mapping[ClauseName, str] = {
    "tables": "from",
    "columns": "select",
    "conditions": "where",
    "grouping": "group by",
    "ordering": "order by",
    "limit": "limit",
}


def to_json(observation: Mapping[str, object]) -> str:
    """One line of JSON with nothing in it that a tokenizer or a chat template could act on."""
    text = json.dumps(observation, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: _escaped(match[0]), text)


def _escaped(character: str) -> str:
    return json.dumps(character).strip('"') if character != "<" else "\\u003c"


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
        plain = [_plain(cell, cell_chars) for cell in row[: len(header)]]
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
    plain = _plain(cell, max_chars)
    return _shorten(plain, max_chars) if isinstance(plain, str) else plain


def suspicion(result: QueryResult) -> str:
    """Why a result that ran well may still be wrong: empty, all_null, zero, or nothing."""
    if result.status is not QueryStatus.OK:
        return ""
    if not result.rows:
        return "empty"
    if all(cell is None for row in result.rows for cell in row):
        return "all_null"
    only = result.rows[0][0] if len(result.rows) == 1 and len(result.rows[0]) == 1 else None
    return "zero" if isinstance(only, int | float) and only == 0 else ""


def observe_memory(
    turns: Sequence[PastTurn], differences: Sequence[Difference] | None
) -> dict[str, object]:
    """Relevant earlier turns, most recent first, and what the proposal does to the first of them.

    Args:
        differences: None if there is nothing to compare with.
    """
    if not turns:
        return {"history": [], "note": "no_history"}
    observation: dict[str, object] = {
        "history": [{"q": turn.question, "a": turn.sql} for turn in turns]
    }
    if differences is None:
        return observation | {"note": "not_comparable"}
    for kind in ("kept", "added", "dropped"):
        found = [
            f"{_LABELS[difference.clause]} {difference.after or difference.before}"
            for difference in differences
            if difference.kind == kind
        ]
        if found:
            observation[kind] = found
    changed = [
        [f"{_LABELS[change.clause]} {change.before}", f"{_LABELS[change.clause]} {change.after}"]
        for change in differences
        if change.kind == "changed"
    ]
    if changed:
        observation["changed"] = changed
    return observation


def clause_texts(parts: Clauses) -> list[str]:
    """The statement's elements as a memory comparison words them: `where shop.city = 'Paris'`."""
    return [
        f"{_LABELS[clause]} {text}"
        for clause in CLAUSE_NAMES
        for text in sorted(element.text for element in getattr(parts, clause))
    ]


def _plain(cell: Cell, max_chars: int) -> str | int | float | None:
    """The cell as JSON can hold it; of a blob, no more than what is shown is looked at."""
    if isinstance(cell, bytes):
        return f"x'{cell[:max_chars].hex()}'"
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
