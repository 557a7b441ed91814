"""Databases of a domain: names, contents and storage conventions of their own."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from mtsql.data.embedded.layout import Layout, TableSpec, make_layout
from mtsql.data.embedded.lexicon import Domain
from mtsql.data.embedded.query import Ref

Convention = Literal["title", "upper"]

Cell = int | float | str | None
Row = tuple[Cell, ...]

PAGE_BYTES = 1024
MIN_ROWS, MAX_ROWS = 20, 40
PARENT_SHARE = 0.7
"""Share of the parents that may have children; the others answer "without products"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One database, before it is a file."""

    db_id: str
    layout: Layout
    conventions: Mapping[Ref, Convention]
    """How each text column stores its values; the schema does not show it."""
    tables: Mapping[str, tuple[Row, ...]]

    def spell(self, ref: Ref, value: str) -> str:
        """The stored form of a title-case value."""
        return value.upper() if self.conventions[ref] == "upper" else value

    def misspell(self, ref: Ref, value: str) -> str:
        """The other form, which the column does not hold."""
        return value if self.conventions[ref] == "upper" else value.upper()


def database_id(domain: Domain, number: int) -> str:
    return f"{domain.name}_{number}"


def make_instance(domain: Domain, number: int, *, seed: int, coins: bool = False) -> Instance:
    """Make instance `number` (from 1) of a domain.

    Instances come in pairs (1 and 2, 3 and 4 ...): both have the same schema and the same values in
    each column, and store them the opposite way. So a value in a question is stored in title case
    in exactly half of the databases that hold it, and a schema says nothing about it either: no
    policy can learn the form by heart, only by looking.

    Args:
        coins: see `make_layout`.
    """
    pair, is_second = divmod(number - 1, 2)
    shared = Random(f"{seed}/{domain.name}/pair/{pair}")
    own = Random(f"{seed}/{domain.name}/{number}")
    layout = make_layout(domain, shared, coins=coins)
    conventions: dict[Ref, Convention] = {}
    values: dict[Ref, list[str]] = {}
    for table in layout.tables:
        for column, text in table.texts.items():
            ref = Ref(table.name, column)
            is_upper = shared.random() < 0.5
            conventions[ref] = "upper" if is_upper != bool(is_second) else "title"
            values[ref] = shared.sample(text.words, (len(text.words) + 1) // 2)
    tables: dict[str, tuple[Row, ...]] = {}
    for table in layout.parents_first:
        num_rows = own.randint(MIN_ROWS, MAX_ROWS)
        columns: list[list[int] | list[str]] = [list(range(1, num_rows + 1))]
        if table.parent:
            num_parents = len(tables[table.parent])
            chosen = own.sample(range(1, num_parents + 1), round(PARENT_SHARE * num_parents))
            columns.append([own.choice(chosen) for _ in range(num_rows)])
        for column in table.columns:
            if column in table.texts:
                ref = Ref(table.name, column)
                stored = [v.upper() if conventions[ref] == "upper" else v for v in values[ref]]
                columns.append([own.choice(stored) for _ in range(num_rows)])
            else:
                span = table.numbers[column]
                columns.append(own.sample(range(span.low, span.high + 1), num_rows))
        tables[table.name] = tuple(zip(*columns, strict=True))
    return Instance(
        db_id=database_id(domain, number), layout=layout, conventions=conventions, tables=tables
    )


def write_sqlite(instance: Instance, path: Path) -> None:
    """Write the database; the same instance always gives the same bytes (one SQLite version)."""
    # Made in memory: a disk that fills is then an error of writing a file, like everywhere else.
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("BEGIN")
        for table in instance.layout.tables:
            connection.execute(_create(table, instance.layout.key))
            rows = instance.tables[table.name]
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)
        connection.execute("COMMIT")
        path.write_bytes(connection.serialize())


def _create(table: TableSpec, key: str) -> str:
    parts = [f"{key} INTEGER PRIMARY KEY"]
    if table.parent:
        parts.append(f"{table.parent}_{key} INTEGER")
    parts += [
        f"{column} {'TEXT' if column in table.texts else 'INTEGER'}" for column in table.columns
    ]
    if table.parent:
        parts.append(f"FOREIGN KEY ({table.parent}_{key}) REFERENCES {table.parent} ({key})")
    return f"CREATE TABLE {table.name} ({', '.join(parts)})"
