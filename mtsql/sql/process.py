"""The pool's end of its processes: start them, talk to them, kill them. No decisions."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from cachetools import LRUCache

import mtsql
from mtsql.sql.calls import Job
from mtsql.sql.records import QueryLimits
from mtsql.sql.wire import FrameReader, frame

BOOT = """\
import os, sys
sys.path[:] = sys.argv[1].split(os.pathsep)
from mtsql.sql.template import main
main(sys.argv[2:])
"""
"""With -I -S and the parent's module path, it starts alike in any environment."""


CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""What an engine's own mistake ends with; the kernel, short of memory, kills with SIGKILL."""
MAX_REMEMBERED = 256


class Template:
    """The process that workers are forked from; a lost one is replaced at the next fork."""

    def __init__(self, memory_bytes: int, *, boot: str = BOOT) -> None:
        """
        Args:
            memory_bytes: address space of each worker.
            boot: the program of the new interpreter.
        """
        self._memory_bytes = memory_bytes
        self._boot = boot
        self._signals: LRUCache[int, int] = LRUCache(MAX_REMEMBERED)
        """What ended the latest workers, by process id."""
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def fork(self, worker: socket.socket, lane: QueryLimits) -> None:
        """Order a worker that serves `worker`. Raises OSError when no process can be made."""
        message = json.dumps(asdict(lane)).encode()
        for is_last in (False, True):
            if self._socket is None:
                self._start()
            assert self._socket is not None
            try:
                socket.send_fds(self._socket, [message], [worker.fileno()])
            except OSError:
                self.close()
                if is_last:
                    raise
            else:
                return

    def has_crashed(self, pid: int) -> bool:
        """Whether a worker is known to have ended by a mistake in an engine's native code."""
        return self._signals.get(pid) in CRASHES

    def close(self) -> None:
        """End the process and wait the moment until the kernel has taken it away."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = {
            "--socket-fd": theirs.fileno(),
            "--parent-pid": os.getpid(),
            "--memory-bytes": self._memory_bytes,
        }
        words = [str(word) for option in options.items() for word in option]
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours, self._read_report)
        with theirs:
            # On the loop's thread, which outlives it: the kernel's parent-death signal follows the
            # thread. The new interpreter shares nothing with this process.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", self._boot, _module_path(), *words],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def _read_report(self) -> None:
        assert self._socket is not None
        try:
            report = self._socket.recv(MAX_REMEMBERED)
        except OSError:
            report = b""
        if not report:  # it is gone, and its workers with it
            self.close()
            return
        pid, number = json.loads(report)
        self._signals[pid] = number


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What every worker of one lane has in common."""

    addresses: Mapping[str, str]
    template: Template
    lane_limits: QueryLimits


class WorkerProcess(asyncio.Protocol):
    """A worker and its socket. It answers in order, so the first outstanding job is running."""

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        on_ready: Callable[["WorkerProcess"], None],
        on_reply: Callable[["WorkerProcess", Job, bytes | None, bool], None],
        on_lost: Callable[["WorkerProcess"], None],
    ) -> None:
        self._spec = spec
        self._on_ready = on_ready
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._pidfd = -1
        """Names this process and no later one with the same number."""
        self.pid = 0
        self.outstanding: deque[Job] = deque()
        self.head_age_s = 0.0
        """How long the pool has waited for the first outstanding job, while its loop was awake."""
        self.is_opening = False
        """It opens a database: that time is not the query's."""
        self.is_killed = False

    @property
    def is_ready(self) -> bool:
        return self.pid != 0

    async def start(self) -> None:
        """Raises OSError when no process can be made."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._spec.template.fork(theirs, self._spec.lane_limits)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    def send(self, jobs: Sequence[Job]) -> None:
        assert self._transport is not None
        if not self.outstanding:
            self.head_age_s = 0.0
        self.outstanding.extend(jobs)
        self._transport.write(frame([job.row() for job in jobs]))

    def kill(self) -> None:
        """End the process; the lane hears of it through `on_lost`."""
        self.is_killed = True
        self._send_kill()
        if self._transport is not None:  # one that is not ready reads the end, and ends
            self._transport.abort()

    async def gone(self) -> None:
        """Wait until the kernel has taken the process away."""
        if self._pidfd < 0:
            return
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(self._pidfd, lambda: ended.done() or ended.set_result(None))
        try:
            await ended
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(frame(dict(self._spec.addresses)))

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if not self.is_ready:
                self.pid = message
                with suppress(ProcessLookupError):  # then its socket's end follows
                    self._pidfd = os.pidfd_open(self.pid)
                self._on_ready(self)
                continue
            if isinstance(message, bool):
                self.is_opening = message
                self.head_age_s = 0.0
                continue
            job_id, payload, is_repeatable = message
            job = self.outstanding.popleft()
            assert job.job_id == job_id
            self.head_age_s = 0.0
            self._on_reply(self, job, payload, is_repeatable)

    def connection_lost(self, exc: Exception | None) -> None:
        self._send_kill()  # a worker that closed its socket has nothing left to do
        self._on_lost(self)

    def _send_kill(self) -> None:
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


def _module_path() -> str:
    """This process's module path, with the folder `mtsql` itself came from at the end."""
    package_root = Path(mtsql.__file__).absolute().parent.parent
    entries = [entry or str(Path.cwd()) for entry in sys.path]
    return os.pathsep.join([*entries, str(package_root)])
