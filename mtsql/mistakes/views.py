"""Mistakes in one view of a chain that a look at the view shows, as edits of its text."""

from random import Random

from sqlglot import exp

from mtsql.query.reading import SQLITE, parse_sql
from mtsql.query.scopes import sources
from mtsql.schema import Schema
from mtsql.sql.quoting import needs_quotes

_KEEPING = ("distinct", "limit", "with_")
"""Clauses that would hide repeated rows, or take the edit elsewhere."""


def fan_out_join(sql: str, schema: Schema, rng: Random) -> str | None:
    """Join one more table that refers to one of the view's: its rows are repeated.

    Example: `SELECT name FROM shop` becomes
    `SELECT shop.name FROM shop JOIN sale ON sale.shop_id = shop.id`.

    Returns:
        None if the view is no plain SELECT over a table that another one refers to.
    """
    select = _plain_select(sql)
    if select is None or any(item.is_star for item in select.expressions):
        return None
    found = [source for source in sources(select) if isinstance(source, exp.Table)]
    read = {source.name.lower() for source in found}
    options = [
        (source, key)
        for source in found
        for key in schema.foreign_keys
        if key.ref_table.lower() == source.name.lower() and key.table.lower() not in read
    ]
    if not options or len(found) < len(sources(select)):
        return None
    source, key = rng.choice(options)
    if len(found) == 1:
        # The other table may have a column of the same name.
        for column in select.find_all(exp.Column):
            if not column.table:
                column.set("table", _name(source.alias_or_name))
    elif any(not column.table for column in select.find_all(exp.Column)):
        return None
    on = exp.EQ(
        this=exp.Column(this=_name(key.column), table=_name(key.table)),
        expression=exp.Column(this=_name(key.ref_column), table=_name(source.alias_or_name)),
    )
    select.append("joins", exp.Join(this=exp.Table(this=_name(key.table)), on=on))
    return select.sql(SQLITE)


def lost_filter(sql: str) -> str | None:
    """Leave out the condition of a view.

    Returns:
        None if the view does anything but filter one table or view.
    """
    select = _plain_select(sql)
    if select is None or len(sources(select)) != 1 or select.args.get("where") is None:
        return None
    if select.args.get("group") is not None or select.find(exp.AggFunc) is not None:
        return None
    select.set("where", None)
    return select.sql(SQLITE)


def _plain_select(sql: str) -> exp.Select | None:
    tree = parse_sql(sql)
    if not isinstance(tree, exp.Select) or any(tree.args.get(key) for key in _KEEPING):
        return None
    return tree if all(one is tree for one in tree.find_all(exp.Select)) else None


def _name(text: str) -> exp.Identifier:
    return exp.to_identifier(text, quoted=needs_quotes(text, "sqlite"))
