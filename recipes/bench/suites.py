"""Test suites for a measurement: variants of a database, with other rows in another order."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

from mtsql.sql.quoting import quote_name

NUM_VARIANTS = 39
"""As many as the official suites have at the median."""
DROPPED = 0.2
"""Share of the rows that each variant lacks."""
CHANGED = 0.2
"""Share of the numbers that are others."""


def make_suite(database: Path, folder: Path, num_variants: int, rng: Random) -> list[Path]:
    """`num_variants` files in `folder`, the first one the database itself.

    Raises:
        OSError, sqlite3.Error: a file cannot be read or written.
    """
    folder.mkdir(parents=True)
    paths = [folder / f"{folder.name}.sqlite"]
    shutil.copyfile(database, paths[0])
    for number in range(1, num_variants):
        path = folder / f"{folder.name}_{number}.sqlite"
        shutil.copyfile(database, path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.text_factory = bytes
            connection.execute("PRAGMA foreign_keys = OFF")
            _vary(connection, rng)
        paths.append(path)
    return paths


def _vary(connection: sqlite3.Connection, rng: Random) -> None:
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    for name in [row[0].decode() for row in names.fetchall()]:
        quoted = quote_name(name)
        rows = connection.execute(f"SELECT * FROM {quoted}").fetchall()
        kept = [row for row in rows if rng.random() > DROPPED]
        rng.shuffle(kept)
        connection.execute(f"DELETE FROM {quoted}")
        for row in kept:
            cells = [_changed(cell, rng) for cell in row]
            marks = ", ".join("?" * len(row))
            # Keys that meet are left out: a variant may have fewer rows.
            connection.execute(f"INSERT OR IGNORE INTO {quoted} VALUES ({marks})", cells)


def _changed(cell: object, rng: Random) -> object:
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    if isinstance(cell, int | float) and rng.random() < CHANGED:
        return cell + rng.choice([-2, -1, 1, 2])
    return cell
