"""What `LocalPool` promises about hostile queries, dying workers, the cache and many callers."""

import asyncio
import hashlib
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from helpers.places import ROOT
from mtsql.errors import DataError, MachineError
from mtsql.sql.cache import ResultCache, is_repeatable, normalise
from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool
from mtsql.sql.process import Template
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus
from mtsql.sql.wire import FrameReader, frame, limits_row

if TYPE_CHECKING:
    from helpers.postgres_server import PostgresServer

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
BOMB = "SELECT instr(hex(zeroblob(3000000)), hex(zeroblob(1500000)) || '1')"
"""One opcode that compares some 10^13 bytes: no progress handler is polled inside it."""
NO_BUDGET = 1 << 60


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "pets.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO pet VALUES (?, ?)", [(n, f"p{n}") for n in range(300)])
    connection.close()
    return path


def ask(sql: str, **limits: float) -> QueryRequest:
    return QueryRequest(db_id="pets", sql=sql, limits=replace(QueryLimits(), **limits))


def play(database: Path, body: Callable[[LocalPool], Awaitable[None]], **options: Any) -> None:
    """Run `body` with a pool over one database and see that no process outlives the pool."""

    async def main() -> None:
        before = set(psutil.Process().children(recursive=True))
        async with LocalPool({"pets": database}, **options) as pool:
            await asyncio.wait_for(body(pool), 30)
        assert set(psutil.Process().children(recursive=True)) <= before

    asyncio.run(main())


def test_results_come_in_order(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        requests = [ask(f"SELECT name FROM pet WHERE id = {n}") for n in range(300)]
        results = await pool.execute_many([*requests, *reversed(requests)])
        names = [result.rows[0][0] for result in results]
        expected = [f"p{n}" for n in range(300)]
        assert names == expected + expected[::-1]
        assert await pool.execute_many([]) == []
        assert pool.stats().num_executed == 300
        assert pool.stats().num_joined + pool.stats().num_cached == 300

    play(database, body)


def test_many_callers_share_the_pool(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        async def caller(k: int) -> None:
            for n in range(30):
                [result] = await pool.execute_many([ask(f"SELECT {k} * 100 + {n}")])
                assert result.rows == ((k * 100 + n,),)

        await asyncio.gather(*(caller(k) for k in range(32)))
        assert pool.stats().num_executed == 32 * 30
        assert pool.stats().num_in_flight == 0

    play(database, body)


def test_an_unknown_database_is_a_fault_that_names_it(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        good = ask("SELECT 1")
        bad = QueryRequest(db_id="../../etc/passwd", sql="SELECT 1")
        results = await pool.execute_many([good, bad, good])
        assert [r.status for r in results] == ["ok", "infra_fault", "ok"]
        assert "'../../etc/passwd'" in results[1].message
        assert "1 databases" in results[1].message

    play(database, body)


def test_identical_queries_in_flight_run_once(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        sql = "SELECT count(*) FROM pet a, pet b, pet c"
        results = await asyncio.gather(*(pool.execute_many([ask(sql)]) for _ in range(20)))
        assert {result.rows for [result] in results} == {((27_000_000,),)}
        assert (pool.stats().num_executed, pool.stats().num_joined) == (1, 19)

    play(database, body, cache_bytes=0)


def test_the_cache_answers_again_and_minds_the_limits(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        request = ask("SELECT id FROM pet", max_rows=5)
        first = await pool.execute_many([request])
        assert await pool.execute_many([request]) == first
        assert pool.stats().num_executed == 1
        [longer] = await pool.execute_many([ask("SELECT id FROM pet", max_rows=6)])
        assert (len(longer.rows), pool.stats().num_executed) == (6, 2)

    play(database, body)


def test_only_repeatable_verdicts_are_cached(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        kept = [
            ask("SELECT nope"),
            ask("DROP TABLE pet"),
            ask(ENDLESS, max_vm_steps=1_000_000),
            ask("SELECT zeroblob(100)", max_bytes=50),
        ]
        not_kept = [ask(ENDLESS, timeout_s=0.1, max_vm_steps=NO_BUDGET)]
        statuses = [result.status for result in await pool.execute_many(kept + not_kept)]
        assert statuses == ["error", "refused", "interrupted", "capped", "interrupted"]
        await pool.execute_many(kept + not_kept)
        assert (pool.stats().num_executed, pool.stats().num_cached) == (6, 4)

    play(database, body)


def test_the_cache_keeps_its_byte_budget() -> None:
    # An entry is 500 + SQL + payload: here 500 + 1 + 0; ten fit into 5,050.
    cache = ResultCache(5050)
    limits = limits_row(QueryLimits())
    for n in range(30):
        cache.put(("d", chr(n), limits), b"")
    assert (len(cache), cache.num_bytes) == (10, 5010)
    assert cache.get(("d", chr(29), limits)) == b""
    assert cache.get(("d", chr(0), limits)) is None
    cache.put(("d", "large", limits), bytes(200))  # more than an eighth: 705 of 5,050
    assert len(cache) == 10
    assert not is_repeatable(QueryResult(status=QueryStatus.INFRA_FAULT))


@pytest.mark.parametrize(
    ("sql", "normal"),
    [
        (" SELECT 1 ;; ", "SELECT 1"),
        ("SELECT  a\t,\r\n  b", "SELECT a ,\nb"),
        ("SELECT 'a  b',   \"c\t\"  , `d  `", "SELECT 'a  b', \"c\t\" , `d  `"),
        ("SELECT 'it''s   ok'   ;", "SELECT 'it''s   ok'"),
        ("SELECT 'a'\n  'b'", "SELECT 'a'\n'b'"),
        # What a dialect may read otherwise stays as it is.
        ("SELECT 1  -- a  b", "SELECT 1  -- a  b"),
        ("SELECT  [a  b]", "SELECT  [a  b]"),
        ("SELECT  $$a  b$$", "SELECT  $$a  b$$"),
        ("SELECT  E'\\'  '", "SELECT  E'\\'  '"),
        ("SELECT  'a  ", "SELECT  'a"),
    ],
)
def test_texts_that_differ_in_spaces_are_one(sql: str, normal: str) -> None:
    assert normalise(sql) == normal


def test_equal_queries_and_equal_files_share_a_result(database: Path) -> None:
    copy = database.with_name("copy.sqlite")
    copy.write_bytes(database.read_bytes())

    async def main() -> None:
        async with LocalPool({"pets": database, "copy": copy}) as pool:
            first = await pool.execute_many([ask("SELECT name FROM pet WHERE id = 3")])
            other = QueryRequest(db_id="copy", sql="SELECT name\tFROM pet   WHERE id = 3 ;\n")
            assert await pool.execute_many([other]) == first
            assert (pool.stats().num_executed, pool.stats().num_cached) == (1, 1)

    asyncio.run(main())


def test_a_changed_file_stops_its_queries_until_it_is_back(database: Path) -> None:
    before = database.read_bytes()

    async def body(pool: LocalPool) -> None:
        request = ask("SELECT count(*) FROM pet")
        assert (await pool.execute_many([request]))[0].rows == ((300,),)
        assert await pool.changed_databases() == {}
        with sqlite3.connect(database) as connection:
            connection.execute("DELETE FROM pet WHERE id < 100")
        connection.close()
        [changed] = await pool.execute_many([request])
        assert (changed.status, changed.kind) == ("infra_fault", ErrorKind.DATABASE_CHANGED)
        assert changed.message == "the file of database 'pets' has changed since its first query"
        assert await pool.changed_databases() == {"pets": str(database)}
        database.write_bytes(before)
        assert (await pool.execute_many([request]))[0].rows == ((300,),)
        assert await pool.changed_databases() == {}
        database.unlink()
        [gone] = await pool.execute_many([request])
        assert (gone.status, gone.kind) == ("infra_fault", ErrorKind.DATABASE_UNREADABLE)
        assert await pool.changed_databases() == {"pets": str(database)}

    play(database, body, look_every_s=0.0)


def test_a_change_that_keeps_time_and_size_is_found_by_hashing(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        assert (await pool.execute_many([ask("SELECT 1")]))[0].rows == ((1,),)
        facts = database.stat()
        data = bytearray(database.read_bytes())
        data[-1] ^= 1
        database.write_bytes(data)
        os.utime(database, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert await pool.changed_databases(rehash=False) == {}
        assert await pool.changed_databases() == {"pets": str(database)}

    play(database, body)


@pytest.mark.postgres
def test_the_pool_reads_a_server_and_outlives_its_restart(postgres: "PostgresServer") -> None:
    def on_shop(sql: str, **limits: float) -> QueryRequest:
        return QueryRequest(db_id="shop", sql=sql, limits=replace(QueryLimits(), **limits))

    async def main() -> None:
        async with LocalPool({"shop": postgres.reader_url}) as pool:
            reads = [on_shop(f"SELECT id + {n} FROM pet WHERE name = 'Ada'") for n in range(50)]
            results = await pool.execute_many(reads)
            assert [result.rows for result in results] == [((1 + n,),) for n in range(50)]
            endless = on_shop(ENDLESS, timeout_s=0.3)
            slow = asyncio.create_task(pool.execute_many([endless]))
            await asyncio.sleep(0.1)
            [quick] = await pool.execute_many([on_shop("SELECT 7")])
            assert (quick.rows, slow.done()) == (((7,),), False)
            [stopped] = await slow
            assert (stopped.status, stopped.kind) == ("interrupted", ErrorKind.TIMEOUT)
            postgres.restart()
            again = await pool.execute_many([on_shop(f"SELECT {n}") for n in range(8)])
            assert [result.rows for result in again] == [((n,),) for n in range(8)]
            assert await pool.changed_databases() == {}

    asyncio.run(main())


def test_runaways_do_not_hold_up_short_queries(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        runaways = [
            ask(f"{ENDLESS} -- {n}", timeout_s=1.0, max_vm_steps=NO_BUDGET) for n in range(4)
        ]
        busy = asyncio.create_task(pool.execute_many(runaways))
        await asyncio.sleep(0.2)
        waits_s: list[float] = []
        for n in range(50):
            started_s = time.monotonic()
            [result] = await pool.execute_many([ask(f"SELECT {n}")])
            assert result.status == "ok"
            waits_s.append(time.monotonic() - started_s)
        assert not busy.done()
        assert sorted(waits_s)[25] < 0.05
        assert {(r.status, r.kind) for r in await busy} == {("interrupted", "timeout")}

    play(database, body)


def test_a_bomb_inside_one_opcode_is_killed_and_costs_nobody_else(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        pids = set(pool.worker_pids)
        queued = [ask(f"SELECT {n}") for n in range(40)]
        requests = [ask(BOMB, timeout_s=0.2), *queued]
        started_s = time.monotonic()
        results = await pool.execute_many(requests)
        assert (results[0].status, results[0].kind) == ("interrupted", ErrorKind.TIMEOUT)
        assert [result.rows for result in results[1:]] == [((n,),) for n in range(40)]
        # Killed twice: 0.02 s + 1 s in the quick lane, then 0.2 s + 1 s in the slow one.
        assert 2.0 < time.monotonic() - started_s < 6.0
        assert pool.stats().num_killed == 2
        assert len(pids - set(pool.worker_pids)) == 2
        assert (await pool.execute_many([ask("SELECT 7")]))[0].rows == ((7,),)

    play(database, body)


def test_memory_is_bounded(database: Path) -> None:
    # 300^3 different values of 100 bytes: 2.7 GB, in a worker that has 160 MB.
    sql = (
        "SELECT count(DISTINCT a.name || b.name || c.name || hex(zeroblob(45))) "
        "FROM pet a, pet b, pet c"
    )

    async def body(pool: LocalPool) -> None:
        [result] = await pool.execute_many([ask(sql, timeout_s=20.0, max_vm_steps=NO_BUDGET)])
        assert (result.status, result.kind) == ("capped", ErrorKind.MEMORY)
        assert (await pool.execute_many([ask("SELECT 7")]))[0].rows == ((7,),)

    play(database, body, memory_mb=160, num_workers=1)


def test_nothing_is_written(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    attacks = [
        "DELETE FROM pet",
        "WITH c AS (SELECT 1) DELETE FROM pet",
        "VACUUM INTO 'copy.sqlite'",
        "ATTACH 'new.sqlite' AS n",
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE t (a)",
        "SELECT name FROM pet a ORDER BY random()",
    ]

    async def body(pool: LocalPool) -> None:
        statuses = [result.status for result in await pool.execute_many([ask(a) for a in attacks])]
        assert statuses == ["refused"] * 6 + ["ok"]

    digest = hashlib.sha256(database.read_bytes()).hexdigest()
    play(database, body)
    assert hashlib.sha256(database.read_bytes()).hexdigest() == digest
    assert [entry.name for entry in database.parent.iterdir()] == ["pets.sqlite"]


def test_all_workers_killed_at_once_cost_no_query(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        for number in range(3):
            # About a second of work, so that it runs when they die.
            slow = f"SELECT count(*) + {number} FROM pet a, pet b, pet c WHERE a.id + b.id >= 0"
            request = ask(slow, timeout_s=20.0, max_vm_steps=NO_BUDGET)
            task = asyncio.create_task(pool.execute_many([request]))
            await asyncio.sleep(0.1)
            for pid in pool.worker_pids:
                os.kill(pid, signal.SIGKILL)
            [result] = await task
            assert result.rows == ((27_000_000 + number,),)
            assert pool.stats().num_lost > number

    play(database, body)


@pytest.mark.parametrize(
    ("number", "status", "kind"),
    [
        (signal.SIGKILL, "infra_fault", ErrorKind.WORKER_LOST),
        # An engine's own crash is the query's doing, or a model could stay unscored at will.
        (signal.SIGSEGV, "error", ErrorKind.OTHER),
    ],
)
def test_a_query_that_loses_two_workers_is_given_up(
    number: signal.Signals, status: str, kind: ErrorKind, database: Path
) -> None:
    async def body(pool: LocalPool) -> None:
        task = asyncio.create_task(
            pool.execute_many([ask(ENDLESS, timeout_s=20.0, max_vm_steps=NO_BUDGET)])
        )
        for _ in range(2):
            running = await running_worker(pool)
            os.kill(running, number)
            await asyncio.sleep(0.3)
        [result] = await task
        assert (result.status, result.kind) == (status, kind)
        assert (await pool.execute_many([ask("SELECT 7")]))[0].rows == ((7,),)

    play(database, body)


async def running_worker(pool: LocalPool) -> int:
    """The worker that uses the processor now."""
    while True:
        before = {pid: cpu_s(pid) for pid in pool.worker_pids}
        await asyncio.sleep(0.15)
        for pid, used_s in before.items():
            if cpu_s(pid) - used_s > 0.05:
                return pid


def cpu_s(pid: int) -> float:
    try:
        return psutil.Process(pid).cpu_times().user
    except psutil.NoSuchProcess:
        return 0.0


def test_recovery_of_an_idle_worker_is_quick(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        started_s = time.monotonic()
        results = await pool.execute_many([ask(f"SELECT {n}") for n in range(20)])
        assert {result.status for result in results} == {"ok"}
        assert time.monotonic() - started_s < 1.0

    play(database, body)


def test_a_cancelled_caller_takes_back_what_has_not_begun(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        runaways = [
            ask(f"{ENDLESS} -- {n}", timeout_s=0.3, max_vm_steps=NO_BUDGET) for n in range(30)
        ]
        task = asyncio.create_task(pool.execute_many(runaways))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        started_s = time.monotonic()
        [result] = await pool.execute_many([ask("SELECT count(*) FROM pet a, pet b, pet c")])
        assert result.rows == ((27_000_000,),)
        assert time.monotonic() - started_s < 5.0  # 30 runaways on one worker take 9 s

    play(database, body, num_workers=1)


def test_more_requests_than_slots(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        async def caller(k: int) -> None:
            results = await pool.execute_many([ask(f"SELECT {k % 3}, {n}") for n in range(50)])
            assert [result.rows for result in results] == [((k % 3, n),) for n in range(50)]

        await asyncio.gather(*(caller(k) for k in range(6)))
        assert pool.stats().num_in_flight == 0

    play(database, body, max_in_flight=4)


def test_runaways_do_not_take_the_places_of_others(database: Path) -> None:
    async def body(pool: LocalPool) -> None:
        runaways = [
            ask(f"{ENDLESS} -- {n}", timeout_s=1.0, max_vm_steps=NO_BUDGET) for n in range(4)
        ]
        busy = asyncio.create_task(pool.execute_many(runaways))
        await asyncio.sleep(0.3)
        [result] = await pool.execute_many([ask("SELECT 7")])
        assert result.rows == ((7,),)
        assert not busy.done()
        # As many again fill the slow lane's places too: now the next one waits.
        more = [
            ask(f"{ENDLESS} -- more {n}", timeout_s=1.0, max_vm_steps=NO_BUDGET) for n in range(4)
        ]
        busier = asyncio.create_task(pool.execute_many(more))
        await asyncio.sleep(0.1)
        assert pool.stats().num_in_flight <= 8
        for result in [*await busy, *await busier]:
            assert result.kind == ErrorKind.TIMEOUT
        assert pool.stats().num_in_flight == 0

    play(database, body, max_in_flight=4)


def test_close_ends_what_is_in_flight(database: Path) -> None:
    async def main() -> None:
        pool = LocalPool({"pets": database})
        await pool.start()
        task = asyncio.create_task(
            pool.execute_many([ask(ENDLESS, timeout_s=20.0, max_vm_steps=NO_BUDGET)])
        )
        await asyncio.sleep(0.2)
        await pool.close()
        [result] = await task
        assert (result.status, result.kind) == ("infra_fault", ErrorKind.POOL_CLOSED)
        [result] = await pool.execute_many([ask("SELECT 1")])
        assert result.kind == ErrorKind.POOL_CLOSED
        await pool.close()

    asyncio.run(main())


def test_a_missing_file_is_named_at_the_start(tmp_path: Path) -> None:
    pool = LocalPool({"pets": tmp_path / "missing.sqlite"})
    with pytest.raises(DataError, match=r"missing\.sqlite: no such file; database 'pets'"):
        asyncio.run(pool.start())


def test_a_file_that_is_no_database_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "text.sqlite"
    path.write_text("not a database " * 100, encoding="utf-8")

    async def body(pool: LocalPool) -> None:
        [result] = await pool.execute_many([ask("SELECT 1")])
        assert (result.status, result.kind) == ("infra_fault", ErrorKind.DATABASE_UNREADABLE)
        assert str(tmp_path) not in result.message

    play(path, body)


def test_workers_that_cannot_start_are_reported(database: Path) -> None:
    template = Template(1 << 30, boot="raise SystemExit(1)")
    pool = LocalPool({"pets": database}, template=template, max_backoff_s=0.1)
    with pytest.raises(MachineError, match="SQL workers do not start"):
        asyncio.run(pool.start())


def test_workers_die_with_their_parent(database: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest
async def main():
    pool = LocalPool({{"pets": Path({str(database)!r})}})
    await pool.start()
    print(*pool.worker_pids, flush=True)
    limits = QueryLimits(timeout_s=60.0, max_vm_steps=1 << 60)
    await pool.execute_many([QueryRequest(db_id="pets", sql={ENDLESS!r}, limits=limits)])
asyncio.run(main())
"""
    root = str(ROOT)
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 4
        time.sleep(0.3)
        parent.kill()
        parent.wait()
    give_up_s = time.monotonic() + 5
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < give_up_s, "workers outlive their parent"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_messages_survive_any_split() -> None:
    stream = frame([(1, "a")]) + frame("ready") + frame([(2, "b" * 1000)])
    for size in (1, 3, 7, 10_000):
        reader = FrameReader()
        parts = [stream[start : start + size] for start in range(0, len(stream), size)]
        messages = [message for part in parts for message in reader.feed(part)]
        assert messages == [[(1, "a")], "ready", [(2, "b" * 1000)]]


def test_a_worker_says_nothing_when_the_pool_leaves_its_reply_unread() -> None:
    # Closed with something unread, a socket is reset, which is an error on the other side.
    program = (
        "import socket, sys\n"
        "from mtsql.sql.records import QueryLimits\n"
        "from mtsql.sql.worker import serve\n"
        "with socket.socket(fileno=int(sys.argv[1])) as connection:\n"
        "    serve(connection, QueryLimits(), memory_bytes=10**9)\n"
    )
    ours, theirs = socket.socketpair()
    with theirs:
        worker = subprocess.Popen(
            [sys.executable, "-c", program, str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
    ours.sendall(frame({}))
    assert select.select([ours], [], [], 60)[0]  # its process id, which nobody reads
    ours.close()
    _, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (0, b"")


def test_the_process_that_workers_are_forked_from_loads_nothing_that_they_do_not_need() -> None:
    # A pool waits for it, and a killed template is replaced while queries wait.
    program = "import sys, mtsql.sql.template; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert {"mtsql.sql.template", "mtsql.sql.worker", "sqlite3"} <= set(done.stdout.split())
    assert not {"pydantic", "asyncio", "sqlglot", "duckdb"} & set(done.stdout.split())
