"""Databases of a domain: same tables, different contents and storage conventions."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from mtsql.data.embedded.domains import Domain, TableSpec
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
    """One database of a domain, before it is a file."""

    db_id: str
    domain: Domain
    conventions: Mapping[Ref, Convention]
    """How each text column stores its values; the schema does not show it."""
    tables: Mapping[str, tuple[Row, ...]]

    def spell(self, ref: Ref, value: str) -> str:
        """The stored form of a title-case value."""
        return value.upper() if self.conventions[ref] == "upper" else value

    def misspell(self, ref: Ref, value: str) -> str:
        """The other form, which the column does not hold."""
        return value if self.conventions[ref] == "upper" else value.upper()


def make_instance(domain: Domain, number: int, *, seed: int) -> Instance:
    """Make instance `number` (from 1) of a domain.

    Instances come in pairs (1 and 2, 3 and 4 ...): both hold the same values in each column, and
    store them the opposite way. So a value in a question is stored in title case in exactly half
    of the databases that hold it: no policy can learn the form from the value, only by looking.
    """
    pair, is_second = divmod(number - 1, 2)
    shared = Random(f"{seed}/{domain.name}/pair/{pair}")
    own = Random(f"{seed}/{domain.name}/{number}")
    conventions: dict[Ref, Convention] = {}
    values: dict[Ref, list[str]] = {}
    for table in domain.tables:
        for column, vocabulary in table.texts.items():
            ref = Ref(table.name, column)
            is_upper = shared.random() < 0.5
            conventions[ref] = "upper" if is_upper != bool(is_second) else "title"
            values[ref] = shared.sample(vocabulary, (len(vocabulary) + 1) // 2)
    tables: dict[str, tuple[Row, ...]] = {}
    for table in domain.tables:
        num_rows = own.randint(MIN_ROWS, MAX_ROWS)
        columns: list[list[int] | list[str]] = [list(range(1, num_rows + 1))]
        if table.parent:
            num_parents = len(tables[table.parent])
            chosen = own.sample(range(1, num_parents + 1), round(PARENT_SHARE * num_parents))
            columns.append([own.choice(chosen) for _ in range(num_rows)])
        for column in table.texts:
            ref = Ref(table.name, column)
            stored = [v.upper() if conventions[ref] == "upper" else v for v in values[ref]]
            columns.append([own.choice(stored) for _ in range(num_rows)])
        for span in table.numbers.values():
            columns.append(own.sample(range(span.low, span.high + 1), num_rows))
        tables[table.name] = tuple(zip(*columns, strict=True))
    db_id = f"{domain.name}_{number}"
    return Instance(db_id=db_id, domain=domain, conventions=conventions, tables=tables)


def write_sqlite(instance: Instance, path: Path) -> None:
    """Write the database; the same instance always gives the same bytes (one SQLite version)."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for table in instance.domain.tables:
            connection.execute(_create(table))
            rows = instance.tables[table.name]
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)
        connection.execute("COMMIT")


def _create(table: TableSpec) -> str:
    parts = ["id INTEGER PRIMARY KEY"]
    if table.parent:
        parts.append(f"{table.parent}_id INTEGER")
    parts += [f"{column} TEXT" for column in table.texts]
    parts += [f"{column} INTEGER" for column in table.numbers]
    if table.parent:
        parts.append(f"FOREIGN KEY ({table.parent}_id) REFERENCES {table.parent} (id)")
    return f"CREATE TABLE {table.name} ({', '.join(parts)})"
