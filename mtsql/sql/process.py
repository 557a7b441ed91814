"""The pool's end of one worker process: start it, talk to it, kill it. No decisions."""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mtsql
from mtsql.sql.cache import CacheKey
from mtsql.sql.records import QueryLimits, QueryResult
from mtsql.sql.wire import FrameReader, frame, limits_row

BOOT = """\
import os, sys
sys.path[:] = sys.argv[1].split(os.pathsep)
from mtsql.sql.worker import main
main(sys.argv[2:])
"""
"""With -I -S and the parent's module path, a worker starts in 50 ms in any environment."""


@dataclass(slots=True, eq=False)
class Call:
    """One `execute_many` in flight: its results so far; the last one sets the future."""

    results: list[QueryResult | None]
    future: asyncio.Future[None]
    num_missing: int = 0

    def fill(self, index: int, result: QueryResult) -> None:
        self.results[index] = result
        self.num_missing -= 1
        if self.num_missing == 0 and not self.future.done():
            self.future.set_result(None)


@dataclass(slots=True, eq=False)
class Job:
    """One distinct query in flight and everyone who waits for it."""

    job_id: int
    key: CacheKey
    waiters: list[tuple[Call, int]] = field(default_factory=list[tuple[Call, int]])
    num_losses: int = 0
    """Workers that died while running it."""

    @property
    def limits(self) -> QueryLimits:
        return self.key[3]

    def row(self) -> tuple[Any, ...]:
        db_id, identity, sql, limits = self.key
        return (self.job_id, db_id, identity, sql, limits_row(limits))

    def is_wanted(self) -> bool:
        return any(not call.future.done() for call, _ in self.waiters)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What every worker of one lane has in common."""

    databases: Mapping[str, Path]
    memory_bytes: int
    lane_limits: QueryLimits


class WorkerProcess(asyncio.Protocol):
    """A worker and its socket. It answers in order, so the first outstanding job is running."""

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        on_ready: Callable[["WorkerProcess"], None],
        on_reply: Callable[["WorkerProcess", Job, tuple[Any, ...] | None, int], None],
        on_lost: Callable[["WorkerProcess"], None],
    ) -> None:
        self._spec = spec
        self._on_ready = on_ready
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.outstanding: deque[Job] = deque()
        self.head_age_s = 0.0
        """How long the pool has waited for the first outstanding job, while its loop was awake."""
        self.is_ready = False
        self.is_killed = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Raises OSError when no process can be made."""
        ours, theirs = socket.socketpair()
        limits = self._spec.lane_limits
        options = {
            "--socket-fd": theirs.fileno(),
            "--parent-pid": os.getpid(),
            "--memory-bytes": self._spec.memory_bytes,
            "--lane-timeout-s": limits.timeout_s,
            "--lane-vm-steps": limits.max_vm_steps,
        }
        words = [str(word) for option in options.items() for word in option]
        with theirs:
            # On this thread, which outlives the worker: the kernel's parent-death signal follows
            # the thread. The new interpreter shares nothing with this process, whatever threads and
            # libraries it holds.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BOOT, _module_path(), *words],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    def send(self, jobs: Sequence[Job]) -> None:
        assert self._transport is not None
        if not self.outstanding:
            self.head_age_s = 0.0
        self.outstanding.extend(jobs)
        self._transport.write(frame([job.row() for job in jobs]))

    def kill(self) -> None:
        """End the process by its pid; the lane hears of it through `on_lost`."""
        self.is_killed = True
        if self._process is not None:
            self._process.kill()
        if self._transport is not None:
            self._transport.abort()

    async def reap(self) -> None:
        """Wait until the kernel has taken the process away, off the loop's thread."""
        if self._process is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        paths = {db_id: str(path.absolute()) for db_id, path in self._spec.databases.items()}
        self._transport.write(frame(paths))

    def data_received(self, data: bytes) -> None:
        for size, message in self._reader.feed(data):
            if not self.is_ready:
                self.is_ready = True
                self._on_ready(self)
                continue
            job_id, row = message
            job = self.outstanding.popleft()
            assert job.job_id == job_id
            self.head_age_s = 0.0
            self._on_reply(self, job, row, size)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._process is not None:
            self._process.kill()  # a worker that closed its socket has nothing left to do
        self._on_lost(self)


def _module_path() -> str:
    """This process's module path, with the folder `mtsql` itself came from at the end."""
    package_root = Path(mtsql.__file__).absolute().parent.parent
    entries = [entry or str(Path.cwd()) for entry in sys.path]
    return os.pathsep.join([*entries, str(package_root)])
