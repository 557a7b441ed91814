"""One pool for several clients over its socket: order, faults as data, back-pressure."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest
from mtsql.sql.remote import PoolServer, RemoteExecutor
from mtsql.sql.wire import frame, request_row

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
Find = Callable[[], Awaitable[str]]


def ask(sql: str, timeout_s: float = 5.0) -> QueryRequest:
    limits = QueryLimits(timeout_s=timeout_s, max_vm_steps=1 << 60)
    return QueryRequest(db_id="pets", sql=sql, limits=limits)


def play(folder: Path, body: Callable[[LocalPool, Find], Awaitable[None]], **options: Any) -> None:
    """Run `body` with a served pool over a database of one table."""
    path = folder / "pets.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT)")
    connection.close()

    async def main() -> None:
        async with LocalPool({"pets": path}, num_workers=1, **options) as pool:
            server = PoolServer(pool)
            name = await server.start()

            async def find() -> str:
                return name

            try:
                await asyncio.wait_for(body(pool, find), 30)
            finally:
                await server.close()

    asyncio.run(main())


def test_results_come_in_the_order_of_the_requests(tmp_path: Path) -> None:
    async def body(pool: LocalPool, find: Find) -> None:
        clients = [RemoteExecutor(find) for _ in range(3)]

        async def caller(k: int) -> None:
            for n in range(20):
                results = await clients[k % 3].execute_many(
                    [ask(f"SELECT {k}, {n}"), ask("SELECT nope"), ask(f"SELECT {n}")]
                )
                assert [result.rows for result in results] == [((k, n),), (), ((n,),)]
                assert results[1].kind == ErrorKind.NO_SUCH_COLUMN

        await asyncio.gather(*(caller(k) for k in range(12)))
        assert await clients[0].execute_many([]) == []
        many = await clients[0].execute_many([ask(f"SELECT {n}") for n in range(2000)])
        assert [result.rows for result in many] == [((n,),) for n in range(2000)]
        assert pool.stats().num_in_flight == 0
        for client in clients:
            client.close()

    play(tmp_path, body)


def test_an_answer_does_not_wait_for_another(tmp_path: Path) -> None:
    async def body(pool: LocalPool, find: Find) -> None:
        client = RemoteExecutor(find)
        slow = asyncio.create_task(client.execute_many([ask(ENDLESS, timeout_s=4.0)]))
        started_s = time.monotonic()
        [quick] = await client.execute_many([ask("SELECT 'quick'")])
        assert quick.rows == (("quick",),)
        assert time.monotonic() - started_s < 3.0
        assert not slow.done()
        assert (await slow)[0].kind == ErrorKind.TIMEOUT
        client.close()

    play(tmp_path, body)


def test_a_cancelled_caller_does_not_disturb_the_others(tmp_path: Path) -> None:
    async def body(pool: LocalPool, find: Find) -> None:
        client = RemoteExecutor(find)
        gone = asyncio.create_task(client.execute_many([ask(ENDLESS, timeout_s=0.3)]))
        await asyncio.sleep(0.1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (await client.execute_many([ask("SELECT 7")]))[0].rows == ((7,),)
        client.close()

    play(tmp_path, body)


def test_a_client_that_hangs_up_takes_back_what_has_not_begun(tmp_path: Path) -> None:
    async def body(pool: LocalPool, find: Find) -> None:
        client, other = RemoteExecutor(find), RemoteExecutor(find)
        runaways = [ask(f"{ENDLESS} -- {n}", timeout_s=0.5) for n in range(30)]
        gone = asyncio.create_task(client.execute_many(runaways))
        await asyncio.sleep(0.2)
        client.close()
        gone.cancel()
        # 30 runaways on one worker of the slow lane would take 15 s.
        [result] = await other.execute_many([ask("SELECT count(*) FROM pet")])
        assert result.rows == ((0,),)
        give_up_s = time.monotonic() + 5
        while pool.stats().num_in_flight:
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.05)
        other.close()

    play(tmp_path, body)


def test_a_server_that_is_gone_is_looked_for_once_more(tmp_path: Path) -> None:
    async def body(pool: LocalPool, find: Find) -> None:
        first, second = PoolServer(pool), PoolServer(pool)
        names = [await first.start(), await second.start()]

        async def find_next() -> str:
            if not names:
                raise ConnectionError("NoMoreServers")
            return names.pop(0)

        client = RemoteExecutor(find_next)
        pending = asyncio.create_task(client.execute_many([ask(ENDLESS, timeout_s=0.5)]))
        await asyncio.sleep(0.1)
        await first.close()
        assert (await pending)[0].kind == ErrorKind.TIMEOUT
        await second.close()
        results = await client.execute_many([ask("SELECT 1"), ask("SELECT 2")])
        assert {(r.status, r.kind, r.message) for r in results} == {
            (
                "infra_fault",
                ErrorKind.POOL_UNREACHABLE,
                "the SQL pool cannot be reached: NoMoreServers",
            )
        }

    play(tmp_path, body)


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    async def body(pool: LocalPool, find: Find) -> None:
        async def never() -> str:
            await asyncio.sleep(3600)
            return ""

        client = RemoteExecutor(never, queue_s=0.2)
        [late] = await client.execute_many([ask("SELECT 1", timeout_s=0.1)])
        assert (late.status, late.kind) == ("infra_fault", ErrorKind.POOL_UNREACHABLE)
        assert late.message == "the SQL pool cannot be reached: no answer in 0.3 seconds"
        client.close()

    play(tmp_path, body)


def test_a_flood_is_held_back_in_the_client(tmp_path: Path) -> None:
    async def body(pool: LocalPool, find: Find) -> None:
        client = RemoteExecutor(find)
        flood = asyncio.create_task(
            client.execute_many([ask(f"SELECT {n}, hex(zeroblob(1000))") for n in range(3000)])
        )
        most = 0
        while not flood.done():
            most = max(most, pool.stats().num_in_flight)
            await asyncio.sleep(0)
        assert most == 8
        assert [result.rows[0][0] for result in await flood] == list(range(3000))
        client.close()

    play(tmp_path, body, max_in_flight=8)


def test_strangers_are_not_read(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")

    async def body(pool: LocalPool, find: Find) -> None:
        os.seteuid(65534)
        try:
            reader, writer = await asyncio.open_unix_connection(await find())
        finally:
            os.seteuid(0)
        writer.write(frame([request_row(0, ask("SELECT 1"))]))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()

    play(tmp_path, body)
