"""How much of gold's clauses a proposal has: set F1, free of order, aliases and case of names.

Elements are those of `mtsql.query.clauses`; a pair (clause, element) is right, missing or
superfluous:

    F1 = 2 * right / (2 * right + missing + superfluous)

Example: gold      SELECT name FROM shop WHERE city = 'Paris'
         proposal  SELECT name, id FROM shop WHERE city = 'Rome'
    tables shop and columns shop.name are right, columns shop.id is superfluous;
    f1         shop.city = ? is right:           2 * 3 / (2 * 3 + 0 + 1) = 0.857
    coherence  shop.city = 'Paris' is missing,
               shop.city = 'Rome' superfluous:   2 * 2 / (2 * 2 + 1 + 2) = 0.571
"""

from dataclasses import dataclass
from functools import lru_cache

from mtsql.query.clauses import CLAUSE_NAMES, Clauses, clauses
from mtsql.query.names import Names

MAX_SQL_CHARS = 20_000
"""Longer text is not parsed: as long as what the SQL pool takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseMatch:
    """One proposal against gold; None where gold itself cannot be read."""

    f1: float | None
    """What exact set match ignores is ignored: values, LIMIT's number, DISTINCT, and which of the
    columns linked by foreign keys stands there. Unlike EM, which is strict in nested queries, all
    of them are ignored everywhere."""
    coherence: float | None
    """With values: the comparison that memory shows of turns, made with this turn's gold."""
    is_parsed: bool
    """The proposal is one query that can be read; otherwise both figures are 0."""


@lru_cache(maxsize=8192)
def match_clauses(sql: str, gold_sql: str, names: Names) -> ClauseMatch:
    """Never raises, for any texts."""
    exact, loose = _clauses(sql, names, True), _clauses(sql, names, False)
    return ClauseMatch(
        f1=_f1(loose, _clauses(gold_sql, names, False)),
        coherence=_f1(exact, _clauses(gold_sql, names, True)),
        is_parsed=exact is not None,
    )


def _clauses(sql: str, names: Names, with_values: bool) -> Clauses | None:
    return None if len(sql) > MAX_SQL_CHARS else clauses(sql, names, with_values=with_values)


def _f1(found: Clauses | None, gold: Clauses | None) -> float | None:
    if gold is None:
        return None
    if found is None:
        return 0.0
    pairs = [(getattr(gold, clause), getattr(found, clause)) for clause in CLAUSE_NAMES]
    right = sum(len(wanted & given) for wanted, given in pairs)
    wrong = sum(len(wanted ^ given) for wanted, given in pairs)
    return 2 * right / (2 * right + wrong)
