"""What a column holds where a query looked for a text value in vain.

A user writes "new york" and the column stores 'NEW YORK': the query is empty and nothing in the
empty result tells why. The environment looks the value up and shows what is stored instead.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from mtsql.query.names import names_of
from mtsql.query.texts import TextCondition, text_conditions
from mtsql.schema import Schema
from mtsql.sql.quoting import qualified, quote_name, quote_text

MAX_VALUES = 3
"""Stored values shown for one condition."""
MAX_LOOKUPS = 8
"""For one query: a list may hold a thousand texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One text condition of a query and the statement that finds like values."""

    column: str
    sql: str


@lru_cache(maxsize=8192)
def lookups(sql: str, schema: Schema) -> tuple[Lookup, ...]:
    """A lookup for each text that the query compares with a column which the schema knows.

    Example: `SELECT id FROM shop WHERE city = 'Rome'` gives
        SELECT DISTINCT "city" FROM "shop" WHERE "city" LIKE '%Rome%' ESCAPE '\\' LIMIT 3
    SQLite's LIKE ignores the case of ASCII letters, and other letters with a case are left open.
    """
    spelling = {
        (table.name.lower(), column.name.lower()): (table, column.name)
        for table in reversed(schema.tables)
        for column in table.columns
    }
    found: dict[str, Lookup] = {}
    for condition in text_conditions(sql, names_of(schema)):
        value = _sought(condition)
        if condition.column not in spelling or not value.strip():
            continue
        table, column = spelling[condition.column]
        stored = quote_name(column)
        # Elsewhere LIKE looks at the case, and takes texts only.
        tested = f"{stored} LIKE"
        if schema.engine != "sqlite":
            tested = f"CAST({stored} AS VARCHAR) ILIKE"
        statement = (
            f"SELECT DISTINCT {stored} FROM {qualified(table)} WHERE {tested} "
            f"{_pattern(value)} ESCAPE '\\' LIMIT {MAX_VALUES}"
        )
        found.setdefault(statement, Lookup(column=column, sql=statement))
    return tuple(found.values())[:MAX_LOOKUPS]


def _sought(condition: TextCondition) -> str:
    """The text to look for; of a pattern its longest part without wildcards.

    Example: LIKE '%New\\_York%a' ESCAPE '\\' -> New_York
    """
    if not condition.pattern:
        return condition.value
    wildcard = r"\*|\?|\[.[^\]]*\]" if condition.pattern == "glob" else "[%_]"
    escaped = (
        rf"{re.escape(condition.escape)}(?P<plain>.)|" if condition.escape else "(?P<plain>(?!))|"
    )
    parts = [""]
    rest = 0
    for match in re.finditer(f"{escaped}{wildcard}", condition.value, re.DOTALL):
        parts[-1] += condition.value[rest : match.start()]
        rest = match.end()
        if match["plain"] is None:
            parts.append("")
        else:
            parts[-1] += match["plain"]
    parts[-1] += condition.value[rest:]
    return max(parts, key=len)


def _pattern(value: str) -> str:
    """Of texts that contain the value."""
    for special in ("\\", "%", "_"):
        value = value.replace(special, "\\" + special)
    any_case = "".join(
        "_" if not letter.isascii() and letter.lower() != letter.upper() else letter
        for letter in value
    )
    return quote_text(f"%{any_case}%")
