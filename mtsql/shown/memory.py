"""What the agent is shown of the dialogue's earlier turns."""

from collections.abc import Mapping, Sequence

from mtsql.dialogue import PastTurn
from mtsql.query.clauses import CLAUSE_NAMES, ClauseName, Clauses, clauses
from mtsql.query.compare import Difference
from mtsql.query.names import Names


def relevant_turns(
    sql: str, history: Sequence[PastTurn], names: Names, *, limit: int = 2
) -> list[PastTurn]:
    """Earlier turns that share a table with the statement, most recent first.

    The last turns stand in when none does, or when the statement cannot be parsed: a question
    mostly refers to the one before it.
    """
    recent = list(reversed(history))
    current = clauses(sql, names)
    if current is not None:
        sharing = [
            past
            for past in recent
            if (parts := clauses(past.sql, names)) is not None and parts.tables & current.tables
        ]
        recent = sharing or recent
    return recent[:limit]


_LABELS: Mapping[ClauseName, str] = {
    "tables": "from",
    "columns": "select",
    "conditions": "where",
    "grouping": "group by",
    "ordering": "order by",
    "limit": "limit",
}


def observe_memory(
    turns: Sequence[PastTurn],
    differences: Sequence[Difference] | None,
    views: Sequence[Mapping[str, str]] = (),
) -> dict[str, object]:
    """Relevant earlier turns, most recent first, and what the proposal does to the first of them.

    Args:
        differences: None if there is nothing to compare with.
        views: of each turn, the SQL by name; none where its query is no chain.
    """
    if not turns:
        return {"history": [], "note": "no_history"}
    told: list[dict[str, object]] = [{"q": turn.question, "a": turn.sql} for turn in turns]
    for entry, own in zip(told, views, strict=False):
        if own:
            entry["views"] = dict(own)
    observation: dict[str, object] = {"history": told}
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
