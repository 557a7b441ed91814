"""A group of workers that share one queue and one idea of how long a query may take.

As on a motorway, the slow ones have their own lane. A pool has two: every query starts in the
quick lane, whose limits are a few milliseconds; one that meets them starts again in the slow lane,
where only its own limits hold. So a hundred short queries never queue behind one long one, and no
verdict depends on the lane. A lane decides who gets which job, who is killed and who is replaced;
`mtsql.sql.process` carries it out.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from mtsql.sql.calls import Job
from mtsql.sql.process import WorkerProcess, WorkerSpec

logger = logging.getLogger(__name__)

GRACE_S = 1.0
"""How far a worker may overrun a soft limit before it is killed."""
OPEN_WITHIN_S = 10.0
"""A server's driver must be loaded and connected; files take milliseconds."""
TICK_S = 0.05
"""How often running queries are looked at."""
MAX_START_FAILURES = 3
"""Starts in a row that may fail before queued jobs are given up."""
MAX_BACKOFF_S = 5.0


class Lane:
    """Hands queued jobs to its workers, kills those that overrun, replaces those that die.

    A worker holds up to `window` jobs, so that it never waits for the pool between two short
    queries; it is refilled when half are answered, so that jobs travel in batches. A lane for long
    queries has window 1: nothing waits behind.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        num_workers: int,
        window: int,
        max_backoff_s: float = MAX_BACKOFF_S,
        on_reply: Callable[[Job, bytes | None, bool], None],
        on_overrun: Callable[[Job], None],
        on_lost: Callable[[Job, int], None],
        on_unwanted: Callable[[Job], None],
        on_broken: Callable[[Job], None],
    ) -> None:
        """Every job put in leaves through exactly one callback.

        on_reply: the worker answered: the payload (None when the job needs a longer lane), and
            whether it would end so again.
        on_overrun: the worker ran past soft limit + `GRACE_S` and was killed.
        on_lost: the worker, of that process id, died while running it, or could not open its
            database in time.
        on_unwanted: every caller was cancelled before it ran.
        on_broken: no worker can be started.
        """
        self._spec = spec
        self._num_workers = num_workers
        self._window = window
        self._refill_at = window // 2
        self._max_backoff_s = max_backoff_s
        self._on_reply = on_reply
        self._on_overrun = on_overrun
        self._on_lost = on_lost
        self._on_unwanted = on_unwanted
        self._on_broken = on_broken
        self._queue: deque[Job] = deque()
        self._workers: list[WorkerProcess] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_dispatch_due = False
        self._num_start_failures = 0
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self.num_killed = 0
        self.num_lost = 0

    @property
    def _is_closed(self) -> bool:
        return self._closing.is_set()

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers if worker.is_ready]

    @property
    def is_broken(self) -> bool:
        return self._num_start_failures >= MAX_START_FAILURES and not any(
            worker.is_ready for worker in self._workers
        )

    async def start(self) -> bool:
        """Start all workers; False when they cannot be started."""
        for _ in range(self._num_workers):
            self._spawn(delay_s=0.0)
        while len(self.pids) < self._num_workers and not self.is_broken:
            self._changed.clear()
            await self._changed.wait()
        return not self.is_broken

    async def close(self) -> list[Job]:
        """Kill the workers, wait until they are gone, and return the unanswered jobs."""
        self._closing.set()
        workers = list(self._workers)
        jobs = [*self._queue, *(job for worker in workers for job in worker.outstanding)]
        self._queue.clear()
        for worker in workers:
            worker.outstanding.clear()
            worker.kill()
        await asyncio.gather(*(worker.gone() for worker in workers))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return jobs

    def put(self, jobs: Iterable[Job], *, first: bool = False) -> None:
        """Queue jobs, in their order; `first` for those that a lost worker leaves behind."""
        if first:
            self._queue.extendleft(reversed(list(jobs)))
        else:
            self._queue.extend(jobs)
        if not self._is_dispatch_due:
            # At the end of this loop pass, so that callers of the same moment share a message.
            self._is_dispatch_due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def tick(self, awake_s: float) -> None:
        """Age what runs by `awake_s` and kill what overran."""
        for worker in list(self._workers):
            if not worker.outstanding or worker.is_killed:
                continue
            worker.head_age_s += awake_s
            soft_limit_s = min(worker.outstanding[0].timeout_s, self._spec.lane_limits.timeout_s)
            limit_s = OPEN_WITHIN_S if worker.is_opening else soft_limit_s + GRACE_S
            if worker.head_age_s > limit_s:
                self.num_killed += 1
                age_s = round(worker.head_age_s, 2)
                what = {"worker": worker.pid, "age_s": age_s, "limit_s": limit_s}
                logger.warning("worker killed", extra=what)
                worker.kill()

    def _dispatch(self) -> None:
        self._is_dispatch_due = False
        if self.is_broken:
            while self._queue:
                self._on_broken(self._queue.popleft())
        open_workers = sorted(
            (worker for worker in self._workers if self._has_room(worker)),
            key=lambda worker: len(worker.outstanding),
        )
        for place, worker in enumerate(open_workers):
            share = -(-len(self._queue) // (len(open_workers) - place))
            jobs: list[Job] = []
            while self._queue and len(jobs) < min(share, self._window - len(worker.outstanding)):
                job = self._queue.popleft()
                if job.is_wanted():
                    jobs.append(job)
                else:
                    self._on_unwanted(job)
            if jobs:
                worker.send(jobs)

    def _has_room(self, worker: WorkerProcess) -> bool:
        is_up = worker.is_ready and not worker.is_killed
        return is_up and len(worker.outstanding) <= self._refill_at

    def _spawn(self, *, delay_s: float) -> None:
        worker = WorkerProcess(
            self._spec,
            on_ready=self._worker_ready,
            on_reply=self._worker_replied,
            on_lost=self._worker_lost,
        )
        self._workers.append(worker)
        self._run(self._start_worker(worker, delay_s))

    async def _start_worker(self, worker: WorkerProcess, delay_s: float) -> None:
        if delay_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), delay_s)
        if self._is_closed:
            return
        try:
            await worker.start()
        except OSError:
            self._worker_lost(worker)
            return
        if self._is_closed:
            worker.kill()
            await worker.gone()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._tasks.discard)

    def _worker_ready(self, worker: WorkerProcess) -> None:
        self._num_start_failures = 0
        logger.debug("worker ready", extra={"worker": worker.pid})
        self._changed.set()
        self.put(())

    def _worker_replied(
        self, worker: WorkerProcess, job: Job, payload: bytes | None, is_repeatable: bool
    ) -> None:
        self._on_reply(job, payload, is_repeatable)
        if self._queue and self._has_room(worker):
            self.put(())

    def _worker_lost(self, worker: WorkerProcess) -> None:
        """A worker is gone: settle its running job, requeue the waiting ones, start a new one."""
        self._workers.remove(worker)
        if self._is_closed:
            return
        self._run(worker.gone())
        if worker.is_ready and not worker.is_killed:
            self.num_lost += 1
            logger.warning("worker lost", extra={"worker": worker.pid})
        if worker.outstanding:
            head = worker.outstanding.popleft()
            if worker.is_killed and not worker.is_opening:
                self._on_overrun(head)
            else:
                self._on_lost(head, worker.pid)
        delay_s = 0.0
        if not worker.is_ready:
            self._num_start_failures += 1
            what = {"failures": self._num_start_failures}
            logger.error("worker does not start", extra=what)
            delay_s = min(0.1 * 2**self._num_start_failures, self._max_backoff_s)
            self._changed.set()
        logger.info("worker replaced", extra={"delay_s": delay_s})
        self._spawn(delay_s=delay_s)
        self.put(worker.outstanding, first=True)
