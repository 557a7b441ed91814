"""What a column holds where a query looked for a text value in vain.

A user writes "new york" and the column stores 'NEW YORK': the query is empty and nothing in the
empty result tells why. The environment looks the value up and shows what is stored instead.
"""

from dataclasses import dataclass
from functools import lru_cache

from mtsql.query.edits import text_conditions
from mtsql.query.names import names_of
from mtsql.schema import Schema
from mtsql.sql.quoting import quote_name, quote_text

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
    names = names_of(schema)
    spelling = {table.name.lower(): table.name for table in schema.tables}
    found: dict[str, Lookup] = {}
    for condition in text_conditions(sql, names):
        table, column = condition.column
        if column not in names.columns.get(table, ()) or not condition.value.strip():
            continue
        stored = quote_name(column)
        statement = (
            f"SELECT DISTINCT {stored} FROM {quote_name(spelling[table])} WHERE {stored} "
            f"LIKE {_pattern(condition.value)} ESCAPE '\\' LIMIT {MAX_VALUES}"
        )
        found.setdefault(statement, Lookup(column=column, sql=statement))
    return tuple(found.values())


def _pattern(value: str) -> str:
    """Of texts that contain the value."""
    for special in ("\\", "%", "_"):
        value = value.replace(special, "\\" + special)
    return quote_text(f"%{value}%")
