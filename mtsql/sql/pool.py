"""Run model-written SQL in killable processes, behind one asyncio call.

    async with LocalPool({"pets": Path("pets.sqlite")}) as pool:
        [result] = await pool.execute_many([QueryRequest(db_id="pets", sql="SELECT 1")])

Two lanes of workers keep long queries out of the way of short ones: every query starts in the quick
lane, whose limits are small; one that meets them starts again in the slow lane under its own
limits. The verdict is the slow lane's, so the lanes change waiting times only. A query that ignores
its limits costs one worker, which is replaced.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mtsql.errors import MachineError
from mtsql.sql.cache import CacheKey, ResultCache, normalise
from mtsql.sql.calls import Call, Job, Sink
from mtsql.sql.engine import ENGINE_CRASH, ErrorKind, failed
from mtsql.sql.lane import MAX_BACKOFF_S, TICK_S, Lane
from mtsql.sql.process import Template, WorkerSpec
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus, ViewText
from mtsql.sql.registry import LOOK_EVERY_S, Database
from mtsql.sql.wire import RequestRow, encode, request_row

logger = logging.getLogger(__name__)

QUICK_LIMITS = QueryLimits(timeout_s=0.02, max_vm_steps=500_000)
"""Benchmark queries need far less (0.03 ms at the median); a runaway delays others by 20 ms."""
SLOW_LIMITS = QueryLimits(timeout_s=float("inf"), max_vm_steps=1 << 62)
"""The slow lane adds no further limit."""
QUICK_WINDOW = 8
"""More saves messages; fewer leaves fewer queries behind one that takes its 20 ms."""
SLOW_WINDOW = 1
MAX_IN_FLIGHT = 512
MAX_LOSSES = 2
"""Workers that may die under one query before it is given up."""
ONE_EVENT_S = 0.25
"""Workers often die together (a kill of all, a kernel short of memory), and some are noticed late:
until then a query may lose every worker there is."""
MIN_MEMORY_MB = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Counts since the start."""

    num_executed: int
    """Distinct queries that a worker (or its death) settled."""
    num_cached: int
    """Requests answered from the cache."""
    num_joined: int
    """Requests that found the same query in flight."""
    num_rejected: int
    """Requests for a database that the pool does not have, or after its end."""
    num_slow: int
    """Queries that went on to the slow lane."""
    num_killed: int
    """Workers killed because a query ignored its limits."""
    num_lost: int
    """Workers that died by themselves or by another's hand."""
    num_in_flight: int
    num_cache_entries: int
    num_cache_bytes: int


class LocalPool:
    """Worker processes of this machine for one asyncio loop. Fits `SqlExecutor`.

    `execute_many` never raises for what SQL or a worker does: that is the status of a result.
    Identical queries in flight run once; repeatable results are kept within `cache_bytes`. A cached
    result keeps the values that random() or date('now') had when it ran.
    """

    def __init__(
        self,
        databases: Mapping[str, str | Path],
        *,
        num_workers: int = 2,
        memory_mb: int = 1024,
        cache_bytes: int = 64_000_000,
        max_in_flight: int = MAX_IN_FLIGHT,
        look_every_s: float = LOOK_EVERY_S,
        max_backoff_s: float = MAX_BACKOFF_S,
        template: Template | None = None,
    ) -> None:
        """
        Args:
            databases: by db_id, SQLite files, DuckDB files that end in .duckdb, or SQLAlchemy URLs;
                no one may write to them while the pool runs.
            num_workers: processes per lane: so many short and so many long queries run at once.
            memory_mb: address space of one worker, at least 128.
            cache_bytes: approximate size of the result cache; 0 turns it off.
            max_in_flight: distinct queries queued or running in each lane; further callers wait, so
                that memory stays bounded. A query that goes slow makes room in the quick lane: long
                ones must not keep out others.
            look_every_s: how long a database file is trusted to be the same one without looking.
            max_backoff_s: between two tries to start a worker.
            template: where workers are forked from; None: a process made for `memory_mb`.
        """
        if num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}; a pool needs at least 1")
        if memory_mb < MIN_MEMORY_MB:
            raise ValueError(f"memory_mb is {memory_mb}; a worker needs at least {MIN_MEMORY_MB}")
        self._databases = {
            db_id: Database(db_id, address, look_every_s=look_every_s)
            for db_id, address in databases.items()
        }
        self._num_workers = num_workers
        self._max_in_flight = max_in_flight
        self._max_backoff_s = max_backoff_s
        self._template = template or Template(memory_mb << 20)
        self._memory_mb = memory_mb
        self._cache = ResultCache(cache_bytes)
        self._in_flight: dict[CacheKey, Job] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: list[Lane] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._next_job_id = 0
        self._num_without_slot = 0
        self._num_executed = 0
        self._num_cached = 0
        self._num_joined = 0
        self._num_rejected = 0
        self._num_slow = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the workers.

        Raises:
            DataError: a database file is missing.
            MachineError: no worker starts.
        """
        assert self._loop is None, "a pool is started once"
        for database in self._databases.values():
            database.require()
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(self._max_in_flight)
        self._quick = self._lane(QUICK_LIMITS, QUICK_WINDOW)
        self._slow = self._lane(SLOW_LIMITS, SLOW_WINDOW)
        self._lanes = [self._quick, self._slow]
        is_up = False
        try:
            is_up = all(await asyncio.gather(*(lane.start() for lane in self._lanes)))
        finally:  # also when the start is cancelled
            if not is_up:
                await self.close()
        if not is_up:
            raise MachineError(
                "SQL workers do not start: see the lines above, or give them more than "
                f"{self._memory_mb} MB (memory_mb)"
            )
        what = {"workers": self.worker_pids, "databases": len(self._databases)}
        logger.info("SQL pool starts", extra=what)
        self._last_tick_s = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._tick)

    async def close(self) -> None:
        """Kill the workers and wait until they are gone; queries in flight end as infra faults."""
        if self._is_closed or self._loop is None:
            return
        self._is_closed = True
        logger.info("SQL pool ends", extra=asdict(self.stats()))
        if self._timer is not None:
            self._timer.cancel()
        closed = await asyncio.gather(*(lane.close() for lane in self._lanes))
        self._template.close()
        fault = encode(_fault(ErrorKind.POOL_CLOSED, "the SQL pool was closed"))
        for job in [job for jobs in closed for job in jobs]:
            self._finish(job, fault)

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        """Run the requests, one result for each, in order. Safe to call from many tasks at once.

        Cancelling the caller takes back those of its queries that have not begun and that no one
        else waits for.
        """
        call = Call(len(requests))
        try:
            await self.submit([request_row(n, one) for n, one in enumerate(requests)], call)
            return await call.results()
        finally:
            call.close()

    async def submit(self, requests: Iterable[RequestRow], sink: Sink) -> None:
        """Hand each result to `sink` under its request's number, those already known at once.

        Waits while too many queries are in flight: a caller that submits no more until this returns
        cannot make the pool's memory grow.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            raise RuntimeError("start the pool in the loop that uses it: async with LocalPool(...)")
        for number, db_id, sql, limits, views in requests:
            database = self._databases.get(db_id)
            if database is None or self._is_closed:
                self._num_rejected += 1
                sink.fill(number, encode(self._reject(db_id)))
                continue
            if loop.time() >= database.look_at_s:
                await database.look(loop.time())
            if database.fault is not None:
                self._num_rejected += 1
                sink.fill(number, encode(database.fault))
                continue
            key = (database.digest, normalise(sql), limits)
            payload = self._cache.get(key)
            if payload is not None:
                self._num_cached += 1
                sink.fill(number, payload)
            else:
                await self._join(key, database, sink, number, views)

    def stats(self) -> PoolStats:
        return PoolStats(
            num_executed=self._num_executed,
            num_cached=self._num_cached,
            num_joined=self._num_joined,
            num_rejected=self._num_rejected,
            num_slow=self._num_slow,
            num_killed=sum(lane.num_killed for lane in self._lanes),
            num_lost=sum(lane.num_lost for lane in self._lanes),
            num_in_flight=len(self._in_flight),
            num_cache_entries=len(self._cache),
            num_cache_bytes=self._cache.num_bytes,
        )

    async def changed_databases(self, *, rehash: bool = True) -> dict[str, str]:
        """Files, by db_id, that are gone or not what they were at their first query.

        Only of databases that have been used; what a server holds is not looked at.

        Args:
            rehash: read each file again; otherwise only those whose time or size differ.
        """
        used = [one for one in self._databases.values() if one.path is not None and one.digest]
        for database in used:
            if rehash:
                database.identity = (0, 0)
            database.look_at_s = float("-inf")
            await database.look(asyncio.get_running_loop().time())
        return {one.db_id: one.address for one in used if one.fault is not None}

    @property
    def worker_pids(self) -> list[int]:
        return [pid for lane in self._lanes for pid in lane.pids]

    def _lane(self, limits: QueryLimits, window: int) -> Lane:
        return Lane(
            WorkerSpec(
                addresses={db_id: one.address for db_id, one in self._databases.items()},
                template=self._template,
                lane_limits=limits,
            ),
            num_workers=self._num_workers,
            window=window,
            max_backoff_s=self._max_backoff_s,
            on_reply=self._replied,
            on_overrun=self._overran if limits is SLOW_LIMITS else self._go_slow,
            on_lost=self._lost,
            on_unwanted=self._forget,
            on_broken=self._broken,
        )

    def _reject(self, db_id: str) -> QueryResult:
        if self._is_closed:
            return _fault(ErrorKind.POOL_CLOSED, "the SQL pool was closed")
        num_known = len(self._databases)
        message = f"unknown database {db_id!r}: the pool knows {num_known} databases"
        return _fault(ErrorKind.UNKNOWN_DATABASE, message)

    async def _join(
        self,
        key: CacheKey,
        database: Database,
        sink: Sink,
        number: int,
        views: tuple[ViewText, ...],
    ) -> None:
        """Wait with others for the query if it is in flight, else queue it."""
        job = self._in_flight.get(key)
        if job is None:
            await self._slots.acquire()
            # Either may have happened while we waited for a slot.
            job = self._in_flight.get(key)
            if job is None and not self._is_closed:
                self._next_job_id += 1
                job = Job(
                    job_id=self._next_job_id,
                    db_id=database.db_id,
                    identity=database.identity,
                    key=key,
                    views=views,
                    waiters=[(sink, number)],
                )
                self._in_flight[key] = job
                self._quick.put((job,))
                return
            self._slots.release()
        if job is None:
            sink.fill(number, encode(self._reject(database.db_id)))
        else:
            self._num_joined += 1
            job.waiters.append((sink, number))

    def _tick(self) -> None:
        assert self._loop is not None
        now_s = self._loop.time()
        # A loop held up by others has not read its replies yet; that is not the workers' fault.
        awake_s = min(now_s - self._last_tick_s, 2 * TICK_S)
        self._last_tick_s = now_s
        for lane in self._lanes:
            lane.tick(awake_s)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _replied(self, job: Job, payload: bytes | None, is_repeatable: bool) -> None:
        if payload is None:
            self._go_slow(job)
            return
        if is_repeatable:
            self._cache.put(job.key, payload)
        self._finish(job, payload)

    def _go_slow(self, job: Job) -> None:
        logger.debug("query goes slow", extra={"database": job.db_id})
        self._num_slow += 1
        if self._num_without_slot < self._max_in_flight:
            job.has_slot = False
            self._num_without_slot += 1
            self._slots.release()
        self._slow.put((job,))

    def _overran(self, job: Job) -> None:
        what = {"database": job.db_id, "timeout_s": job.timeout_s}
        logger.warning("query killed with its worker", extra=what)
        message = f"killed: it ran on after its limit of {job.timeout_s:g} seconds (sql.timeout_s)"
        result = QueryResult(
            status=QueryStatus.INTERRUPTED,
            kind=ErrorKind.TIMEOUT,
            message=message,
            elapsed_s=job.timeout_s,
        )
        self._finish(job, encode(result))

    def _lost(self, job: Job, pid: int) -> None:
        assert self._loop is not None
        if not job.lost_pids:
            job.lost_at_s = self._loop.time()
        job.lost_pids.append(pid)
        is_one_event = self._loop.time() - job.lost_at_s < ONE_EVENT_S
        num_losses = len(job.lost_pids)
        if num_losses < MAX_LOSSES or (is_one_event and num_losses <= 2 * self._num_workers):
            self._quick.put((job,), first=True)
        elif any(map(self._template.has_crashed, job.lost_pids)):
            logger.warning("query crashes the engine", extra={"database": job.db_id})
            # Else a model could stay unscored at will.
            payload = encode(failed(QueryStatus.ERROR, ErrorKind.OTHER, ENGINE_CRASH))
            self._cache.put(job.key, payload)
            self._finish(job, payload)
        else:
            message = f"{num_losses} SQL workers died while running this query"
            logger.error("query given up", extra={"database": job.db_id, "losses": num_losses})
            self._finish(job, encode(_fault(ErrorKind.WORKER_LOST, message)))

    def _broken(self, job: Job) -> None:
        logger.error("query without a worker", extra={"database": job.db_id})
        fault = _fault(ErrorKind.WORKER_LOST, "no SQL worker can be started")
        self._finish(job, encode(fault))

    def _forget(self, job: Job) -> None:
        del self._in_flight[job.key]
        if job.has_slot:
            self._slots.release()
        else:
            self._num_without_slot -= 1

    def _finish(self, job: Job, payload: bytes) -> None:
        self._num_executed += 1
        self._forget(job)
        for sink, number in job.waiters:
            sink.fill(number, payload)


def _fault(kind: ErrorKind, message: str) -> QueryResult:
    return failed(QueryStatus.INFRA_FAULT, kind, message)
