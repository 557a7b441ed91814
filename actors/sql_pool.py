"""The SQL pool on Ray: one actor per node owns a `LocalPool`; callers on that node share it.

A Ray call per query is the bottleneck (about 2 k/s), so the client gathers what its callers ask in
the same moment into one call. A batch is answered after `PARTLY_S` at the latest: what is
unfinished then is asked for again by its own caller, so that nobody waits for a stranger's long
query.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtsql.errors import MachineError, UserError
from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool, PoolStats, hash_databases
from mtsql.sql.records import QueryRequest, QueryResult, QueryStatus
from mtsql.sql.wire import dump, load, request_from, request_row, result_from, result_row

PARTLY_S = 0.02
"""The quick lane's limit: nearly every query is done by then."""
GATHER_S = 0.001
"""How long a batch waits for company while another is under way; without one it leaves at once."""
MAX_BATCH = 256
"""Requests in one Ray call."""
MAX_CALLS = 1000
"""Ray calls that one actor answers at once; its pool bounds what runs."""
QUEUE_S = 120.0
"""Allowance for waiting behind other long queries, on top of the longest limit in the call."""
NUM_ATTEMPTS = 2
NAME_WAIT_S = 10.0
"""How long an actor of an earlier run may take to give up its name."""


class SqlPool:
    """Owns the worker processes of one node. A restarted actor starts a new pool."""

    def __init__(self, databases: Mapping[str, Path], options: Mapping[str, int]) -> None:
        self._databases = {db_id: Path(path) for db_id, path in databases.items()}
        self._options = dict(options)
        self._start: asyncio.Task[LocalPool] | None = None
        self._hashes: asyncio.Task[dict[str, str]] | None = None

    async def ready(self) -> None:
        """Return once the pool runs. Raises DataError or MachineError when it cannot."""
        await self._pool()

    async def execute_many(self, requests: bytes) -> bytes:
        """`LocalPool.execute_many`, both ways in the form of `mtsql.sql.wire`."""
        pool = await self._pool()
        results = await pool.execute_many([request_from(row) for row in load(requests)])
        return dump([result_row(result) for result in results])

    async def execute_partly(self, requests: bytes) -> bytes:
        """`LocalPool.execute_partly` with `PARTLY_S`."""
        pool = await self._pool()
        rows = load(requests)
        results = await pool.execute_partly([request_from(row) for row in rows], wait_s=PARTLY_S)
        return dump([None if result is None else result_row(result) for result in results])

    async def stats(self) -> PoolStats:
        return (await self._pool()).stats()

    async def worker_pids(self) -> list[int]:
        return (await self._pool()).worker_pids

    async def check_integrity(self) -> list[str]:
        """Ids of the used databases whose files are not those of the actor's start."""
        pool = await self._pool()
        assert self._hashes is not None
        at_start = await self._hashes
        now = await hash_databases({db_id: self._databases[db_id] for db_id in pool.used_db_ids})
        return [db_id for db_id, digest in now.items() if digest != at_start[db_id]]

    async def _pool(self) -> LocalPool:
        if self._start is None:  # not in __init__: it does not run in the actor's loop
            self._hashes = asyncio.create_task(hash_databases(self._databases))
            self._start = asyncio.create_task(self._started())
        return await asyncio.shield(self._start)

    async def _started(self) -> LocalPool:
        pool = LocalPool(self._databases, **self._options)
        await pool.start()
        return pool


SqlPoolActor = ray.remote(num_cpus=0)(SqlPool)


def start_sql_pools(
    databases: Mapping[str, Path],
    *,
    namespace: str,
    num_workers: int = 2,
    memory_mb: int = 1024,
    cache_bytes: int = 64_000_000,
) -> list[Any]:
    """Start one pool on each node that is alive now and wait until all run; blocks.

    The pools live as long as the actor handles that it returns: keep them. Every node must see the
    database files under the same paths. Arguments as for `LocalPool`.

    Raises:
        DataError: a database file is missing on a node.
        MachineError: no worker starts, or another run holds the names in this namespace.
    """
    options = {"num_workers": num_workers, "memory_mb": memory_mb, "cache_bytes": cache_bytes}
    files = {db_id: Path(path).absolute() for db_id, path in databases.items()}
    actors: list[Any] = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        name = actor_name(node["NodeID"])
        _wait_for_name(name, namespace)
        actor = SqlPoolActor.options(
            name=name,
            namespace=namespace,
            max_restarts=-1,
            max_task_retries=1,
            max_concurrency=MAX_CALLS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(files, options)
        actors.append(actor)
    try:
        ray.get([actor.ready.remote() for actor in actors])
    except RayTaskError as error:
        for actor in actors:
            ray.kill(actor)
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    return actors


def actor_name(node_id: str) -> str:
    return f"mtsql_sql_{node_id[:8]}"


def sql_client(namespace: str) -> "RaySqlExecutor":
    """The pool of the caller's node; all callers of one process share one client, and so batches.

    Raises MachineError when no pool was started on this node.
    """
    return _client(namespace, ray.get_runtime_context().get_node_id())


@lru_cache(maxsize=8)
def _client(namespace: str, node_id: str) -> "RaySqlExecutor":
    try:
        return RaySqlExecutor(ray.get_actor(actor_name(node_id), namespace=namespace))
    except ValueError:
        raise MachineError(
            f"no SQL pool on node {node_id[:8]} in namespace {namespace!r}: "
            "call start_sql_pools once all nodes have joined"
        ) from None


def _wait_for_name(name: str, namespace: str) -> None:
    """Actors of a finished run vanish a moment after their owner; a live one is someone else's."""
    give_up_s = time.monotonic() + NAME_WAIT_S
    while True:
        try:
            ray.get_actor(name, namespace=namespace)
        except ValueError:
            return
        if time.monotonic() > give_up_s:
            raise MachineError(
                f"another run holds the SQL pool {name!r} in namespace {namespace!r}: "
                "end it, or start this run in another Ray namespace"
            )
        time.sleep(0.1)


class _Batch:
    """Requests of several callers that travel in one call; the task gives all their results."""

    def __init__(self) -> None:
        self.requests: list[QueryRequest] = []
        self.task: asyncio.Task[list[QueryResult | None]] | None = None


class RaySqlExecutor:
    """`SqlExecutor` over one pool actor. Never raises for what the cluster does: an actor that dies
    is asked once more, then the requests end as infra faults.
    """

    def __init__(self, actor: ActorHandle, *, queue_s: float = QUEUE_S) -> None:
        """
        Args:
            queue_s: seconds that a call may take beyond the longest query limit in it.
        """
        self.actor = actor
        self._queue_s = queue_s
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batch] = WeakKeyDictionary()
        self._num_under_way = 0

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        """Run the requests, one result for each, in order. Safe to call from many tasks at once."""
        results: list[QueryResult | None] = []
        for start in range(0, len(requests), MAX_BATCH):
            results += await self._join_batch(requests[start : start + MAX_BATCH])
        late = [index for index, result in enumerate(results) if result is None]
        if late:
            answers = await self._call(
                self.actor.execute_many.remote, [requests[index] for index in late]
            )
            for index, answer in zip(late, answers, strict=True):
                results[index] = answer
        return [result for result in results if result is not None]

    async def _join_batch(self, requests: Sequence[QueryRequest]) -> list[QueryResult | None]:
        loop = asyncio.get_running_loop()
        batch = self._open.get(loop)
        if batch is None or len(batch.requests) + len(requests) > MAX_BATCH:
            batch = _Batch()
            self._open[loop] = batch
            batch.task = loop.create_task(self._send(loop, batch))
        assert batch.task is not None
        start = len(batch.requests)
        batch.requests += requests
        # Shielded: one cancelled caller must not take the others' results with it.
        results = await asyncio.shield(batch.task)
        return results[start : start + len(requests)]

    async def _send(
        self, loop: asyncio.AbstractEventLoop, batch: _Batch
    ) -> list[QueryResult | None]:
        if self._num_under_way:
            await asyncio.sleep(GATHER_S)
        if self._open.get(loop) is batch:
            del self._open[loop]
        self._num_under_way += 1
        try:
            return await self._call(self.actor.execute_partly.remote, batch.requests)
        finally:
            self._num_under_way -= 1

    async def _call(
        self, remote: Callable[[bytes], Awaitable[bytes]], requests: Sequence[QueryRequest]
    ) -> list[QueryResult | None]:
        """One call to the actor, repeated once if the actor dies under it."""
        deadline_s = max(request.limits.timeout_s for request in requests) + self._queue_s
        payload = dump([request_row(request) for request in requests])
        fault = ""
        for _ in range(NUM_ATTEMPTS):
            try:
                reply = await asyncio.wait_for(remote(payload), deadline_s)
                return [None if row is None else result_from(row) for row in load(reply)]
            except TimeoutError:
                fault = f"no answer in {deadline_s:g} seconds"
                break
            except RayError as error:
                fault = type(error).__name__  # its text holds host paths
                _client.cache_clear()  # a pool started since then is found by the next sql_client
        result = QueryResult(
            status=QueryStatus.INFRA_FAULT,
            kind=ErrorKind.POOL_UNREACHABLE,
            message=f"the SQL pool cannot be reached: {fault}",
        )
        return [result] * len(requests)
