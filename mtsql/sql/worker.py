"""One worker process of the pool: it runs statements in turn and may be killed at any moment.

Started by `mtsql.sql.pool` in a fresh interpreter with one socket. The first message is the
registry {db_id: path}; each later one is a list of jobs (job_id, db_id, identity, sql, limits).
Each job is answered at once with (job_id, result), or (job_id, None) when it needs more than the
worker's lane grants (see `Lane` in the pool). It dies with its parent: the kernel kills it, and an
idle one reads the end of its socket.
"""

import argparse
import ctypes
import os
import resource
import signal
import socket
import sqlite3
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from mtsql.sql.engine import Engine, ErrorKind
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus
from mtsql.sql.sqlite_engine import SqliteEngine
from mtsql.sql.wire import FrameReader, frame, limits_from, result_row

MAX_OPEN_DATABASES = 64
HEAP_SHARE = 0.75
"""Of the process's memory for SQLite's heap: it fails first, and as an error of one query."""
DUCKDB_SHARE = 0.4
"""The same for DuckDB, whose library and threads take more address space beside their data."""
PR_SET_PDEATHSIG = 1
RECV_BYTES = 1 << 18

Identity = tuple[int, int]
"""(mtime in ns, size in bytes) of a database file."""


class EngineShelf:
    """Warm engines, the least recently used closed first; one per database and identity."""

    def __init__(self, paths: dict[str, Path], *, memory_bytes: int) -> None:
        self._paths = paths
        self._memory_bytes = memory_bytes
        self._engines: OrderedDict[str, tuple[Identity, Engine]] = OrderedDict()

    def get(self, db_id: str, identity: Identity) -> Engine:
        """Raises sqlite3.Error or OSError when the database cannot be opened."""
        known = self._engines.get(db_id)
        if known is not None and known[0] == identity:
            self._engines.move_to_end(db_id)
            return known[1]
        if known is not None:
            self._engines.pop(db_id)[1].close()
        engine = open_engine(self._paths[db_id], memory_bytes=self._memory_bytes)
        self._engines[db_id] = (identity, engine)
        if len(self._engines) > MAX_OPEN_DATABASES:
            self._engines.popitem(last=False)[1][1].close()
        return engine


def open_engine(path: Path, *, memory_bytes: int) -> Engine:
    """The one place that knows which engine reads which file.

    Args:
        memory_bytes: for the engine's data. SQLite's heap has one limit for the whole process.

    Raises:
        sqlite3.Error, OSError: the file cannot be opened as a database.
    """
    if path.suffix == ".duckdb":
        from mtsql.sql.duckdb_engine import DuckdbEngine  # noqa: PLC0415 - a slow import, seldom needed

        return DuckdbEngine(path, memory_bytes=memory_bytes)
    return SqliteEngine(path)


def run_job(
    shelf: EngineShelf,
    db_id: str,
    identity: Identity,
    sql: str,
    limits: QueryLimits,
    lane: QueryLimits,
) -> QueryResult | None:
    """Run one job within both limits; None when only the lane's own limit stopped it."""
    granted = replace(
        limits,
        timeout_s=min(limits.timeout_s, lane.timeout_s),
        max_vm_steps=min(limits.max_vm_steps, lane.max_vm_steps),
    )
    try:
        result = shelf.get(db_id, identity).execute(sql, granted)
    except (sqlite3.Error, OSError):
        return QueryResult(
            status=QueryStatus.INFRA_FAULT,
            kind=ErrorKind.DATABASE_UNREADABLE,
            message=f"database {db_id!r} cannot be opened",
        )
    if result.kind == ErrorKind.STEPS and granted.max_vm_steps < limits.max_vm_steps:
        return None
    if result.kind == ErrorKind.TIMEOUT and granted.timeout_s < limits.timeout_s:
        return None
    return result


def serve(connection: socket.socket, lane: QueryLimits, *, memory_bytes: int) -> None:
    """Answer jobs until the pool hangs up. A reply leaves at once: the next job may never end."""
    reader = FrameReader()
    shelf: EngineShelf | None = None
    while data := connection.recv(RECV_BYTES):
        for _, message in reader.feed(data):
            if shelf is None:
                paths = {db_id: Path(path) for db_id, path in message.items()}
                shelf = EngineShelf(paths, memory_bytes=memory_bytes)
                connection.sendall(frame("ready"))
                continue
            for job_id, db_id, identity, sql, limits in message:
                result = run_job(shelf, db_id, identity, sql, limits_from(limits), lane)
                connection.sendall(_reply(job_id, result))


def _reply(job_id: int, result: QueryResult | None) -> bytes:
    try:
        return frame((job_id, None if result is None else result_row(result)))
    except MemoryError:
        capped = QueryResult(
            status=QueryStatus.CAPPED,
            kind=ErrorKind.MEMORY,
            message="the result needs too much memory",
        )
        return frame((job_id, result_row(capped)))


def limit_process(memory_bytes: int, parent_pid: int) -> None:
    """Memory limits, and death with the parent. Raises SystemExit when it is already gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes us
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with sqlite3.connect(":memory:") as connection:  # the limit is one for the whole process
        connection.execute(f"PRAGMA hard_heap_limit = {int(memory_bytes * HEAP_SHARE)}")
    connection.close()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="mtsql.sql.worker", description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--lane-timeout-s", type=float, required=True)
    parser.add_argument("--lane-vm-steps", type=int, required=True)
    options = parser.parse_args(arguments)
    limit_process(options.memory_bytes, options.parent_pid)
    lane = QueryLimits(timeout_s=options.lane_timeout_s, max_vm_steps=options.lane_vm_steps)
    with socket.socket(fileno=options.socket_fd) as connection:
        serve(connection, lane, memory_bytes=int(options.memory_bytes * DUCKDB_SHARE))
