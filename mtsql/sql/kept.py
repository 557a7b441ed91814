"""Rows of a chain's views, kept in a worker: the next query reads them and need not compute them.

A chain arrives as texts (name, SQL), the last of which is the query. Of a query that ran, the rows
are put into a table of an in-memory database that is attached to the connection; the next one that
begins with the same views reads them from there:

    views    here    SELECT id FROM shop WHERE city = 'Paris'
             result  SELECT count(*) FROM here
    is run as WITH here AS (SELECT "id" FROM kept.t1) SELECT count(*) FROM here

The tables are made and filled by this file alone, with parameters. No text of a model is run while
the connection may write, and none may read a kept table but through the views that its own chain
names: the names are random, and the authorizer looks at each read.

What is kept gives the rows that the view itself gives, or it is not kept. A column has the view's
affinity, or none where an expression has none, both as SQLite itself tells them (EXPLAIN); values
are read back and compared. Left out are views beyond the limits of a result, with two columns of
one name, with a collation of their own, or with text that is not UTF-8, and those that are computed
faster than kept. Kept rows are a cache: they go with the worker, and the oldest make room.
"""

import re
import secrets
import sqlite3
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mtsql.sql.cache import normalise
from mtsql.sql.engine import row_bytes
from mtsql.sql.quoting import quote_name
from mtsql.sql.records import QueryResult, ViewText

CELL_BYTES = 16
"""What a cell takes in addition to its text, about."""
MAX_SHARE = 4
"""One view takes at most a fourth of the room."""
KEEP_FROM_STEPS = 20_000
"""Work of SQLite, about 0.3 ms: a view that takes less is computed again."""
STEPS_PER_CELL = 20
"""To keep a cell takes about as long; a view that takes less for each is computed again."""

Key = tuple[ViewText, ...]
"""The normalised texts of a chain's first views."""

_PLAIN_NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_]*|"(?:[^"]|"")+"')
_ADDS_UP = re.compile(r"\b(?:sum|avg|total)\s*\(", re.IGNORECASE)
"""What depends on the order of numbers that are not whole."""
_AFFINITIES = {
    0x40: None,
    0x41: "BLOB",
    0x42: "TEXT",
    0x43: "NUMERIC",
    0x44: "INTEGER",
    0x45: "REAL",
}
"""In the flags of a comparison in SQLite's programs; None: an expression without affinity."""
_AFFINITY_BITS = 0x47
_OPCODE, _P1, _P2, _P3, _P4, _P5 = range(1, 7)
"""Columns of EXPLAIN."""


@dataclass(slots=True)
class KeptRoom:
    """Bytes for the kept rows of all databases of a process."""

    max_bytes: int
    num_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptView:
    table: str
    """In the database of kept tables."""
    select: str
    num_bytes: int
    num_steps: int
    """Work that it took to compute it, and all that it was computed from."""
    has_fractions: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OnKept:
    """A query whose first views are read from kept tables."""

    sql: str
    tables: frozenset[str]
    num_steps: int
    """Work that is saved: it counts towards the query's limit all the same."""


class KeptViews:
    """The kept views of one connection. Its owner refuses reads of the schema `schema` except of
    the tables that `rewrite` names, and lets nothing else run during `keep`.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        room: KeptRoom,
        *,
        keep_from_steps: int = KEEP_FROM_STEPS,
        steps_per_cell: int = STEPS_PER_CELL,
    ) -> None:
        self._connection = connection
        self._room = room
        self._keep_from_steps = keep_from_steps
        self._steps_per_cell = steps_per_cell
        self._views: OrderedDict[Key, KeptView] = OrderedDict()
        self._is_attached = False
        self.schema = f"kept_{secrets.token_hex(16)}"

    def __len__(self) -> int:
        return len(self._views)

    def close(self) -> None:
        """Give the room back; the tables go with the connection."""
        self._room.num_bytes -= sum(view.num_bytes for view in self._views.values())
        self._views.clear()

    def rewrite(self, views: Sequence[ViewText]) -> OnKept | None:
        """The query with as many of its first views from kept tables as there are; None: none."""
        if not _can_be_named(views):
            return None
        parts = [f"{name} AS ({sql}\n)" for name, sql in views[:-1]]
        used: list[KeptView] = []
        adds_up = any(_ADDS_UP.search(sql) for _, sql in views[1:])
        for place in range(len(views) - 1):
            key = _key(views[: place + 1])
            kept = self._views.get(key)
            if kept is not None and not (adds_up and kept.has_fractions):
                self._views.move_to_end(key)
                parts[place] = f"{views[place][0]} AS ({kept.select})"
                used.append(kept)
        if not used:
            return None
        return OnKept(
            sql=f"WITH {', '.join(parts)} {views[-1][1]}",
            tables=frozenset(view.table for view in used),
            num_steps=max(view.num_steps for view in used),
        )

    def is_worth(self, views: Sequence[ViewText], result: QueryResult, num_steps: int) -> bool:
        """Whether the rows of a query that ran should be kept; cheap to ask."""
        num_cells = len(result.rows) * len(result.columns)
        return (
            num_steps >= max(self._keep_from_steps, self._steps_per_cell * num_cells)
            and not result.truncated
            and _key(views) not in self._views
            and _can_be_named(views)
        )

    def kinds(self, views: Sequence[ViewText], columns: Sequence[str]) -> list[str | None] | None:
        """The affinity of each column of the last view; None where the view cannot be kept.

        This compiles the model's text and runs nothing; it does so under the owner's authorizer.
        """
        if len({name.lower() for name in columns}) < len(columns):
            return None
        name = views[-1][0]
        mark = secrets.token_hex(8)
        marks = [f"{mark}{place}" for place in range(len(columns))]
        compared = ", ".join(
            f"{name}.{quote_name(column)} = '{one}'"
            for column, one in zip(columns, marks, strict=True)
        )
        parts = ", ".join(f"{name} AS ({sql}\n)" for name, sql in views)
        program = self._connection.execute(
            f"EXPLAIN WITH {parts} SELECT {compared} FROM {name}"
        ).fetchall()
        return _affinities(program, marks)

    def keep(
        self,
        views: Sequence[ViewText],
        result: QueryResult,
        kinds: Sequence[str | None],
        *,
        num_steps: int,
    ) -> None:
        """Put the rows into a table. The owner has opened the connection for writing.

        Raises:
            sqlite3.Error, UnicodeError, MemoryError: it could not be done; nothing is kept.
        """
        num_bytes = CELL_BYTES * len(result.rows) * len(result.columns)
        num_bytes += sum(map(row_bytes, result.rows))
        if num_bytes * MAX_SHARE > self._room.max_bytes:
            return
        if any(isinstance(cell, str) and "\ufffd" in cell for row in result.rows for cell in row):
            return  # perhaps a mark in place of what could not be decoded
        while self._views and self._room.num_bytes + num_bytes > self._room.max_bytes:
            _, oldest = self._views.popitem(last=False)
            self._room.num_bytes -= oldest.num_bytes
            self._connection.execute(f"DROP TABLE {self.schema}.{oldest.table}")
        if self._room.num_bytes + num_bytes > self._room.max_bytes:
            return  # other databases hold the room
        table = f"t_{secrets.token_hex(16)}"
        if not self._fill(table, result, kinds):
            return
        names = [quote_name(name) for name in result.columns]
        outputs = [
            # A plus takes the affinity away and changes nothing else.
            f"+{name} AS {name}" if kind is None else name
            for name, kind in zip(names, kinds, strict=True)
        ]
        self._room.num_bytes += num_bytes
        self._views[_key(views)] = KeptView(
            table=table,
            select=f"SELECT {', '.join(outputs)} FROM {self.schema}.{table}",
            num_bytes=num_bytes,
            num_steps=num_steps,
            has_fractions=any(isinstance(cell, float) for row in result.rows for cell in row),
        )

    def _fill(self, table: str, result: QueryResult, kinds: Sequence[str | None]) -> bool:
        """Whether the table gives back exactly what was put into it."""
        if not self._is_attached:
            # The connection is read-only, and so would be whatever it opens: the mode says else.
            self._connection.execute(f"ATTACH 'file:{self.schema}?mode=memory' AS {self.schema}")
            self._is_attached = True
        columns = ", ".join(
            f"{quote_name(name)} {kind or 'BLOB'}"
            for name, kind in zip(result.columns, kinds, strict=True)
        )
        place = f"{self.schema}.{table}"
        marks = ", ".join("?" * len(result.columns))
        with _transaction(self._connection):
            self._connection.execute(f"CREATE TABLE {place} ({columns})")
            self._connection.executemany(f"INSERT INTO {place} VALUES ({marks})", result.rows)
        stored = self._connection.execute(f"SELECT * FROM {place} ORDER BY rowid").fetchall()
        if stored == list(result.rows) and all(
            type(one) is type(other)
            for row, kept in zip(result.rows, stored, strict=True)
            for one, other in zip(row, kept, strict=True)
        ):
            return True
        self._connection.execute(f"DROP TABLE {place}")
        return False


def _can_be_named(views: Sequence[ViewText]) -> bool:
    names = [name for name, _ in views]
    different = {name.strip('"').lower() for name in names}
    return len(different) == len(names) and all(map(_PLAIN_NAME.fullmatch, names))


def _key(views: Sequence[ViewText]) -> Key:
    return tuple((name.lower(), normalise(sql)) for name, sql in views)


def _affinities(
    program: Sequence[Sequence[object]], marks: Sequence[str]
) -> list[str | None] | None:
    """What SQLite does to each column when it is compared with a text that has no affinity."""
    found: list[str | None] = []
    for mark in marks:
        registers = [one[_P2] for one in program if (one[_OPCODE], one[_P4]) == ("String8", mark)]
        flags = {
            (one[_P4], one[_P5])
            for one in program
            if one[_OPCODE] in ("Eq", "Ne") and registers and registers[0] in (one[_P1], one[_P3])
        }
        if len(registers) != 1 or len(flags) != 1:
            return None
        [(collation, flag)] = flags
        is_binary = collation is None or str(collation).startswith("BINARY")
        affinity = flag & _AFFINITY_BITS if isinstance(flag, int) else -1
        if not is_binary or affinity not in _AFFINITIES:
            return None
        found.append(_AFFINITIES[affinity])
    return found


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
