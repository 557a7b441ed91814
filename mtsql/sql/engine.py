"""What every engine behind the SQL pool promises and shares, and the names of errors.

One file per engine; `mtsql.sql.worker` picks the engine for a database and knows nothing else about
it.
"""

import datetime
import decimal
import time
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, Protocol

from mtsql.sql.records import Cell, QueryLimits, QueryResult, QueryStatus


class ErrorKind(StrEnum):
    """Closed vocabulary of `QueryResult.kind`: the same words for every engine."""

    NO_SUCH_COLUMN = "no_such_column"
    NO_SUCH_TABLE = "no_such_table"
    NO_SUCH_FUNCTION = "no_such_function"
    AMBIGUOUS_COLUMN = "ambiguous_column"
    SYNTAX = "syntax"
    WRONG_NUM_ARGS = "wrong_num_args"
    MISUSE_AGGREGATE = "misuse_aggregate"
    MULTIPLE_STATEMENTS = "multiple_statements"
    EMPTY_STATEMENT = "empty_statement"
    WRITE = "write"
    """Anything but a plain read: a write, ATTACH, PRAGMA, a transaction or a forbidden function."""
    TOO_LONG = "too_long"
    """More characters than `max_sql_chars`."""
    TIMEOUT = "timeout"
    """The wall clock: depends on the machine's load."""
    STEPS = "steps"
    """The VM-step budget: the same on every machine."""
    MEMORY = "memory"
    ROWS_BYTES = "rows_bytes"
    """The result has more bytes or cells than its limits, or one value in it has."""
    OTHER = "other"
    UNKNOWN_DATABASE = "unknown_database"
    DATABASE_UNREADABLE = "database_unreadable"
    DATABASE_CHANGED = "database_changed"
    """Its file is not the one that the run began with."""
    WORKER_LOST = "worker_lost"
    POOL_CLOSED = "pool_closed"
    POOL_UNREACHABLE = "pool_unreachable"


UNCOUNTED = "work units (max_vm_steps): a verdict on a slow query depends on the machine's load"
"""For `Engine.NOT_ENFORCED`: only SQLite counts its work."""


MAX_MESSAGE_CHARS = 1000
"""A message may hold a name or a value from the query, and those are unbounded."""


FETCH_ROWS = 64
"""Rows that reach Python at once from a driver; the caps are checked after each row."""
TOO_MUCH_MEMORY = "the query needs too much memory (sql.memory_mb)"
ENGINE_CRASH = "the query crashes the database engine"


class CannotOpenError(OSError):
    """A database cannot be opened; the text may be shown, for it names no host, user or path."""


class Engine(Protocol):
    """One warm read-only connection to one database; used by one thread at a time."""

    NOT_ENFORCED: ClassVar[tuple[str, ...]]
    """Limits that this database cannot keep by itself; the pool's processes bound some of them."""

    def execute(self, sql: str, limits: QueryLimits) -> QueryResult:
        """Run one statement; its failure, too, is a result and never an exception."""
        ...

    def close(self) -> None: ...


def refuse_text(sql: str, limits: QueryLimits) -> QueryResult | None:
    """What the text alone decides, before an engine sees it."""
    if len(sql) > limits.max_sql_chars:
        message = f"the statement has {len(sql)} characters, more than {limits.max_sql_chars}"
        return failed(QueryStatus.REFUSED, ErrorKind.TOO_LONG, message)
    if "\0" in sql:
        return failed(QueryStatus.ERROR, ErrorKind.SYNTAX, "the statement holds a null character")
    return None


def stopped_after(timeout_s: float) -> str:
    return f"stopped after {timeout_s:g} seconds (sql.timeout_s)"


def failed(
    status: QueryStatus, kind: ErrorKind, message: str, *, elapsed_s: float = 0.0
) -> QueryResult:
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[: MAX_MESSAGE_CHARS - 3] + "..."
    return QueryResult(status=status, kind=kind, message=message, elapsed_s=elapsed_s)


def collect(
    columns: tuple[str, ...],
    rows: Iterable[tuple[Cell, ...]],
    limits: QueryLimits,
    started_s: float,
) -> QueryResult:
    """Keep rows until a cap is met; no row is drawn that does not count.

    Example: two columns, max_rows 3, max_cells 5. Two rows of four cells are kept; a third would
    make six cells, and the result is CAPPED. With max_cells 6 three rows are kept and a fourth
    makes it truncated.
    """
    # A name may be as long as the text, and * may repeat it in every column.
    if row_bytes(columns) > limits.max_bytes + limits.max_sql_chars:
        return _capped("the names of the columns are too long", started_s)
    kept: list[tuple[Cell, ...]] = []
    num_bytes = 0
    truncated = False
    most_rows = min(limits.max_rows, limits.max_cells // max(len(columns), 1))
    for row in rows:
        if len(kept) == most_rows:
            if most_rows < limits.max_rows:
                return _capped(
                    f"the result has more than {limits.max_cells} cells (sql.max_cells)", started_s
                )
            truncated = True
            break
        num_bytes += row_bytes(row)
        if num_bytes > limits.max_bytes:
            return _capped(
                f"the result is larger than {limits.max_bytes} bytes (sql.max_bytes)", started_s
            )
        kept.append(row)
    return QueryResult(
        status=QueryStatus.OK,
        columns=columns,
        rows=tuple(kept),
        truncated=truncated,
        elapsed_s=time.monotonic() - started_s,
    )


def _capped(message: str, started_s: float) -> QueryResult:
    elapsed_s = time.monotonic() - started_s
    return failed(QueryStatus.CAPPED, ErrorKind.ROWS_BYTES, message, elapsed_s=elapsed_s)


def plain_cell(value: object) -> Cell:
    """Numbers stay numbers; dates, lists and the like become the text a database would show."""
    match value:
        case None | int() | float() | str() | bytes():
            return int(value) if isinstance(value, bool) else value
        case decimal.Decimal():
            return float(value)
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case bytearray():
            return bytes(value)
        case memoryview():
            return value.tobytes()
        case _:
            return str(value)


def row_bytes(row: tuple[Cell, ...]) -> int:
    """Text as UTF-8, blobs as they are, all else as 8 bytes: (1, None, "ab", b"abc") is 21."""
    num_bytes = 0
    for cell in row:
        if isinstance(cell, str):
            num_bytes += len(cell) if cell.isascii() else len(cell.encode())
        elif isinstance(cell, bytes):
            num_bytes += len(cell)
        else:
            num_bytes += 8
    return num_bytes
