"""Whether a LIMIT cuts a tie: rows that the order does not tell apart stand on both sides of it.

Which of them a query returns is then left to the engine, so a right prediction that is written
another way may get other rows than gold.

Example: SELECT city FROM shop GROUP BY city ORDER BY count(*) DESC LIMIT 1
    Oslo 2, Rome 2, Bari 1: Oslo and Rome tie for the one place      cut
    Oslo 3, Rome 2, Bari 1                                           not cut
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import SqlglotError

from mtsql.query.reading import SQLITE, parse_query
from mtsql.sql.records import Cell, QueryResult, QueryStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TieTest:
    """A limited query without its limit, which shows what it orders by."""

    sql: str
    keys: tuple[int, ...]
    """The columns that the order looks at; none without ORDER BY, where all rows tie."""
    first_output: int
    """The columns from here on are those of the query itself."""
    num_skipped: int
    """By OFFSET."""
    num_kept: int
    """By LIMIT."""

    def is_cut(self, result: QueryResult) -> bool:
        """Whether the rows without the limit show a cut; a test that did not run shows none."""
        if result.status is not QueryStatus.OK or not self.num_kept:
            return False
        borders = (self.num_skipped, self.num_skipped + self.num_kept)
        return any(
            self._divides(result.rows, place) for place in borders if 0 < place < len(result.rows)
        )

    def _divides(self, rows: Sequence[Sequence[Cell]], place: int) -> bool:
        """The rows around `place` tie, and it matters which of them are taken."""
        key = self._key(rows[place])
        if self._key(rows[place - 1]) != key:
            return False
        return len({tuple(row[self.first_output :]) for row in rows if self._key(row) == key}) > 1

    def _key(self, row: Sequence[Cell]) -> tuple[Cell, ...]:
        return tuple(row[place] for place in self.keys)


@lru_cache(maxsize=8192)
def tie_tests(sql: str) -> tuple[TieTest, ...]:
    """One for each LIMIT of a query, also in subqueries; () where none can be read."""
    if "limit" not in sql.lower():
        return ()
    tree = parse_query(sql)
    if tree is None:
        return ()
    try:
        found = [
            _test(query)
            for query in tree.find_all(exp.Select, exp.SetOperation)
            if query.args.get("limit") is not None
        ]
    except (SqlglotError, RecursionError):
        return ()
    return tuple(test for test in found if test is not None)


def _test(query: exp.Query) -> TieTest | None:
    """None where the numbers or the order cannot be told from the text."""
    num_kept, num_skipped = _number(query, "limit"), _number(query, "offset")
    if num_kept is None or num_skipped is None:
        return None
    query = query.copy()
    query.set("limit", None)
    query.set("offset", None)
    order = query.args.get("order")
    items: list[exp.Expr] = list(order.expressions) if order is not None else []
    places = [_output_place(item.this, query.selects) for item in items]
    keys = tuple(range(len(items)))
    if isinstance(query, exp.Select):
        if any(group.is_int for group in _grouping(query)):
            return None  # its places are about to move
        shown: list[exp.Expr] = []
        for item, place in zip(items, places, strict=True):
            if place is not None:
                item.set("this", query.selects[place].unalias().copy())
            shown.append(item.this.copy())
        query.set("expressions", [*shown, *query.expressions])
    elif None in places:
        return None  # it orders by its outputs only
    else:
        keys = tuple(place for place in places if place is not None)
    return TieTest(
        sql=query.sql(dialect=SQLITE, comments=False),
        keys=keys,
        first_output=len(keys) if isinstance(query, exp.Select) else 0,
        num_skipped=num_skipped,
        num_kept=num_kept,
    )


def _number(query: exp.Query, clause: str) -> int | None:
    node = query.args.get(clause)
    if node is None:
        return 0
    value = node.expression
    return int(value.name) if isinstance(value, exp.Literal) and value.name.isdigit() else None


def _grouping(query: exp.Select) -> Sequence[exp.Expr]:
    group = query.args.get("group")
    return list(group.expressions) if group is not None else []


def _output_place(item: exp.Expr, outputs: Sequence[exp.Expr]) -> int | None:
    """The output that ORDER BY names by its number or its alias; None for an expression."""
    if item.is_int:
        place = int(item.name) - 1
        is_plain = 0 <= place < len(outputs) and not any(one.is_star for one in outputs)
        return place if is_plain else None
    if not isinstance(item, exp.Column) or item.table:
        return None
    names = [one.alias_or_name.lower() for one in outputs]
    return names.index(item.name.lower()) if item.name.lower() in names else None
