"""A statement as sets of clauses, so that two can be compared.

Each clause is a set of normalised elements: free of aliases, of letter
case in names and of order where SQL is (not in ORDER BY, nor between the sides of EXCEPT); text
values keep their case, because the database does. Every clause of the statement counts once,
wherever it stands; subqueries inside a condition belong to that condition. SELECT DISTINCT does not
count: the official EX and EM do not look at it either.

Example: SELECT name FROM shop WHERE city = 'Paris'
      -> SELECT count(*) FROM shop AS s WHERE s.city = 'Rome' LIMIT 3
    kept     tables      shop
    dropped  columns     shop.name
    added    columns     COUNT(*)
    changed  conditions  shop.city = 'Paris' -> shop.city = 'Rome'
    added    limit       3
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sqlglot import exp
from sqlglot.errors import SqlglotError

from mtsql.query.names import Names
from mtsql.query.reading import SQLITE, parse_query
from mtsql.query.scopes import Scopes
from mtsql.query.texts import Texts

_GENERATOR = SQLITE.generator(comments=False)
"""Made once: it costs as much as what it writes here."""

ClauseName = Literal["tables", "columns", "conditions", "grouping", "ordering", "limit"]
CLAUSE_NAMES: tuple[ClauseName, ...] = (
    "tables",
    "columns",
    "conditions",
    "grouping",
    "ordering",
    "limit",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One normalised piece of a clause."""

    text: str
    """All of it: `shop.city = 'Paris'`."""
    subject: str
    """What it is about: `shop.city`. Two texts on one subject make a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clauses:
    """A statement as sets of elements."""

    tables: frozenset[Element]
    columns: frozenset[Element]
    """The expressions that the statement returns."""
    conditions: frozenset[Element]
    """Conjuncts of WHERE, HAVING and ON, except those that join columns; set operators. Conditions
    on the right side of EXCEPT are prefixed `except: `."""
    grouping: frozenset[Element]
    ordering: frozenset[Element]
    """From the second item on with its place: `2. shop.name ASC`."""
    limit: frozenset[Element]


def clauses(sql: str, names: Names, *, with_values: bool = True) -> Clauses | None:
    """The statement's elements; None if it cannot be parsed as one query that returns columns.

    Args:
        names: lets a column without its table find it in a join, and tells a text value in double
            quotes from a column, as SQLite does.
        with_values: False forgets what exact set match ignores: values, the number of LIMIT,
            DISTINCT in an aggregate, and which of the columns linked by foreign keys stands there.
    """
    exact, loose = _both_clauses(sql, names)
    return exact if with_values else loose


@lru_cache(maxsize=8192)
def _both_clauses(sql: str, names: Names) -> tuple[Clauses | None, Clauses | None]:
    """With values and without, from one tree: a comparison with gold needs both."""
    tree = parse_query(sql)
    if tree is None:
        return None, None
    try:
        tree = _normalise(tree, sql, names)
        exact = _decompose(tree)
    except (SqlglotError, RecursionError):
        return None, None
    try:
        loose = _decompose(_forget_values(tree, names))
    except (SqlglotError, RecursionError):
        loose = None
    return exact if exact.columns else None, loose if loose and loose.columns else None


# Normalised trees: names in lower case, aliases resolved, column first in comparisons.

_MIRRORED: dict[type[exp.Expr], type[exp.Binary]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.NullSafeEQ: exp.NullSafeEQ,
    exp.NullSafeNEQ: exp.NullSafeNEQ,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
}
_TESTS = (*_MIRRORED, exp.Like, exp.ILike, exp.Glob, exp.In, exp.Between)


def _normalise(tree: exp.Query, sql: str, names: Names) -> exp.Query:
    """Changes `tree`, which was read from `sql`, in place."""
    texts = Texts(tree, sql, names)
    # All are found before one is replaced: a query's outputs are called by their text.
    for column in [one for one in tree.find_all(exp.Column) if texts.is_text(one)]:
        column.replace(exp.Literal.string(column.name))
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("this", identifier.name.lower())
        identifier.set("quoted", False)
    for select in tree.find_all(exp.Select):
        _inline_output_names(select)
    scopes = Scopes(names)
    for column in tree.find_all(exp.Column):
        table = scopes.table_of(column)
        if table is not None:
            column.set("table", exp.to_identifier(table))
    for table in tree.find_all(exp.Table):
        table.set("alias", None)
    for test in list(tree.find_all(exp.Binary)):
        mirrored = _MIRRORED.get(type(test))
        if mirrored and _goes_last(test.left) and not _goes_last(test.right):
            test.replace(mirrored(this=test.right, expression=test.left))
    return tree


def _goes_last(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal | exp.Neg | exp.Subquery)


def _inline_output_names(select: exp.Select) -> None:
    """`count(*) AS n ... ORDER BY n` reads `ORDER BY count(*)`; the aliases go."""
    outputs = {item.alias: item.this for item in select.expressions if isinstance(item, exp.Alias)}
    for key in ("group", "having", "order"):
        clause = select.args.get(key)
        for column in list(clause.find_all(exp.Column)) if clause is not None else ():
            if not column.table and column.name in outputs:
                column.replace(outputs[column.name].copy())
    select.set("expressions", [item.unalias() for item in select.expressions])


def _forget_values(tree: exp.Query, names: Names) -> exp.Query:
    """Changes a normalised `tree` in place."""
    for distinct in list(tree.find_all(exp.Distinct)):
        if len(distinct.expressions) == 1 and not isinstance(distinct.parent, exp.Select):
            distinct.replace(distinct.expressions[0])
        elif isinstance(distinct.parent, exp.Select):
            distinct.pop()
    for value in list(tree.find_all(exp.Literal, exp.Boolean)):
        (value.parent if isinstance(value.parent, exp.Neg) else value).replace(exp.Placeholder())
    for test in tree.find_all(exp.In):
        if test.expressions and all(isinstance(one, exp.Placeholder) for one in test.expressions):
            test.set("expressions", [exp.Placeholder()])
    for column in tree.find_all(exp.Column):
        table, _, name = names.merged.get(f"{column.table}.{column.name}", "").partition(".")
        if name:
            column.set("table", exp.to_identifier(table))
            column.set("this", exp.to_identifier(name))
    return tree


# Elements of a normalised tree.


def _decompose(tree: exp.Query) -> Clauses:
    temporary = {cte.alias for cte in tree.find_all(exp.CTE)}
    tables = {table.name for table in tree.find_all(exp.Table)} - temporary
    selects = [
        select
        for select in tree.find_all(exp.Select)
        if not select.find_ancestor(*_CONDITION_ROOTS)
    ]
    combined = list(tree.find_all(exp.SetOperation))
    taken_away = {
        id(select)
        for node in combined
        if isinstance(node, exp.Except)
        for select in node.expression.find_all(exp.Select)
    }
    conditions = {
        _marked("except: ", element) if id(select) in taken_away else element
        for select in selects
        for root in _condition_roots(select)
        for conjunct in _operands(root, exp.And)
        if not _joins_columns(conjunct)
        for element in [_condition(conjunct)]
    }
    conditions |= {_set_operator(node) for node in combined}
    ordered = [
        _order_item(item) if place == 1 else _marked(f"{place}. ", _order_item(item))
        for node in (*selects, *combined)
        if (order := node.args.get("order")) is not None
        for place, item in enumerate(order.expressions, start=1)
    ]
    return Clauses(
        tables=frozenset(_element(name) for name in tables if name),
        columns=frozenset(
            _element(_sql(item)) for select in _outermost(tree) for item in select.expressions
        ),
        conditions=frozenset(conditions),
        grouping=frozenset(
            _element(_sql(item))
            for select in selects
            if (group := select.args.get("group")) is not None
            for item in group.expressions
        ),
        ordering=frozenset(ordered),
        limit=frozenset(
            _limit(limit, node.args.get("offset"))
            for node in (*selects, *combined)
            if isinstance(limit := node.args.get("limit"), exp.Limit)
        ),
    )


_CONDITION_ROOTS = (exp.Where, exp.Having)


def _condition_roots(select: exp.Select) -> Iterator[exp.Expr]:
    for key in ("where", "having"):
        if (clause := select.args.get(key)) is not None:
            yield clause.this
    for join in select.args.get("joins", ()):
        if (condition := join.args.get("on")) is not None:
            yield condition


def _operands(node: exp.Expr, kind: type[exp.Connector]) -> Iterator[exp.Expr]:
    node = node.unnest()
    if isinstance(node, kind):
        yield from _operands(node.left, kind)
        yield from _operands(node.right, kind)
    else:
        yield node


def _joins_columns(node: exp.Expr) -> bool:
    """`sale.shop_id = shop.id`: how tables are joined, not a condition of the question."""
    return (
        isinstance(node, exp.EQ)
        and isinstance(node.left, exp.Column)
        and isinstance(node.right, exp.Column)
    )


def _condition(node: exp.Expr) -> Element:
    if isinstance(node, exp.Or):
        return _element(
            " OR ".join(sorted(_condition(part).text for part in _operands(node, exp.Or)))
        )
    if isinstance(node, exp.In) and node.expressions:
        node.set("expressions", sorted(node.expressions, key=_sql))
    tested = node.this if isinstance(node, exp.Not) else node
    if isinstance(tested, (*_TESTS, exp.Is)):
        return Element(text=_sql(node), subject=_sql(tested.this))
    return _element(_sql(node))


def _order_item(node: exp.Expr) -> Element:
    """`price DESC`: about `price`."""
    subject = _sql(node.this)
    descends = isinstance(node, exp.Ordered) and bool(node.args.get("desc"))
    return Element(text=f"{subject} {'DESC' if descends else 'ASC'}", subject=subject)


def _limit(limit: exp.Limit, offset: exp.Expr | None) -> Element:
    skipped = f" OFFSET {_sql(offset.expression)}" if isinstance(offset, exp.Offset) else ""
    return Element(text=f"{_sql(limit.expression)}{skipped}", subject="")


def _set_operator(node: exp.SetOperation) -> Element:
    """`union`, `intersect`, or `except` with the tables of what it takes away."""
    if not isinstance(node, exp.Except):
        return _element(node.key)
    tables = sorted({table.name for table in node.expression.find_all(exp.Table)})
    return _element(f"{node.key} {', '.join(tables)}")


def _marked(mark: str, element: Element) -> Element:
    return Element(text=f"{mark}{element.text}", subject=f"{mark}{element.subject}")


def _outermost(tree: exp.Expr) -> list[exp.Select]:
    """The SELECTs whose columns the statement returns."""
    if isinstance(tree, exp.SetOperation):
        return _outermost(tree.left) + _outermost(tree.right)
    if isinstance(tree, exp.Subquery):
        return _outermost(tree.this)
    return [tree] if isinstance(tree, exp.Select) else []


def _element(text: str) -> Element:
    return Element(text=text, subject=text)


def _sql(node: exp.Expr) -> str:
    return _GENERATOR.generate(node)
