"""Who waits for results, and what is being run for them.

A call is one `execute_many` of many requests. Each distinct query among all calls becomes one job,
no matter who asks for it; when the job ends, every call that waits for it gets its result in the
right place.

    call A: [q1, q2]      job q1: waiters (A, 0), (B, 1)
    call B: [q3, q1]      job q2: waiters (A, 1)
                          job q3: waiters (B, 0)
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from mtsql.sql.cache import CacheKey
from mtsql.sql.records import QueryResult, ViewText
from mtsql.sql.wire import decode


class Sink(Protocol):
    """What waits for results: a caller in this process, or a connection to another one."""

    @property
    def is_open(self) -> bool:
        """Whether anybody still wants them."""
        ...

    def fill(self, number: int, payload: bytes) -> None: ...


class Call:
    """One `execute_many`: results come in any order and are returned in that of the requests."""

    def __init__(self, num_requests: int) -> None:
        self._payloads: list[bytes] = [b""] * num_requests
        self._num_missing = num_requests
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return not self._future.done()

    def fill(self, number: int, payload: bytes) -> None:
        self._payloads[number] = payload
        self._num_missing -= 1
        if self._num_missing == 0 and self.is_open:
            self._future.set_result(None)

    async def results(self) -> list[QueryResult]:
        """Wait for the last one."""
        if self._num_missing:
            await self._future
        return [decode(payload) for payload in self._payloads]

    def close(self) -> None:
        """Nobody waits any more."""
        self._future.cancel()


@dataclass(slots=True, eq=False)
class Job:
    """One distinct query in flight and everyone who waits for it."""

    job_id: int
    db_id: str
    identity: tuple[int, int]
    key: CacheKey
    views: tuple[ViewText, ...] = ()
    waiters: list[tuple[Sink, int]] = field(default_factory=list[tuple[Sink, int]])
    has_slot: bool = True
    """It counts among those that may be in flight."""
    lost_pids: list[int] = field(default_factory=list[int])
    """Workers that died while running it."""
    lost_at_s: float = 0.0
    """When the first of them died, on the loop's clock."""

    @property
    def timeout_s(self) -> float:
        return self.key[2][0]

    def row(self) -> tuple[Any, ...]:
        """As a worker gets it."""
        _, sql, limits = self.key
        return (self.job_id, self.db_id, self.identity, sql, limits, self.views)

    def is_wanted(self) -> bool:
        return any(sink.is_open for sink, _ in self.waiters)
