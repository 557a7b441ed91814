"""What goes into the SQL pool and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Cell = int | float | str | bytes | None
ViewText = tuple[str, str]
"""(name as SQL reads it, SQL) of one view of a chain."""


class QueryStatus(StrEnum):
    """How one statement ended."""

    OK = "ok"
    """It ran to its end, or to the row cap (`truncated`)."""
    REFUSED = "refused"
    """Not a read-only single statement: it was not run."""
    INTERRUPTED = "interrupted"
    """It met the work or time limit."""
    CAPPED = "capped"
    """Its result or memory met the byte limit; no rows are given."""
    ERROR = "error"
    """The engine rejected it: the model's mistake."""
    INFRA_FAULT = "infra_fault"
    """The machinery failed (file gone, worker lost twice): no verdict on the query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLimits:
    """Bounds of one statement; all are enforced before data reaches the caller."""

    timeout_s: float = 5.0
    """Soft limit (engine interrupt); the worker is killed one second later."""
    max_vm_steps: int = 200_000_000
    """SQLite virtual-machine steps: the verdict that does not depend on the machine's load."""
    max_rows: int = 10_000
    max_bytes: int = 8_000_000
    """Size of all cells together, text as UTF-8, numbers as 8 bytes."""
    max_sql_chars: int = 20_000
    max_cells: int = 1_000_000
    """Rows x columns: empty text takes memory too, and no bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    db_id: str
    """A name in the pool's registry; never part of a path."""
    sql: str
    limits: QueryLimits = QueryLimits()
    views: tuple[ViewText, ...] = ()
    """The chain that `sql` is composed of, the last being its query, where the rows do not depend
    on how the database goes about it: then views that were run before need not run again. ():
    whatever is run is `sql`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Facts about one executed statement: `columns` [C], `rows` [R][C]."""

    status: QueryStatus
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    truncated: bool = False
    """More rows exist than `max_rows`."""
    elapsed_s: float = 0.0
    message: str = ""
    """Why the status is not OK; never a path of the host."""
    kind: str = ""
    """A typed name of the error: no_such_column, no_such_table, syntax, ambiguous_column, timeout,
    write ...
    """


class SqlExecutor(Protocol):
    """The local pool and the Ray pool both fit; one result for each request, in order."""

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]: ...


def suspicion(result: QueryResult) -> str:
    """Why a result that ran well may still be wrong: empty, all_null, zero, or nothing."""
    return suspicion_of_rows(result.rows) if result.status is QueryStatus.OK else ""


def suspicion_of_rows(rows: Sequence[Sequence[Cell]]) -> str:
    """`suspicion` of the rows [R][C] alone: what a wrong form of a value mostly leads to."""
    if not rows:
        return "empty"
    if all(cell is None for row in rows for cell in row):
        return "all_null"
    only = rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else None
    return "zero" if isinstance(only, int | float) and only == 0 else ""


class ResultClass(StrEnum):
    """What an execution showed; rewards judge by this, never by a text."""

    OK = "ok"
    EMPTY = "empty"
    ALL_NULL = "all_null"
    ZERO = "zero"
    """One cell, which is 0: a count of nothing."""
    CUT = "cut"
    """More rows than the row cap."""
    ERROR = "error"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    """It met the work or time limit."""
    CAPPED = "capped"
    """It met the limit on bytes."""

    @property
    def has_run(self) -> bool:
        """There is a result, even an empty one."""
        return self not in _FAILURES.values()

    @property
    def is_suspicious(self) -> bool:
        """It ran well and may still be wrong."""
        return self in (ResultClass.EMPTY, ResultClass.ALL_NULL, ResultClass.ZERO)


_FAILURES = {
    QueryStatus.ERROR: ResultClass.ERROR,
    QueryStatus.REFUSED: ResultClass.REFUSED,
    QueryStatus.INTERRUPTED: ResultClass.TIMEOUT,
    QueryStatus.CAPPED: ResultClass.CAPPED,
}


def class_of(result: QueryResult) -> ResultClass | None:
    """None: the machinery failed."""
    if result.status is not QueryStatus.OK:
        return _FAILURES.get(result.status)
    if note := suspicion(result):
        return ResultClass(note)
    return ResultClass.CUT if result.truncated else ResultClass.OK
