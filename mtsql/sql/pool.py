"""Run model-written SQL in killable processes, behind one asyncio call.

    async with LocalPool({"pets": Path("pets.sqlite")}) as pool:
        [result] = await pool.execute_many([QueryRequest(db_id="pets", sql="SELECT 1")])

Two lanes of workers keep long queries out of the way of short ones: every query starts in the quick
lane, whose limits are small; one that meets them starts again in the slow lane under its own
limits. The verdict is the slow lane's, so the lanes change waiting times only. A query that ignores
its limits costs one worker, which is replaced.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mtsql.errors import DataError, MachineError
from mtsql.sql.cache import CacheKey, ResultCache
from mtsql.sql.engine import ErrorKind
from mtsql.sql.lane import TICK_S, Lane
from mtsql.sql.process import Call, Job, WorkerSpec
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus
from mtsql.sql.wire import result_from

QUICK_LIMITS = QueryLimits(timeout_s=0.02, max_vm_steps=500_000)
"""Benchmark queries need far less (0.03 ms at the median); a runaway delays others by 20 ms."""
SLOW_LIMITS = QueryLimits(timeout_s=float("inf"), max_vm_steps=1 << 62)
"""The slow lane adds no limit of its own."""
QUICK_WINDOW = 16
SLOW_WINDOW = 1
MAX_IN_FLIGHT = 512
"""Distinct queries queued or running; further callers wait, so that memory stays bounded."""
MAX_LOSSES = 2
"""Workers that may die under one query before it is given up."""
STAT_EVERY_S = 1.0
"""How long a database file is trusted to be the same one without looking."""
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


@dataclass(slots=True)
class _Database:
    path: Path
    identity: tuple[int, int] = (0, 0)
    checked_s: float = float("-inf")


class LocalPool:
    """Worker processes of this machine for one asyncio loop. Fits `SqlExecutor`.

    `execute_many` never raises for what SQL or a worker does: that is the status of a result.
    Identical queries in flight run once; repeatable results are kept within `cache_bytes`. A cached
    result keeps the values that random() or date('now') had when it ran.
    """

    def __init__(
        self,
        databases: Mapping[str, Path],
        *,
        num_workers: int = 2,
        memory_mb: int = 1024,
        cache_bytes: int = 64_000_000,
    ) -> None:
        """
        Args:
            databases: SQLite files by db_id, or DuckDB files that end in .duckdb; nobody may write
                to them while the pool runs.
            num_workers: processes per lane: so many short and so many long queries run at once.
            memory_mb: address space of one worker, at least 128.
            cache_bytes: approximate size of the result cache; 0 turns it off.
        """
        if num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}; a pool needs at least 1")
        if memory_mb < MIN_MEMORY_MB:
            raise ValueError(f"memory_mb is {memory_mb}; a worker needs at least {MIN_MEMORY_MB}")
        self._databases = {db_id: _Database(path=Path(path)) for db_id, path in databases.items()}
        self._num_workers = num_workers
        self._memory_bytes = memory_mb << 20
        self._cache = ResultCache(cache_bytes)
        self._in_flight: dict[CacheKey, Job] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: list[Lane] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._next_job_id = 0
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
        for db_id, database in self._databases.items():
            if not database.path.is_file():
                raise DataError(
                    f"{database.path}: no such file; database {db_id!r} needs its file here"
                )
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
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
                f"{self._memory_bytes >> 20} MB (memory_mb)"
            )
        self._last_tick_s = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._tick)

    async def close(self) -> None:
        """Kill the workers and wait until they are gone; queries in flight end as infra faults."""
        if self._is_closed or self._loop is None:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        closed = await asyncio.gather(*(lane.close() for lane in self._lanes))
        fault = _fault(ErrorKind.POOL_CLOSED, "the SQL pool was closed")
        for job in [job for jobs in closed for job in jobs]:
            self._finish(job, fault, 0)

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        """Run the requests, one result for each, in order. Safe to call from many tasks at once.

        Cancelling the caller takes back those of its queries that have not begun and that no one
        else waits for.
        """
        results, call = await self._submit(requests)
        if call is not None:
            try:
                await call.future
            finally:
                call.future.cancel()
        return [result for result in results if result is not None]

    async def execute_partly(
        self, requests: Sequence[QueryRequest], *, wait_s: float
    ) -> list[QueryResult | None]:
        """As `execute_many`, but after `wait_s` seconds unfinished results are None.

        Their queries go on: asking again joins them, or finds their results in the cache.
        """
        results, call = await self._submit(requests)
        if call is not None:
            await asyncio.wait([call.future], timeout=wait_s)
        return list(results)

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

    @property
    def used_db_ids(self) -> list[str]:
        """Databases that have been asked for, in registry order."""
        return [db_id for db_id, database in self._databases.items() if database.identity != (0, 0)]

    @property
    def worker_pids(self) -> list[int]:
        return [pid for lane in self._lanes for pid in lane.pids]

    def _lane(self, limits: QueryLimits, window: int) -> Lane:
        return Lane(
            WorkerSpec(
                databases={db_id: database.path for db_id, database in self._databases.items()},
                memory_bytes=self._memory_bytes,
                lane_limits=limits,
            ),
            num_workers=self._num_workers,
            window=window,
            on_reply=self._replied,
            on_overrun=self._overran if limits is SLOW_LIMITS else self._go_slow,
            on_lost=self._lost,
            on_unwanted=self._forget,
            on_broken=self._broken,
        )

    async def _submit(
        self, requests: Sequence[QueryRequest]
    ) -> tuple[list[QueryResult | None], Call | None]:
        """Answer what is known now and queue the rest; no call when nothing is left to wait for."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            raise RuntimeError("start the pool in the loop that uses it: async with LocalPool(...)")
        results: list[QueryResult | None] = [None] * len(requests)
        call: Call | None = None
        try:
            for index, request in enumerate(requests):
                known = self._known(request)
                if isinstance(known, QueryResult):
                    results[index] = known
                    continue
                if call is None:
                    call = Call(results=results, future=loop.create_future(), num_missing=1)
                call.num_missing += 1
                if isinstance(known, Job):
                    self._num_joined += 1
                    known.waiters.append((call, index))
                else:
                    await self._enqueue(known, call, index)
        except asyncio.CancelledError:
            if call is not None:
                call.future.cancel()
            raise
        if call is None:
            return results, None
        # It counted itself as missing, so that it could not end before all its requests were in.
        call.num_missing -= 1
        return results, call if call.num_missing else None

    def _known(self, request: QueryRequest) -> QueryResult | Job | CacheKey:
        """The result if it is known, the job if it is in flight, else the key of a new job."""
        database = self._databases.get(request.db_id)
        if database is None or self._is_closed:
            self._num_rejected += 1
            return self._reject(request.db_id)
        assert self._loop is not None
        now_s = self._loop.time()
        if now_s - database.checked_s > STAT_EVERY_S:
            try:
                facts = database.path.stat()
            except OSError:
                self._num_rejected += 1
                message = f"the file of database {request.db_id!r} is gone"
                return _fault(ErrorKind.DATABASE_UNREADABLE, message)
            database.identity = (facts.st_mtime_ns, facts.st_size)
            database.checked_s = now_s
        key = (request.db_id, database.identity, request.sql, request.limits)
        cached = self._cache.get(key)
        if cached is not None:
            self._num_cached += 1
            return cached
        return self._in_flight.get(key) or key

    def _reject(self, db_id: str) -> QueryResult:
        if self._is_closed:
            return _fault(ErrorKind.POOL_CLOSED, "the SQL pool was closed")
        num_known = len(self._databases)
        message = f"unknown database {db_id!r}: the pool knows {num_known} databases"
        return _fault(ErrorKind.UNKNOWN_DATABASE, message)

    async def _enqueue(self, key: CacheKey, call: Call, index: int) -> None:
        await self._slots.acquire()
        job = self._in_flight.get(key)
        # Either may have happened while we waited for a slot.
        if job is not None or self._is_closed:
            self._slots.release()
            if job is None:
                call.fill(index, self._reject(key[0]))
                return
            self._num_joined += 1
            job.waiters.append((call, index))
            return
        self._next_job_id += 1
        job = Job(job_id=self._next_job_id, key=key, waiters=[(call, index)])
        self._in_flight[key] = job
        self._quick.put((job,))

    def _tick(self) -> None:
        assert self._loop is not None
        now_s = self._loop.time()
        # A loop held up by others has not read its replies yet; that is not the workers' fault.
        awake_s = min(now_s - self._last_tick_s, 2 * TICK_S)
        self._last_tick_s = now_s
        for lane in self._lanes:
            lane.tick(awake_s)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _replied(self, job: Job, row: tuple[Any, ...] | None, num_bytes: int) -> None:
        if row is None:
            self._go_slow(job)
            return
        result = result_from(row)
        self._cache.put(job.key, result, num_bytes)
        self._finish(job, result, num_bytes)

    def _go_slow(self, job: Job) -> None:
        self._num_slow += 1
        self._slow.put((job,))

    def _overran(self, job: Job) -> None:
        message = f"killed: it ran on after its limit of {job.limits.timeout_s:g} seconds"
        result = QueryResult(
            status=QueryStatus.INTERRUPTED,
            kind=ErrorKind.TIMEOUT,
            message=message,
            elapsed_s=job.limits.timeout_s,
        )
        self._finish(job, result, 0)

    def _lost(self, job: Job) -> None:
        job.num_losses += 1
        if job.num_losses < MAX_LOSSES:
            self._quick.put((job,), first=True)
            return
        message = f"{MAX_LOSSES} SQL workers died while running this query"
        self._finish(job, _fault(ErrorKind.WORKER_LOST, message), 0)

    def _broken(self, job: Job) -> None:
        self._finish(job, _fault(ErrorKind.WORKER_LOST, "no SQL worker can be started"), 0)

    def _forget(self, job: Job) -> None:
        del self._in_flight[job.key]
        self._slots.release()

    def _finish(self, job: Job, result: QueryResult, num_bytes: int) -> None:
        self._num_executed += 1
        self._forget(job)
        for call, index in job.waiters:
            call.fill(index, result)


async def hash_databases(databases: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file, off the loop's thread; "missing" for a file that is gone."""
    return await asyncio.to_thread(
        lambda: {db_id: _file_hash(path) for db_id, path in databases.items()}
    )


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"


def _fault(kind: ErrorKind, message: str) -> QueryResult:
    return QueryResult(status=QueryStatus.INFRA_FAULT, kind=kind, message=message)
