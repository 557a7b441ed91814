"""10,000 mixed queries, with workers killed under load: every answer right, and nothing left."""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from helpers.shops import facts
from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool, PoolStats
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


class Resources(NamedTuple):
    """What a process and the pool's processes hold."""

    num_processes: int
    num_threads: int
    num_open_files: int
    resident_bytes: int


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What 10,000 queries answered and left."""

    wrong: list[str]
    stats: PoolStats
    warm: Resources
    end: Resources
    idle_cpu_s: float
    """CPU time of a second without queries."""
    is_template_alive: bool
    files_before: set[str]
    files_after: set[str]


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

    # In a process that holds nothing else: what Ray leaves in this one opens and closes sockets.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        found = child.submit(soak, database).result()

    assert found.wrong == []
    assert found.stats.num_in_flight == 0
    assert found.stats.num_killed == 0
    assert found.stats.num_lost == 10
    assert found.end.num_processes == found.warm.num_processes
    assert found.end.num_threads == found.warm.num_threads
    # Each of the four workers holds the database open, or none has asked it yet.
    assert abs(found.end.num_open_files - found.warm.num_open_files) <= 4
    assert found.end.resident_bytes - found.warm.resident_bytes < MAX_GROWTH_BYTES
    assert found.idle_cpu_s < 0.2
    assert not found.is_template_alive
    assert found.files_after == found.files_before
    assert facts(database) == before


def soak(database: Path) -> Soak:
    """Play the queries in this process."""
    gc.collect()
    files_before = open_files()
    wrong, stats, warm, end, idle_cpu_s, template = asyncio.run(played(database))
    return Soak(
        wrong=wrong,
        stats=stats,
        warm=warm,
        end=end,
        idle_cpu_s=idle_cpu_s,
        is_template_alive=template.is_running(),
        files_before=files_before,
        files_after=open_files(),
    )


async def played(
    database: Path,
) -> tuple[list[str], PoolStats, Resources, Resources, float, psutil.Process]:
    wrong: list[str] = []
    async with LocalPool({"pets": database}, cache_bytes=500_000) as pool:
        numbers = itertools.count()

        async def caller(num_queries: int) -> None:
            while (number := next(numbers)) < num_queries:
                sql, status, rows = query(number)
                request = QueryRequest(db_id="pets", sql=sql, limits=LIMITS)
                [result] = await pool.execute_many([request])
                # A runaway may meet two of the ten kills: then it is nobody's verdict.
                is_lost = status == "interrupted" and result.kind == ErrorKind.WORKER_LOST
                if not is_lost and (result.status, result.rows) != (status, rows):
                    wrong.append(f"{sql}: {result}")
                if number % 1000 == 999:
                    await whole(number // 1000)
                    os.kill(pool.worker_pids[number // 1000 % 4], signal.SIGKILL)

        async def whole(num_lost: int) -> None:
            """Until all those killed before are noticed and replaced."""
            async with asyncio.timeout(60.0):
                while pool.stats().num_lost < num_lost or len(pool.worker_pids) < 4:
                    await asyncio.sleep(0.01)

        async def play(num_queries: int) -> None:
            await asyncio.gather(*(caller(num_queries) for _ in range(NUM_CALLERS)))
            await whole(num_queries // 1000)

        await play(WARM_UP)
        template = psutil.Process(pool.worker_pids[0]).parent()
        assert template is not None
        warm = resources(template)
        await play(NUM_QUERIES)
        stats, end = pool.stats(), resources(template)
        used_s = cpu_s(template)
        await asyncio.sleep(1.0)
        return wrong, stats, warm, end, cpu_s(template) - used_s, template


def resources(template: psutil.Process) -> Resources:
    gc.collect()
    processes = tree(template)
    return Resources(
        num_processes=len(processes),
        num_threads=sum(one.num_threads() for one in processes),
        num_open_files=sum(one.num_fds() for one in processes),
        resident_bytes=sum(one.memory_info().rss for one in processes),
    )


def open_files() -> set[str]:
    """What this process's descriptors are open on."""
    found: set[str] = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.add(f"{path.name}: {path.readlink()}")
    return found


def cpu_s(template: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in tree(template))


def tree(template: psutil.Process) -> list[psutil.Process]:
    """This process and the pool's."""
    return [psutil.Process(), template, *template.children(recursive=True)]
