"""What every engine behind the SQL pool promises and shares, and the names of what can go wrong.

One file per engine; `mtsql.sql.worker` picks the engine for a database and knows nothing else about
it.
"""

from enum import StrEnum
from typing import Protocol

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
    """The result, or one value in it, is larger than `max_bytes`."""
    OTHER = "other"
    UNKNOWN_DATABASE = "unknown_database"
    DATABASE_UNREADABLE = "database_unreadable"
    WORKER_LOST = "worker_lost"
    POOL_CLOSED = "pool_closed"
    POOL_UNREACHABLE = "pool_unreachable"


class Engine(Protocol):
    """One warm read-only connection to one database; used by one thread at a time."""

    def execute(self, sql: str, limits: QueryLimits) -> QueryResult:
        """Run one statement; whatever it does is a result, never an exception."""
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


def failed(
    status: QueryStatus, kind: ErrorKind, message: str, *, elapsed_s: float = 0.0
) -> QueryResult:
    return QueryResult(status=status, kind=kind, message=message, elapsed_s=elapsed_s)


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
