"""10,000 mixed queries, with workers killed under load: every answer right, and nothing left."""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import sqlite3
from pathlib import Path

import psutil
import pytest
from hand_made import facts

from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest

NUM_QUERIES = 10_000
NUM_CALLERS = 32
WARM_UP = 2000
"""Queries after which the pool has what it keeps: warm engines, a cache that is full."""
MAX_GROWTH_BYTES = 16_000_000
LIMITS = QueryLimits(timeout_s=2.0, max_vm_steps=1_000_000, max_bytes=20_000)
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def query(number: int) -> tuple[str, str, tuple[tuple[int, ...], ...]]:
    """(SQL, the status it must get, the rows it must give).

    90 of 100 are plain reads, 20 of these the same.
    """
    match number % 100:
        case 0:
            return f"{ENDLESS} WHERE x <> -{number}", "interrupted", ()
        case 1 | 2 | 3:
            return f"SELECT nosuch_{number} FROM pet", "error", ()
        case 4 | 5 | 6:
            return f"DELETE FROM pet WHERE id = {number}", "refused", ()
        case 7 | 8:
            return f"SELECT zeroblob(30000), {number}", "capped", ()
        case 9:
            return f"SELECT {number}; DROP TABLE pet", "refused", ()
        case rest if rest < 30:
            return "SELECT count(*) FROM pet", "ok", ((300,),)
        case _:
            sql = f"SELECT id, {number} FROM pet WHERE id = {number % 300}"
            return sql, "ok", ((number % 300, number),)


@pytest.mark.slow
def test_ten_thousand_mixed_queries_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "pets.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO pet VALUES (?)", [(n,) for n in range(300)])
    connection.close()
    before = facts(database)
    own = psutil.Process()

    async def main() -> None:
        async with LocalPool({"pets": database}, cache_bytes=500_000) as pool:
            numbers = itertools.count()

            async def caller(num_queries: int) -> None:
                while (number := next(numbers)) < num_queries:
                    sql, status, rows = query(number)
                    request = QueryRequest(db_id="pets", sql=sql, limits=LIMITS)
                    [result] = await pool.execute_many([request])
                    # A runaway may meet two of the ten kills: then it is nobody's verdict.
                    if status != "interrupted" or result.kind != ErrorKind.WORKER_LOST:
                        assert (result.status, result.rows) == (status, rows), (sql, result)
                    if number % 1000 == 999:
                        os.kill(pool.worker_pids[number // 1000 % 4], signal.SIGKILL)

            async def play(num_queries: int) -> None:
                await asyncio.gather(*(caller(num_queries) for _ in range(NUM_CALLERS)))
                while len(pool.worker_pids) < 4:
                    await asyncio.sleep(0.01)

            await play(WARM_UP)
            template = psutil.Process(pool.worker_pids[0]).parent()
            assert template is not None
            warm = resources(own, template)
            await play(NUM_QUERIES)
            assert pool.stats().num_in_flight == 0
            assert pool.stats().num_killed == 0
            assert pool.stats().num_lost == 10
            now = resources(own, template)
            # No more than when warm: what other tests left in this process may end meanwhile.
            assert now[0] <= warm[0]
            assert now[1] <= warm[1]
            # Each of the four workers holds the database open, or none has asked it yet.
            assert now[2] - warm[2] <= 4
            assert now[3] - warm[3] < MAX_GROWTH_BYTES
            used_s = cpu_s(own, template)
            await asyncio.sleep(1.0)
            assert cpu_s(own, template) - used_s < 0.2
        assert not template.is_running()

    gc.collect()  # what other tests left
    files = open_files()
    asyncio.run(main())
    assert open_files().items() <= files.items()
    assert facts(database) == before


def resources(own: psutil.Process, template: psutil.Process) -> tuple[int, int, int, int]:
    """(processes, threads, open files, resident bytes) of this process and the pool's."""
    gc.collect()
    processes = tree(own, template)
    return (
        len(processes),
        sum(one.num_threads() for one in processes),
        sum(one.num_fds() for one in processes),
        sum(one.memory_info().rss for one in processes),
    )


def open_files() -> dict[str, str]:
    """This process's descriptors and what each is open on."""
    found: dict[str, str] = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            found[path.name] = str(path.readlink())
    return found


def cpu_s(own: psutil.Process, template: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in tree(own, template))


def tree(own: psutil.Process, template: psutil.Process) -> list[psutil.Process]:
    """Not all children of this process: other tests keep servers of theirs."""
    return [own, template, *template.children(recursive=True)]
