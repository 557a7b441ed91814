"""One pool for all processes of a machine: requests and results over a Unix socket.

The owner of a `LocalPool` serves it under a name that the kernel keeps (an abstract socket: no file
to leave behind); an executor in any other process of the same user connects to it. What callers
ask in the same moment travels in one message, and each result returns when it is there, so that
no caller waits for another one's long query.
"""

import asyncio
import itertools
import logging
import marshal
import os
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from mtsql.sql.calls import Call
from mtsql.sql.engine import ErrorKind, failed
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryRequest, QueryResult, QueryStatus
from mtsql.sql.wire import HEADER_BYTES, FrameReader, RequestRow, encode, frame, request_row

logger = logging.getLogger(__name__)

MAX_SENT = 256
"""Requests in one message: the server takes the next one when these are queued."""
QUEUE_S = 120.0
"""Allowance for waiting behind other long queries, on top of a query's own limit."""
NUM_ATTEMPTS = 2
"""A server that dies is looked for once more."""
WATCH_EVERY_S = 0.1


class PoolServer:
    """Answers `RemoteExecutor`s until it is closed."""

    def __init__(self, pool: LocalPool) -> None:
        self._pool = pool
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Returns the name under which executors find it."""
        name = f"\0mtsql-sql-{secrets.token_hex(16)}"
        listener = socket.socket(socket.AF_UNIX)  # made here: uvloop cuts such names off
        listener.bind(name)
        self._server = await asyncio.start_unix_server(self._accepted, sock=listener)
        return name

    async def close(self) -> None:
        """Hang up on all executors."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read the next message when this one's queries have found room: that is back-pressure."""
        replies = _Replies(writer)
        try:
            if not _is_same_user(writer):
                return
            while True:
                size = int.from_bytes(await reader.readexactly(HEADER_BYTES), "big")
                requests = marshal.loads(await reader.readexactly(size))
                await self._pool.submit(requests, replies)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the executor's process is gone
        finally:
            replies.close()
            writer.close()


def _is_same_user(writer: asyncio.StreamWriter) -> bool:
    """Abstract sockets have no permissions; marshal must not read what strangers write."""
    connection = writer.get_extra_info("socket")
    facts = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", facts)
    return user == os.getuid()


def _connected(name: str) -> socket.socket:
    """Raises OSError when no server listens; a Unix socket connects without waiting."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


class _Replies:
    """Sends results to one executor, one message for each pass of the loop. A `Sink`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._done: list[tuple[int, bytes]] = []
        self._loop = asyncio.get_running_loop()
        self.is_open = True

    def fill(self, number: int, payload: bytes) -> None:
        if not self._done:
            self._loop.call_soon(self._flush)
        self._done.append((number, payload))

    def close(self) -> None:
        self.is_open = False

    def _flush(self) -> None:
        if self.is_open:
            self._writer.write(frame(self._done))
        self._done.clear()


@dataclass(slots=True, eq=False)
class _Asked:
    """A request under way and where its result belongs."""

    row: RequestRow
    call: Call
    place: int
    wait_s: float
    give_up_at_s: float
    num_sent: int = 0


class RemoteExecutor:
    """`SqlExecutor` over a `PoolServer`. Never raises for what the other side does: a server that
    dies is looked for once more, then the requests end as infra faults.

    All callers of a process and loop share one connection.
    """

    def __init__(self, find: Callable[[], Awaitable[str]], *, queue_s: float = QUEUE_S) -> None:
        """
        Args:
            find: returns the name of the server as it runs now. Raises OSError when no server runs.
            queue_s: seconds that an answer may take beyond the limit of its query.
        """
        self._find = find
        self._queue_s = queue_s
        self._links: dict[asyncio.AbstractEventLoop, _Link] = {}

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        """Run the requests, one result for each, in order. Safe to call from many tasks at once."""
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            self._links = {one: link for one, link in self._links.items() if not one.is_closed()}
            link = self._links[loop] = _Link(loop, self._find)
        call = Call(len(requests))
        try:
            for place, request in enumerate(requests):
                link.ask(request, call, place, wait_s=request.limits.timeout_s + self._queue_s)
            return await call.results()
        finally:
            call.close()

    def close(self) -> None:
        """Hang up in the running loop, before it ends; the next request connects again."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            link.close()


class _Link(asyncio.Protocol):
    """The connection of one loop, made when it is needed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, find: Callable[[], Awaitable[str]]) -> None:
        self._loop = loop
        self._find = find
        self._numbers = itertools.count()
        self._under_way: dict[int, _Asked] = {}
        self._unsent: list[_Asked] = []
        self._is_flush_due = False
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reader = FrameReader()
        self._watch: asyncio.TimerHandle | None = None

    def ask(self, request: QueryRequest, call: Call, place: int, *, wait_s: float) -> None:
        number = next(self._numbers)
        asked = _Asked(
            row=request_row(number, request),
            call=call,
            place=place,
            wait_s=wait_s,
            give_up_at_s=self._loop.time() + wait_s,
        )
        self._under_way[number] = asked
        self._send((asked,))
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_EVERY_S, self._look_for_late)

    def close(self) -> None:
        self._under_way.clear()
        self._unsent.clear()
        if self._watch is not None:
            self._watch.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reader = FrameReader()

    def data_received(self, data: bytes) -> None:
        for replies in self._reader.feed(data):
            for number, payload in replies:
                asked = self._under_way.pop(number, None)
                if asked is not None:
                    asked.call.fill(asked.place, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ask again for what the lost server did not answer."""
        self._transport = None
        lost = [asked for asked in self._under_way.values() if asked.num_sent]
        for asked in lost:
            if asked.num_sent == NUM_ATTEMPTS:
                self._fail(asked, "its process died")
        self._send(asked for asked in lost if asked.num_sent < NUM_ATTEMPTS)

    def _send(self, asked: Iterable[_Asked]) -> None:
        self._unsent.extend(asked)
        if self._unsent and not self._is_flush_due:
            # At the end of this loop pass, so that callers of the same moment share a message.
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._transport is None:
            if self._connecting is None:
                self._connecting = self._loop.create_task(self._connect())
            return
        rows: list[RequestRow] = []
        for asked in self._unsent:
            if asked.call.is_open:
                asked.num_sent += 1
                rows.append(asked.row)
            else:
                self._under_way.pop(asked.row[0], None)
        self._unsent.clear()
        for start in range(0, len(rows), MAX_SENT):
            self._transport.write(frame(rows[start : start + MAX_SENT]))

    async def _connect(self) -> None:
        try:
            connection = _connected(await self._find())
            await self._loop.create_unix_connection(lambda: self, sock=connection)
        except OSError as error:
            self._unsent.clear()
            for asked in list(self._under_way.values()):
                self._fail(asked, str(error))
        finally:
            self._connecting = None
        self._send(())

    def _look_for_late(self) -> None:
        self._watch = None
        now_s = self._loop.time()
        for asked in list(self._under_way.values()):
            if now_s >= asked.give_up_at_s:
                self._fail(asked, f"no answer in {asked.wait_s:g} seconds")
        if self._under_way:
            self._watch = self._loop.call_later(WATCH_EVERY_S, self._look_for_late)

    def _fail(self, asked: _Asked, reason: str) -> None:
        del self._under_way[asked.row[0]]
        message = f"the SQL pool cannot be reached: {reason}"
        logger.warning("SQL request fails", extra={"reason": reason})
        fault = failed(QueryStatus.INFRA_FAULT, ErrorKind.POOL_UNREACHABLE, message)
        asked.call.fill(asked.place, encode(fault))
