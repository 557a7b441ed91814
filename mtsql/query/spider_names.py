"""What a schema offers to Spider's reader: names of columns, and which of them count as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from mtsql.schema import Schema


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Compared by identity, so that it can key a cache."""

    columns: Mapping[str, frozenset[str]]
    """Lower-case column names of each lower-case table."""
    merged: Mapping[str, str]
    """`table.column` to the one that stands for all columns linked to it by foreign keys."""


class _SchemaKey:
    """A schema by identity: hashing the whole record for each query costs more than parsing."""

    __slots__ = ("schema",)

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SchemaKey) and self.schema is other.schema


def names_of(schema: Schema) -> Names:
    """One object for equal schemas; a later call with the same schema is a look-up."""
    return _names_of(_SchemaKey(schema))


@lru_cache(maxsize=1024)
def _names_of(key: _SchemaKey) -> Names:
    return _prepare(key.schema)


# By value: each rollout of a group may bring a copy of the schema, and shares what is remembered.
@lru_cache(maxsize=1024)
def _prepare(schema: Schema) -> Names:
    columns = {
        table.name.lower(): frozenset(column.name.lower() for column in table.columns)
        for table in schema.tables
    }
    return Names(columns=columns, merged=_merge_foreign_keys(schema))


def _merge_foreign_keys(schema: Schema) -> dict[str, str]:
    place = {
        f"{table.name}.{column.name}".lower(): number
        for number, (table, column) in enumerate(
            (table, column) for table in schema.tables for column in table.columns
        )
    }
    groups: list[set[str]] = []
    for key in schema.foreign_keys:
        ends = {f"{key.table}.{key.column}".lower(), f"{key.ref_table}.{key.ref_column}".lower()}
        # The first group that shares an end takes the key; groups that meet later stay apart, as in
        # the official map.
        home = next((group for group in groups if group & ends), None)
        if home is None:
            groups.append(ends)
        else:
            home |= ends
    return {
        column: min(group, key=lambda name: (place.get(name, len(place)), name))
        for group in groups
        for column in group
    }
