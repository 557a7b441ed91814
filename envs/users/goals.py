"""A rule-based user: it has a query in mind and asks for it part by part.

Example, the goal SELECT count(*) FROM shop WHERE city = 'Paris' AND price > 3
    show all shops                  SELECT * FROM shop
    only those with city 'Paris'    SELECT * FROM shop WHERE city = 'Paris'
    only those with price above 3   SELECT * FROM shop WHERE city = 'Paris' AND price > 3
    how many are there ?            the goal itself
"""

from collections.abc import Iterator, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from envs.users.dialogue import Seen, question
from mtsql.dialogue import Turn
from mtsql.errors import DataError
from mtsql.schema import Schema
from mtsql.sql.records import QueryStatus

_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "",
    exp.NEQ: "not ",
    exp.GT: "above ",
    exp.GTE: "at least ",
    exp.LT: "below ",
    exp.LTE: "at most ",
    exp.Like: "like ",
}
_FUNCTIONS: dict[type[exp.Expr], str] = {
    exp.Avg: "average",
    exp.Max: "maximum",
    exp.Min: "minimum",
    exp.Sum: "total",
}


class GoalUser:
    """Asks for each part of its goal in order; a part that gets no result is asked for again.

    Args:
        parts: what it asks for, the goal last; `goal_turns` makes them of a query.
        patience: how often it repeats one part before it goes on.
    """

    def __init__(self, parts: Sequence[Turn], *, patience: int = 1) -> None:
        self._parts = parts
        self._patience = patience
        self._next = 0
        self._num_repeats = 0

    async def next_question(self, seen: Sequence[Seen]) -> Turn | None:
        if seen and not _is_answered(seen[-1]) and self._num_repeats < self._patience:
            self._num_repeats += 1
            part = self._parts[self._next - 1]
            return part.model_copy(update={"question": f"that did not work : {part.question}"})
        if self._next == len(self._parts):
            return None
        self._next += 1
        self._num_repeats = 0
        return self._parts[self._next - 1]


def _is_answered(last: Seen) -> bool:
    return last.result is not None and last.result.status is QueryStatus.OK


def goal_turns(sql: str, schema: Schema) -> list[Turn]:
    """The questions that lead to a query, each with its gold SQL; the last gold is `sql` itself.

    Raises:
        DataError: not one plain SELECT (no set operator, no WITH).
    """
    try:
        tree = sqlglot.parse_one(sql, dialect="sqlite")
    except SqlglotError as error:
        raise DataError(f"goal: cannot be read as SQL: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, exp.Select) or tree.args.get("with_") or not tree.args.get("from_"):
        raise DataError("goal: give one SELECT ... FROM without WITH, UNION, INTERSECT or EXCEPT")
    stages = list(_stages(tree))
    golds = [stage.sql(dialect="sqlite") for _, stage in stages[:-1]] + [sql]
    return [question(text, gold, schema) for (text, _), gold in zip(stages, golds, strict=True)]


def _stages(goal: exp.Select) -> Iterator[tuple[str, exp.Select]]:
    """Question and query of each part; the query of the last one is the goal."""
    where, group, having = (goal.args.get(key) for key in ("where", "group", "having"))
    has_rows = group is None and not any(item.find(exp.AggFunc) for item in goal.expressions)
    query = goal.copy()
    for key in ("where", "group", "having", "order", "limit", "offset"):
        query.set(key, None)
    if not has_rows:
        query.set("expressions", [exp.Star()])
        query.set("distinct", None)
    tables = " and ".join(f"{table.name.removesuffix('s')}s" for table in _tables(goal))
    shown = "" if query.is_star else f"the {_names(query.expressions)} of "
    yield f"show {shown}all {tables}", query
    if where is not None:
        parts = [where.this]
        if isinstance(where.this, exp.And):
            # Without brackets, the ANDs around an OR would take it apart.
            parts = [
                exp.Paren(this=part) if isinstance(part, exp.Or) else part
                for part in where.this.flatten()
            ]
        for number, part in enumerate(parts, start=1):
            # Without brackets of sqlglot's own: Spider's parser, and so EM, knows none.
            query = query.where(exp.and_(*parts[:number], wrap=False), append=False)
            yield f"only those {_words(part.unnest())}", query
    if not has_rows:
        query = query.copy()
        for key in ("expressions", "distinct"):
            query.set(key, goal.copy().args.get(key))
        query.set("group", group.copy() if group is not None else None)
        yield _asked(goal.expressions, group), query
    if having is not None:
        query = query.having(having.this.copy())
        yield f"only those {_words(having.this)}", query
    if goal.args.get("order") is not None or goal.args.get("limit") is not None:
        yield _ordered(goal), goal


def _tables(goal: exp.Select) -> list[exp.Table]:
    sources = [goal.args["from_"], *goal.args.get("joins", ())]
    return [source.this for source in sources if isinstance(source.this, exp.Table)]


def _words(condition: exp.Expr) -> str:
    """with city 'Paris', with price above 3; anything else as SQL."""
    sign = _SIGNS.get(type(condition))
    if not isinstance(condition, exp.Binary) or sign is None or not _is_value(condition.right):
        return f"where {condition.sql(dialect='sqlite')}"
    return f"with {_name(condition.left)} {sign}{condition.right.sql(dialect='sqlite')}"


def _is_value(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal | exp.Neg)


def _asked(shown: Sequence[exp.Expr], group: exp.Expr | None) -> str:
    if group is not None:
        each = _names(group.expressions)
        aggregates = [item for item in shown if item.find(exp.AggFunc)]
        if aggregates and all(isinstance(item.unalias(), exp.Count) for item in aggregates):
            return f"count them for each {each}"
        return f"show {_names(shown)} for each {each}"
    if len(shown) == 1 and isinstance(shown[0].unalias(), exp.Count):
        counted = shown[0].unalias().this
        return "how many are there ?" if counted.is_star else f"how many {_name(counted)} ?"
    return f"what is their {_names(shown)} ?"


def _ordered(goal: exp.Select) -> str:
    order, limit = goal.args.get("order"), goal.args.get("limit")
    number = limit.expression.sql() if limit is not None else ""
    if order is None:
        return f"show the first {number}"
    by = order.expressions[0]
    extreme = "highest" if by.args.get("desc") else "lowest"
    if number == "1":
        return f"show the one with the {extreme} {_name(by.this)}"
    first = f" and show the first {number}" if number else ""
    return f"sort them by {_name(by.this)} , {extreme} first{first}"


def _names(items: Sequence[exp.Expr]) -> str:
    return " and ".join(_name(item) for item in items)


def _name(item: exp.Expr) -> str:
    """price, average price, count; anything else as SQL."""
    item = item.unalias()
    word = _FUNCTIONS.get(type(item))
    if word is not None:
        return f"{word} {_name(item.this)}"
    if isinstance(item, exp.Count):
        return "count"
    if isinstance(item, exp.Column):
        return item.name
    return item.sql(dialect="sqlite")
