"""What a column holds where a query looked for a text value in vain.

A user writes "new york" and the column stores 'NEW YORK': the query is empty and nothing in the
empty result tells why. The environment looks the value up and shows what is stored instead.
"""

from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from mtsql.query.edits import text_conditions
from mtsql.schema import Schema

MAX_VALUES = 3
"""Stored values shown for one condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One text condition of a query and the statement that finds like values."""

    column: str
    sql: str


@lru_cache(maxsize=8192)
def lookups(sql: str, schema: Schema) -> tuple[Lookup, ...]:
    """A lookup for each text equality of the query whose column the schema knows.

    Example: `SELECT id FROM shop WHERE city = 'Rome'` gives
        SELECT DISTINCT "city" FROM "shop" WHERE "city" LIKE '%Rome%' ESCAPE '\\' LIMIT 3
    SQLite's LIKE ignores the case of ASCII letters.
    """
    found: dict[str, Lookup] = {}
    for condition in text_conditions(sql):
        table = _table_of(condition.column, sql, schema)
        if table is None or not condition.value.strip():
            continue
        column = condition.column[1]
        statement = (
            f"SELECT DISTINCT {_name(column)} FROM {_name(table)} WHERE {_name(column)} "
            f"LIKE {_pattern(condition.value)} ESCAPE '\\' LIMIT {MAX_VALUES}"
        )
        found.setdefault(statement, Lookup(column=column, sql=statement))
    return tuple(found.values())


def _table_of(key: tuple[str, str], sql: str, schema: Schema) -> str | None:
    """The table that holds the column; None when several of the query's tables do, or none."""
    table, column = key
    named = {table} if table else _tables(sql)
    holders = [
        candidate.name
        for candidate in schema.tables
        if candidate.name.lower() in named
        and any(one.name.lower() == column for one in candidate.columns)
    ]
    return holders[0] if len(holders) == 1 else None


def _tables(sql: str) -> set[str]:
    try:
        tree = sqlglot.parse_one(sql, read="sqlite")
    except SqlglotError:
        return set()
    return {table.name.lower() for table in tree.find_all(exp.Table)}


def _name(identifier: str) -> str:
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


def _pattern(value: str) -> str:
    for special in ("\\", "%", "_"):
        value = value.replace(special, "\\" + special)
    escaped = value.replace("'", "''")
    return f"'%{escaped}%'"
