"""The database as it is with one small change, without writing to it: views that hide tables.

    shop loses its row 3     shop AS (SELECT id, name FROM main.shop WHERE rowid IS NOT 3)
    sale 2 becomes two, and its second item is the new one's    sale AS (...), item AS (...)

Each changed world comes with one of the same form that changes nothing, so that what differs
between the two is the change alone, and not how the engine reads a view.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mtsql.chains.chain import View, closed
from mtsql.schema import Schema, Table
from mtsql.sql.quoting import quote_name
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus, SqlExecutor

MAX_DELETED = 24
"""Rows of a table that are taken out, each in a world of its own."""
MAX_CHANGED = 4
"""Rows of a table whose cells are changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """A table that stands for the stored one of its name."""

    table: View
    same: View
    """In the same form, with nothing changed."""
    changes_rows: bool = False
    """There is a row more or less; else cells are others."""


World = tuple[Change, ...]
"""Of different tables, all at once."""


def in_world(tables: Sequence[View], sql: str) -> str:
    """A query over the stored tables as one over tables that stand for them."""
    parts = (f"{quote_name(table.name)} AS ({table.sql})" for table in tables)
    return f"WITH {', '.join(parts)} SELECT * FROM ({closed(sql)})"


async def worlds_of(
    executor: SqlExecutor,
    db_id: str,
    schema: Schema,
    tables: Collection[str],
    columns: Collection[str],
    limits: QueryLimits,
    *,
    others: Collection[str] = (),
) -> list[World]:
    """Worlds of an SQLite database: a row less or more, two cells swapped, a cell with a new value;
    a row that others refer to becomes two, which share them.

    Keys stay keys: their cells are swapped only.

    Args:
        tables: names in lower case; only these change.
        others: further tables that may change along with one of these.
        columns: names in lower case; only cells of these change.
    """
    found = [table for table in schema.tables if table.name.lower() in tables]
    asked = [
        QueryRequest(
            db_id=db_id, sql=f"SELECT rowid FROM main.{quote_name(table.name)}", limits=limits
        )
        for table in found
    ]
    keys = {(key.table.lower(), key.column.lower()) for key in schema.foreign_keys}
    worlds: list[World] = []
    for table, result in zip(found, await executor.execute_many(asked), strict=True):
        if result.status is QueryStatus.OK and result.rows:
            rows = [row[0] for row in result.rows if isinstance(row[0], int)]
            changes = [
                *_deleting(table, _spread(rows, MAX_DELETED)),
                *_growing(table, _spread(rows, MAX_CHANGED)),
                *_changing(table, _spread(rows, MAX_CHANGED), columns, keys),
            ]
            worlds += [(change,) for change in changes]
    return worlds + await _splitting(executor, db_id, schema, found, {*tables, *others}, limits)


def _spread(rows: Sequence[int], most: int) -> list[int]:
    if len(rows) <= most:
        return list(rows)
    return [rows[place * len(rows) // most] for place in range(most)]


def _deleting(table: Table, rows: Sequence[int]) -> Iterator[Change]:
    def without(row: str) -> View:
        return _view(table, {}, f" WHERE rowid IS NOT {row}")

    for row in rows:
        yield Change(without(str(row)), without("NULL"), changes_rows=True)


def _changing(
    table: Table,
    rows: Sequence[int],
    columns: Collection[str],
    keys: Collection[tuple[str, str]],
) -> Iterator[Change]:
    stored = f"main.{quote_name(table.name)}"
    for column in table.columns:
        if column.name.lower() not in columns:
            continue
        name = quote_name(column.name)
        is_key = column.is_primary or (table.name.lower(), column.name.lower()) in keys

        def swapped(one: str, other: str, name: str = name) -> View:
            cell = (
                f"CASE WHEN rowid = {one} THEN (SELECT {name} FROM {stored} WHERE rowid = {other}) "
                f"WHEN rowid = {other} THEN (SELECT {name} FROM {stored} WHERE rowid = {one}) "
                f"ELSE {name} END"
            )
            return _view(table, {name: cell})

        def renewed(row: str, value: str, name: str = name) -> View:
            # rowid IS NOT NULL holds for all rows: nothing is changed
            cell = f"CASE WHEN rowid IS NOT {row} THEN {name} ELSE {value} END"
            return _view(table, {name: cell})

        for one, other in zip(rows, [*rows[1:], *rows[:1]], strict=True):
            if one != other:
                yield Change(swapped(str(one), str(other)), swapped("NULL", "NULL"))
        if is_key:
            continue
        for value in (_moved(name, "'~'", 1), _moved(name, "''", -1), "NULL"):
            for row in rows:
                yield Change(renewed(str(row), value), renewed("NULL", value))


def _growing(table: Table, rows: Sequence[int]) -> Iterator[Change]:
    """A row twice, the second time under another key."""
    keys = [column.name for column in table.columns if column.is_primary]
    if keys:
        for row in rows:
            yield _doubled(table, row, keys)


def _doubled(table: Table, row: int, keys: Collection[str]) -> Change:
    cells = {quote_name(key): _other_key(key) for key in keys}

    def more(row: str) -> View:
        added = _view(table, cells, f" WHERE rowid = {row}").sql
        return View(name=table.name, sql=f"{_view(table, {}).sql} UNION ALL {added}")

    return Change(more(str(row)), more("NULL"), changes_rows=True)


async def _splitting(
    executor: SqlExecutor,
    db_id: str,
    schema: Schema,
    tables: Sequence[Table],
    names: Collection[str],
    limits: QueryLimits,
) -> list[World]:
    """A row twice, and the last of those that refer to it refers to the second one: a join of the
    two tables has the same rows, but for keys.
    """
    by_name = {table.name.lower(): table for table in schema.tables if table.name.lower() in names}
    pairs = [
        (parent, child, key)
        for parent in tables
        for key in schema.foreign_keys
        if key.ref_table.lower() == parent.name.lower()
        and (child := by_name.get(key.table.lower())) is not None
        and child is not parent
    ]
    asked = [
        QueryRequest(
            db_id=db_id,
            sql=f"SELECT p.rowid, max(c.rowid) FROM main.{quote_name(parent.name)} AS p "
            f"JOIN main.{quote_name(child.name)} AS c "
            f"ON c.{quote_name(key.column)} = p.{quote_name(key.ref_column)} "
            "GROUP BY p.rowid HAVING count(*) > 1",
            limits=limits,
        )
        for parent, child, key in pairs
    ]
    worlds: list[World] = []
    results = await executor.execute_many(asked) if asked else []
    for (parent, child, key), result in zip(pairs, results, strict=True):
        if result.status is not QueryStatus.OK:
            continue
        keys = {column.name for column in parent.columns if column.is_primary} | {key.ref_column}
        rows = {
            row: last for row, last in result.rows if isinstance(row, int) and isinstance(last, int)
        }
        for row in _spread(list(rows), MAX_CHANGED):
            worlds.append((_doubled(parent, row, keys), _moved_to(child, key.column, rows[row])))
    return worlds


def _moved_to(table: Table, column: str, row: int) -> Change:
    """The row refers to the second one."""
    name = quote_name(column)

    def moved(row: str) -> View:
        cell = f"CASE WHEN rowid IS NOT {row} THEN {name} ELSE {_other_key(column)} END"
        return _view(table, {name: cell})

    return Change(moved(str(row)), moved("NULL"))


def _other_key(column: str) -> str:
    name = quote_name(column)
    return _moved(name, f"{name} || '~'", 1)


def _moved(name: str, text: str, sign: int) -> str:
    """Another text for a text, and a number far off for a number."""
    return (
        f"CASE typeof({name}) WHEN 'text' THEN {text} "
        f"ELSE coalesce({name}, 0) + {sign * 1000003} END"
    )


def _view(table: Table, cells: dict[str, str], where: str = "") -> View:
    names = [quote_name(column.name) for column in table.columns]
    items = ", ".join(f"{cells.get(name, name)} AS {name}" for name in names)
    return View(name=table.name, sql=f"SELECT {items} FROM main.{quote_name(table.name)}{where}")
