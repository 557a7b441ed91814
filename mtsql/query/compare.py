"""What one statement keeps, adds, drops and changes of another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mtsql.query.clauses import CLAUSE_NAMES, ClauseName, Clauses, Element


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One element before and after; None on the side where it is missing."""

    clause: ClauseName
    before: str | None
    after: str | None

    @property
    def kind(self) -> Literal["kept", "added", "dropped", "changed"]:
        if self.before is None:
            return "added"
        if self.after is None:
            return "dropped"
        return "kept" if self.before == self.after else "changed"


def compare(before: Clauses, after: Clauses) -> tuple[Difference, ...]:
    """Every element of both statements, clause by clause; changed ones are paired by subject."""
    return tuple(
        difference
        for clause in CLAUSE_NAMES
        for difference in _compare_clause(clause, getattr(before, clause), getattr(after, clause))
    )


def _compare_clause(
    clause: ClauseName, before: frozenset[Element], after: frozenset[Element]
) -> Iterator[Difference]:
    for text in sorted(element.text for element in before & after):
        yield Difference(clause=clause, before=text, after=text)
    dropped = sorted(before - after, key=_text)
    added = sorted(after - before, key=_text)
    for old in dropped:
        new = next((element for element in added if element.subject == old.subject), None)
        if new is not None:
            added.remove(new)
        yield Difference(clause=clause, before=old.text, after=new.text if new else None)
    for new in added:
        yield Difference(clause=clause, before=None, after=new.text)


def _text(element: Element) -> str:
    return element.text
