"""A schema's names as queries use them, in lower case."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from mtsql.query.spider_names import names_of as spider_names_of
from mtsql.schema import Schema


@dataclass(frozen=True, eq=False)
class Names:
    """A schema's names in lower case; compared by identity, so that caching by it is free."""

    tables_by_column: Mapping[str, frozenset[str]]
    merged: Mapping[str, str]
    """`table.column` to the one that stands for all columns linked to it by foreign keys."""


@lru_cache(maxsize=1024)
def names_of(schema: Schema) -> Names:
    tables: dict[str, set[str]] = {}
    for table in schema.tables:
        for column in table.columns:
            tables.setdefault(column.name.lower(), set()).add(table.name.lower())
    return Names(
        {column: frozenset(owners) for column, owners in tables.items()},
        merged=spider_names_of(schema).merged,
    )
