"""One worker process of the pool: it runs statements in turn and may be killed at any moment.

Forked from `mtsql.sql.template` with one socket. The first message is the registry {db_id: address}
and is answered with the process id; each later one is a list of jobs (job_id, db_id, identity, sql,
limits, views). Each job is answered at once with (job_id, payload, whether it would end so again),
or with (job_id, None, False) when it needs more than the worker's lane grants (see
`mtsql.sql.lane`). True and False go before and after a database is opened: that time is not the
query's. A worker dies with its parent: the kernel kills it, and an idle one reads the end of its
socket.
"""

import ctypes
import os
import resource
import socket
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mtsql.sql.cache import is_repeatable
from mtsql.sql.engine import CannotOpenError, Engine, ErrorKind
from mtsql.sql.engines import open_engine
from mtsql.sql.kept import KeptRoom
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus, ViewText
from mtsql.sql.sqlite_engine import SqliteEngine
from mtsql.sql.wire import FrameReader, encode, frame, limits_from

if TYPE_CHECKING:  # it loads asyncio, which a worker has no use for
    from mtsql.sql.registry import Identity

MAX_OPEN_DATABASES = 64
HEAP_SHARE = 0.75
"""Of the process's memory for SQLite's heap: it fails first, and as an error of one query."""
DUCKDB_SHARE = 0.4
"""The same for DuckDB, whose library and threads take address space in addition to the data."""
KEPT_SHARE = 0.05
"""Of the process's memory for the rows of views."""
M_ARENA_MAX = -8
"""From malloc.h."""
RECV_BYTES = 1 << 18


class EngineShelf:
    """Warm engines, the least recently used closed first; one per database and identity."""

    def __init__(
        self, addresses: dict[str, str], *, memory_bytes: int, tell: Callable[[bool], object]
    ) -> None:
        """
        Args:
            memory_bytes: of the process.
            tell: called with True before a database is opened and with False after it.
        """
        self._addresses = addresses
        self._tell = tell
        self._memory_bytes = int(memory_bytes * DUCKDB_SHARE)
        self._room = KeptRoom(int(memory_bytes * KEPT_SHARE))
        self._engines: OrderedDict[str, tuple[Identity, Engine]] = OrderedDict()

    def get(self, db_id: str, identity: "Identity") -> Engine:
        """Raises CannotOpenError when the database cannot be opened."""
        known = self._engines.get(db_id)
        if known is not None and known[0] == identity:
            self._engines.move_to_end(db_id)
            return known[1]
        if known is not None:
            self._engines.pop(db_id)[1].close()
        self._tell(True)
        try:
            engine = open_engine(
                self._addresses[db_id], memory_bytes=self._memory_bytes, room=self._room
            )
        finally:
            self._tell(False)
        self._engines[db_id] = (identity, engine)
        if len(self._engines) > MAX_OPEN_DATABASES:
            self._engines.popitem(last=False)[1][1].close()
        return engine


def run_job(
    shelf: EngineShelf,
    db_id: str,
    identity: "Identity",
    sql: str,
    limits: QueryLimits,
    lane: QueryLimits,
    views: Sequence[ViewText] = (),
) -> QueryResult | None:
    """Run one job within both limits; None when only the lane's own limit stopped it."""
    granted = grant(limits, lane)
    try:
        engine = shelf.get(db_id, identity)
    except MemoryError:
        raise  # this process holds too much: the query starts again in a fresh one
    except Exception as error:  # noqa: BLE001 - any driver error; the worker lives on
        reason = f": {error}" if isinstance(error, CannotOpenError) else ""
        return QueryResult(
            status=QueryStatus.INFRA_FAULT,
            kind=ErrorKind.DATABASE_UNREADABLE,
            message=f"database {db_id!r} cannot be opened{reason}",
        )
    if views and isinstance(engine, SqliteEngine):
        result = engine.execute_view(sql, views, granted)
    else:  # other engines keep no views: they compute the whole chain
        result = engine.execute(sql, granted)
    if result.kind == ErrorKind.STEPS and granted.max_vm_steps < limits.max_vm_steps:
        return None
    if result.kind == ErrorKind.TIMEOUT and granted.timeout_s < limits.timeout_s:
        return None
    return result


@lru_cache(maxsize=64)
def grant(limits: QueryLimits, lane: QueryLimits) -> QueryLimits:
    return replace(
        limits,
        timeout_s=min(limits.timeout_s, lane.timeout_s),
        max_vm_steps=min(limits.max_vm_steps, lane.max_vm_steps),
    )


def serve(connection: socket.socket, lane: QueryLimits, *, memory_bytes: int) -> None:
    """Answer jobs until the pool hangs up. A reply leaves at once: the next job may never end."""
    # A pool that ends while a reply is under way resets the connection: nobody is left to be told.
    with suppress(ConnectionError):
        _serve(connection, lane, memory_bytes)


def _serve(connection: socket.socket, lane: QueryLimits, memory_bytes: int) -> None:
    reader = FrameReader()
    shelf: EngineShelf | None = None
    while data := connection.recv(RECV_BYTES):
        for message in reader.feed(data):
            if shelf is None:
                shelf = EngineShelf(
                    message,
                    memory_bytes=memory_bytes,
                    tell=lambda is_opening: connection.sendall(frame(is_opening)),
                )
                connection.sendall(frame(os.getpid()))
                continue
            for job_id, db_id, identity, sql, limits, views in message:
                result = run_job(shelf, db_id, identity, sql, limits_from(limits), lane, views)
                connection.sendall(_reply(job_id, result))


def _reply(job_id: int, result: QueryResult | None) -> bytes:
    if result is None:
        return frame((job_id, None, False))
    try:
        return frame((job_id, encode(result), is_repeatable(result)))
    except MemoryError:
        capped = QueryResult(
            status=QueryStatus.CAPPED,
            kind=ErrorKind.MEMORY,
            message="the result needs too much memory (sql.memory_mb)",
        )
        return frame((job_id, encode(capped), True))


def limit_memory(memory_bytes: int) -> None:
    """For this process and those forked from it, each by itself."""
    # Else glibc sets 64 MB of address space apart for each of DuckDB's threads: the limit counts
    # them, and a query that needs little would seem to need too much.
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with sqlite3.connect(":memory:") as connection:  # the limit is one for the whole process
        connection.execute(f"PRAGMA hard_heap_limit = {int(memory_bytes * HEAP_SHARE)}")
    connection.close()
