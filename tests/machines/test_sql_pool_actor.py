"""The SQL pool behind a real Ray: many callers, faults as data, restart, integrity."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from actors.sql_pool import client_of, require_unchanged, sql_client, start_sql_pools  # noqa: E402
from mtsql.errors import DataError, MachineError  # noqa: E402
from mtsql.sql.engine import ErrorKind  # noqa: E402
from mtsql.sql.records import QueryLimits, QueryRequest  # noqa: E402

# Ray leaves sockets and log files to the garbage collector when it shuts down.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
NAMESPACE = "mtsql_test_sql_pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    actor: Any
    database: Path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Ray of two CPU slots with one pool, and a database of 300 pets."""
    database = tmp_path_factory.mktemp("sql_pool") / "pets.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO pet VALUES (?, ?)", [(n, f"p{n}") for n in range(300)])
    connection.close()
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    actors = start_sql_pools({"pets": database}, namespace=NAMESPACE, num_workers=1)
    yield Cluster(actor=actors[0], database=database)
    for actor in actors:
        ray.kill(actor)
    if is_ours:
        ray.shutdown()


def ask(sql: str, **limits: Any) -> QueryRequest:
    return QueryRequest(db_id="pets", sql=sql, limits=QueryLimits(**limits))


def play(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await body()
        finally:
            sql_client(NAMESPACE).close()

    asyncio.run(main())


def test_callers_of_one_process_share_a_client(cluster: Cluster) -> None:
    async def main() -> None:
        client = sql_client(NAMESPACE)
        assert sql_client(NAMESPACE) is client

        async def caller(k: int) -> None:
            for n in range(10):
                results = await client.execute_many([ask(f"SELECT {k}, {n}"), ask("SELECT nope")])
                assert [result.status for result in results] == ["ok", "error"]
                assert results[0].rows == ((k, n),)
                assert results[1].kind == ErrorKind.NO_SUCH_COLUMN

        await asyncio.gather(*(caller(k) for k in range(32)))
        many = [ask(f"SELECT {n}") for n in range(1000)]
        assert [r.rows for r in await client.execute_many(many)] == [((n,),) for n in range(1000)]
        assert await client.execute_many([]) == []

    play(main)


def test_a_long_query_does_not_hold_up_its_batch(cluster: Cluster) -> None:
    async def main() -> None:
        client = sql_client(NAMESPACE)
        started_s = time.monotonic()

        async def timed(request: QueryRequest) -> tuple[str, float]:
            [result] = await client.execute_many([request])
            return result.kind or result.status.value, time.monotonic() - started_s

        endless = ask(ENDLESS, timeout_s=4.0, max_vm_steps=1 << 60)
        slow, quick = await asyncio.gather(timed(endless), timed(ask("SELECT 'quick'")))
        assert slow[0] == "timeout"
        assert slow[1] > 4.0
        assert quick[0] == "ok"
        assert quick[1] < 3.0

    play(main)


def test_a_killed_actor_comes_back_and_its_workers_do_not_stay(cluster: Cluster) -> None:
    async def main() -> None:
        client = sql_client(NAMESPACE)
        await client.execute_many([ask("SELECT 1")])
        old_pids = ray.get(cluster.actor.worker_pids.remote())
        pending = asyncio.create_task(
            client.execute_many([ask(ENDLESS, timeout_s=0.5, max_vm_steps=1 << 60)])
        )
        await asyncio.sleep(0.3)
        ray.kill(cluster.actor, no_restart=False)
        [result] = await pending
        # Whichever is noticed first: the limit, the dead worker or the dead actor.
        assert result.kind in ("timeout", ErrorKind.WORKER_LOST, ErrorKind.POOL_UNREACHABLE)
        [again] = await client.execute_many([ask("SELECT 'again'")])
        assert again.rows == (("again",),)
        assert not set(old_pids) & set(ray.get(cluster.actor.worker_pids.remote()))
        give_up_s = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() for pid in old_pids):
            assert time.monotonic() < give_up_s, "workers outlive their actor"
            await asyncio.sleep(0.05)

    play(main)


def test_a_killed_worker_costs_no_query(cluster: Cluster) -> None:
    async def main() -> None:
        for pid in ray.get(cluster.actor.worker_pids.remote()):
            os.kill(pid, signal.SIGKILL)
        results = await sql_client(NAMESPACE).execute_many([ask(f"SELECT -{n}") for n in range(20)])
        assert {result.status for result in results} == {"ok"}

    play(main)


def test_integrity_names_the_changed_database(cluster: Cluster) -> None:
    async def main() -> None:
        await sql_client(NAMESPACE).execute_many([ask("SELECT count(*) FROM pet")])

    play(main)
    assert ray.get(cluster.actor.changed_databases.remote()) == {}
    before = cluster.database.read_bytes()
    cluster.database.write_bytes(before + b"\0")
    assert ray.get(cluster.actor.changed_databases.remote()) == {"pets": str(cluster.database)}
    with pytest.raises(DataError, match=r"pets\.sqlite: changed while the run used it"):
        require_unchanged(NAMESPACE)
    cluster.database.write_bytes(before)
    require_unchanged(NAMESPACE)
    assert ray.get(cluster.actor.changed_databases.remote()) == {}
    assert ray.get(cluster.actor.stats.remote()).num_in_flight == 0


def test_an_actor_that_is_gone_gives_faults(cluster: Cluster) -> None:
    # Local, so that it travels by value: a worker need not be able to import this file.
    class _Mute:
        """An actor that never answers."""

        async def name(self) -> str:
            await asyncio.sleep(3600)
            return ""

    actor = ray.remote(num_cpus=0)(_Mute).remote()
    client = client_of(actor, queue_s=0.5)

    async def main() -> None:
        [late] = await client.execute_many([ask("SELECT 1", timeout_s=0.1)])
        assert (late.status, late.kind) == ("infra_fault", ErrorKind.POOL_UNREACHABLE)
        assert "no answer in 0.6 seconds" in late.message
        ray.kill(actor)
        results = await client.execute_many([ask("SELECT 1"), ask("SELECT 2")])
        assert {(r.status, r.kind) for r in results} == {
            ("infra_fault", ErrorKind.POOL_UNREACHABLE)
        }

    play(main)


def test_user_mistakes_are_named_at_the_start(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no SQL pool on node"):
        sql_client("another_namespace")
    with pytest.raises(DataError, match=r"missing\.sqlite: no such file"):
        start_sql_pools({"x": tmp_path / "missing.sqlite"}, namespace="another_namespace")


def test_a_second_run_does_not_take_over_the_pool(cluster: Cluster) -> None:
    with pytest.raises(MachineError, match="another run holds the SQL pool"):
        start_sql_pools({"pets": cluster.database}, namespace=NAMESPACE, name_wait_s=0.2)
