"""The SQL pool on Ray: one actor per node owns a `LocalPool`; callers on that node share it.

Ray places, names and restarts the actor. Queries do not travel through Ray: clients connect to the
actor's socket (`mtsql.sql.remote`), which answers 2 to 7 times as many a second.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import log
from mtsql.errors import DataError, MachineError, UserError
from mtsql.sql.pool import LocalPool, PoolStats
from mtsql.sql.registry import absolute
from mtsql.sql.remote import QUEUE_S, PoolServer, RemoteExecutor

logger = logging.getLogger(__name__)

NAME_WAIT_S = 10.0


class SqlPool:
    """Owns the worker processes of one node. A restarted actor starts a new pool."""

    def __init__(self, databases: Mapping[str, str | Path], options: Mapping[str, int]) -> None:
        log.follow()
        self._databases = dict(databases)
        self._options: dict[str, Any] = dict(options)
        self._start: asyncio.Task[tuple[LocalPool, str]] | None = None

    async def name(self) -> str:
        """The socket on which the pool answers, once it runs.

        Raises DataError or MachineError when it cannot.
        """
        return (await self._started())[1]

    async def stats(self) -> PoolStats:
        return (await self._started())[0].stats()

    async def worker_pids(self) -> list[int]:
        return (await self._started())[0].worker_pids

    async def changed_databases(self, *, rehash: bool = True) -> dict[str, str]:
        """As `LocalPool.changed_databases`."""
        return await (await self._started())[0].changed_databases(rehash=rehash)

    async def _started(self) -> tuple[LocalPool, str]:
        if self._start is None:  # not in __init__: it does not run in the actor's loop
            self._start = asyncio.create_task(self._run())
        return await asyncio.shield(self._start)

    async def _run(self) -> tuple[LocalPool, str]:
        pool = LocalPool(self._databases, **self._options)
        await pool.start()
        self._server = PoolServer(pool)
        name = await self._server.start()
        logger.info("SQL pool listens", extra={"databases": len(self._databases)} | self._options)
        return pool, name


SqlPoolActor = ray.remote(num_cpus=0)(SqlPool)


def start_sql_pools(
    databases: Mapping[str, str | Path],
    *,
    namespace: str,
    num_workers: int = 2,
    memory_mb: int = 1024,
    cache_bytes: int = 64_000_000,
    name_wait_s: float = NAME_WAIT_S,
) -> list[Any]:
    """Start one pool on each node that is alive now and wait until all run; blocks.

    The pools live as long as the actor handles that it returns: keep them. Every node must see the
    database files under the same paths. Other arguments as for `LocalPool`.

    Args:
        name_wait_s: how long an actor of an earlier run may take to give up its name.

    Raises:
        DataError: a database file is missing on a node.
        MachineError: no worker starts, or another run holds the names in this namespace.
    """
    options = {"num_workers": num_workers, "memory_mb": memory_mb, "cache_bytes": cache_bytes}
    addresses = {db_id: absolute(address) for db_id, address in databases.items()}
    actors: list[Any] = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        name = actor_name(node["NodeID"])
        _wait_for_name(name, namespace, name_wait_s)
        actor = SqlPoolActor.options(
            name=name,
            namespace=namespace,
            max_restarts=-1,
            max_task_retries=1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(addresses, options)
        actors.append(actor)
    try:
        ray.get([actor.name.remote() for actor in actors])
    except RayTaskError as error:
        for actor in actors:
            ray.kill(actor)
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    return actors


def actor_name(node_id: str) -> str:
    return f"mtsql_sql_{node_id[:8]}"


def sql_client(namespace: str) -> RemoteExecutor:
    """The pool of the caller's node; all callers of one process share one client, and so messages.

    Raises MachineError when no pool was started on this node.
    """
    return _client(namespace, ray.get_runtime_context().get_node_id())


@lru_cache(maxsize=8)
def _client(namespace: str, node_id: str) -> RemoteExecutor:
    try:
        return client_of(ray.get_actor(actor_name(node_id), namespace=namespace))
    except ValueError:
        raise MachineError(
            f"no SQL pool on node {node_id[:8]} in namespace {namespace!r}: "
            "call start_sql_pools once all nodes have joined"
        ) from None


def client_of(actor: Any, *, queue_s: float = QUEUE_S) -> RemoteExecutor:  # noqa: ANN401 - Ray's handles are untyped
    """A client of one pool actor on this node. Arguments as for `RemoteExecutor`."""

    async def find() -> str:
        try:
            return await actor.name.remote()
        except RayError as error:
            logger.warning("SQL pool is away", extra={"error": type(error).__name__})
            _client.cache_clear()  # a pool started since then is found by the next sql_client
            raise ConnectionError(type(error).__name__) from error  # its text holds host paths

    return RemoteExecutor(find, queue_s=queue_s)


def require_unchanged(namespace: str) -> None:
    """Ask the pools of all nodes; blocks for a moment, since no file is read that looks the same.

    Raises DataError with the name of a database file that has changed since its first query.
    """
    actors: list[Any] = []
    for node in ray.nodes():
        if node["Alive"]:
            with suppress(ValueError):  # it joined after the pools were started
                actors.append(ray.get_actor(actor_name(node["NodeID"]), namespace=namespace))
    for changed in ray.get([actor.changed_databases.remote(rehash=False) for actor in actors]):
        for path in changed.values():
            logger.error("database changed", extra={"database": path})
            raise DataError(f"{path}: changed while the run used it; bring the old file back")


def _wait_for_name(name: str, namespace: str, wait_s: float) -> None:
    """Actors of a finished run vanish a moment after their owner; a live one is someone else's."""
    give_up_s = time.monotonic() + wait_s
    while True:
        try:
            ray.get_actor(name, namespace=namespace)
        except ValueError:
            return
        if time.monotonic() > give_up_s:
            logger.error("name of the SQL pool is taken", extra={"pool": name})
            raise MachineError(
                f"another run holds the SQL pool {name!r} in namespace {namespace!r}: "
                "end it, or start this run in another Ray namespace"
            )
        time.sleep(0.1)
