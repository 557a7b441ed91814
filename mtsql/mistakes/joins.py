"""A join that the query needs is left out, as an edit of its text."""

from collections.abc import Sequence
from random import Random

from sqlglot import Token, TokenType, exp

from mtsql.query.edits import CLOSING, OPENING, WHERE_ENDS, edit_sql
from mtsql.query.reading import parse_sql, tokens_of
from mtsql.query.scopes import ROW_IDS, selects_around, sources
from mtsql.query.texts import in_double_quotes
from mtsql.schema import Schema

_JOINING = frozenset(
    {
        TokenType.JOIN,
        TokenType.LEFT,
        TokenType.RIGHT,
        TokenType.FULL,
        TokenType.OUTER,
        TokenType.INNER,
        TokenType.CROSS,
        TokenType.NATURAL,
        TokenType.COMMA,
    }
)
_JOIN_ENDS = WHERE_ENDS | _JOINING | {TokenType.WHERE}


def missing_join(sql: str, schema: Schema, rng: Random) -> str | None:
    """Leave out a joined table, with its condition, while the rest still names its columns.

    Example: `SELECT T1.name FROM shop AS T1 JOIN product AS T2 ON T1.id = T2.shop_id
    WHERE T2.price > 5` loses its JOIN and is refused with "no such column: T2.price".

    Returns:
        None if leaving out a join would not make the engine refuse the rest: the query has no join,
        nothing else names its columns, or another table may have them too.
    """
    tree, tokens = parse_sql(sql), tokens_of(sql)
    if tree is None or tokens is None:
        return None
    options = [
        span
        for select in tree.find_all(exp.Select)
        for join in select.args.get("joins") or ()
        if (span := _span(join, tokens)) is not None and _is_needed(join, select, sql, schema, span)
    ]
    return edit_sql(sql, [(*rng.choice(sorted(options)), "")]) if options else None


def _span(join: exp.Join, tokens: Sequence[Token]) -> tuple[int, int] | None:
    """The text of the join, with the blank or comma before it; None if it joins no plain table."""
    table = join.this
    if not isinstance(table, exp.Table) or table.args.get("joins"):
        return None
    start = table.this.meta.get("start")
    places = [index for index, token in enumerate(tokens) if token.start == start]
    if not places:
        return None
    first = last = places[0]
    while tokens[first - 1].token_type in _JOINING:
        first -= 1
    if first == last:  # the table's name has more parts
        return None
    depth = 0
    for index in range(last, len(tokens)):
        kind = tokens[index].token_type
        if depth == 0 and (kind in _JOIN_ENDS or kind in CLOSING):
            break
        depth += (kind in OPENING) - (kind in CLOSING)
        last = index
    return tokens[first - 1].end + 1, tokens[last].end + 1


def _is_needed(
    join: exp.Join, select: exp.Select, sql: str, schema: Schema, span: tuple[int, int]
) -> bool:
    """A column outside the span can only be one of the joined table."""
    begin, end = span
    return any(
        not begin <= column.this.meta["start"] < end
        # With the join gone no column is called so: in double quotes it would be a text, no error.
        and not in_double_quotes(column, sql)
        and _is_its_own(column, join, schema)
        for column in select.find_all(exp.Column)
        if "start" in column.this.meta
    )


def _is_its_own(column: exp.Column, join: exp.Join, schema: Schema) -> bool:
    """Of all tables around the column, only the joined one may answer for it."""
    name = column.name.lower()
    if not column.table and name in ROW_IDS:
        return False
    answering: list[exp.Expr] = []
    for select in selects_around(column):
        if not column.table and name in {one.alias.lower() for one in select.expressions}:
            return False
        for source in sources(select):
            if column.table:
                is_answer = source.alias_or_name.lower() == column.table.lower()
            else:
                is_answer = _may_hold(source, name, schema)
            if is_answer:
                answering.append(source)
    return [id(one) for one in answering] == [id(join.this)]


def _may_hold(source: exp.Expr, column: str, schema: Schema) -> bool:
    """True for a source whose columns are not known."""
    if isinstance(source, exp.Table):
        for table in schema.tables:
            if table.name.lower() == source.name.lower():
                return any(one.name.lower() == column for one in table.columns)
    return True
