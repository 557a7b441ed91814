"""A schema's names as queries use them, in lower case."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from mtsql.per_object import PerObject
from mtsql.schema import Schema


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Compared by identity, so that what is remembered of a query and its names is found quickly.

    Example: shop (id, city) and Sale (id, shop_id), where Sale.shop_id refers to shop.id
        columns             shop: id, city;  sale: id, shop_id
        tables_by_column    id: shop, sale;  city: shop;  shop_id: sale
        merged              shop.id: shop.id;  sale.shop_id: shop.id
    """

    columns: Mapping[str, frozenset[str]]
    """The columns of each table."""
    tables_by_column: Mapping[str, frozenset[str]]
    """The tables that have a column of this name."""
    merged: Mapping[str, str]
    """`table.column` to the one that represents all columns linked to it by foreign keys."""
    has_texts_in_double_quotes: bool = True
    """As SQLite reads them; to other engines a word in double quotes always is a name."""


def names_of(schema: Schema) -> Names:
    """One object for equal schemas: each rollout of a group may bring its own copy."""
    return _NAMES.of(schema)


@lru_cache(maxsize=1024)
def _read(schema: Schema) -> Names:
    columns: dict[str, frozenset[str]] = {}
    for table in schema.tables:  # several of a name, in different namespaces, count as one
        name = table.name.lower()
        own = frozenset(column.name.lower() for column in table.columns)
        columns[name] = columns.get(name, frozenset()) | own
    tables: dict[str, set[str]] = {}
    for table, names in columns.items():
        for name in names:
            tables.setdefault(name, set()).add(table)
    return Names(
        columns=columns,
        tables_by_column={column: frozenset(owners) for column, owners in tables.items()},
        merged=_merge_foreign_keys(schema),
        has_texts_in_double_quotes=schema.engine == "sqlite",
    )


_NAMES: PerObject[Schema, Names] = PerObject(_read)


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
