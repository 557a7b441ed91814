"""What `mtsql.sql.duckdb_engine` alone promises; see test_engines.py for the rest."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from mtsql.sql.duckdb_engine import DuckdbEngine
from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus

LIMITS = QueryLimits(timeout_s=20.0, max_rows=1000, max_bytes=100_000)
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    path = folder / "pets.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE pet (id INTEGER, name TEXT, weight DECIMAL(5, 2), born DATE, tame BOOL)"
        )
        connection.execute(
            "INSERT INTO pet VALUES (1, 'Ada', 4.5, '2020-01-02', true),"
            " (2, 'Bö', NULL, NULL, NULL)"
        )
        connection.execute('CREATE TABLE odd ("delete" INTEGER, query INTEGER)')
        connection.execute("INSERT INTO odd VALUES (7, 8)")
    return path


@pytest.fixture
def engine(database: Path) -> Iterator[DuckdbEngine]:
    engine = DuckdbEngine(database, memory_bytes=200_000_000)
    yield engine
    engine.close()


def test_times_do_not_depend_on_where_the_machine_stands(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    engine = DuckdbEngine(database, memory_bytes=1 << 28)
    sql = "SELECT t, strftime(t, '%H') FROM (SELECT TIMESTAMPTZ '2020-01-02 03:04:05+01' AS t)"
    assert engine.execute(sql, LIMITS).rows == (("2020-01-02 02:04:05+00:00", "02"),)
    engine.close()


def test_memory_is_capped(engine: DuckdbEngine) -> None:
    large = engine.execute("SELECT list(range) FROM range(1000000000)", LIMITS)
    assert (large.status, large.kind) == (QueryStatus.CAPPED, ErrorKind.MEMORY)
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


class LateTimer(threading.Timer):
    """It decides to fire in time, and does so 50 ms later."""

    def run(self) -> None:
        if not self.finished.wait(self.interval):
            time.sleep(0.05)
            self.function()


@pytest.mark.parametrize("timer", [threading.Timer, LateTimer])
def test_no_timer_outlives_its_query(
    timer: type[threading.Timer], engine: DuckdbEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "Timer", timer)
    # About 1 ms of work, and limits from 0 to 2 ms: many timers fire just as their query ends.
    short = "SELECT sum(range) FROM range(100000)"
    normal = "SELECT sum(a.range) FROM range(100000) a, range(100) b"
    for tick in range(40):
        engine.execute(short, replace(LIMITS, timeout_s=tick * 5e-5))
        # 0 + 1 + ... + 99999 is 4,999,950,000; a hundred times that.
        assert engine.execute(normal, LIMITS).rows == ((499_995_000_000,),)


def test_a_file_that_went_bad_is_read_again_when_it_is_good(database: Path) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE long AS SELECT range AS i FROM range(100000)")
    engine = DuckdbEngine(database, memory_bytes=200_000_000)
    good = database.read_bytes()
    sum_of_all = "SELECT sum(i) FROM long"
    headers_bytes = 3 * 4096
    database.write_bytes(good[:headers_bytes] + b"\xff" * (len(good) - headers_bytes))
    for _ in range(2):
        result = engine.execute(sum_of_all, LIMITS)
        assert (result.status, result.kind) == (
            QueryStatus.INFRA_FAULT,
            ErrorKind.DATABASE_UNREADABLE,
        ), result
    database.write_bytes(good)
    assert engine.execute(sum_of_all, LIMITS).rows == ((4_999_950_000,),)
    engine.close()


def test_a_file_that_is_no_database_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    path.write_bytes(b"no database, though long enough to look at" * 500)
    with pytest.raises(OSError, match="it is text"):
        DuckdbEngine(path, memory_bytes=100_000_000)


def test_the_pool_reads_both_kinds_of_file(database: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.duckdb"
    broken.write_bytes(b"no database" * 1000)

    async def main() -> None:
        async with LocalPool({"pets": database, "broken": broken}, num_workers=1) as pool:
            requests = [
                QueryRequest(db_id="pets", sql="SELECT count(*) FROM pet", limits=LIMITS),
                QueryRequest(db_id="broken", sql="SELECT 1", limits=LIMITS),
                QueryRequest(db_id="pets", sql=RUNAWAY, limits=replace(LIMITS, timeout_s=0.3)),
                QueryRequest(db_id="pets", sql="SELECT name FROM pet LIMIT 1", limits=LIMITS),
            ]
            count, unreadable, runaway, name = await pool.execute_many(requests)
            assert count.rows == ((2,),)
            assert unreadable.kind == ErrorKind.DATABASE_UNREADABLE
            assert unreadable.message == (
                "database 'broken' cannot be opened: it is text, not a database"
            )
            assert runaway.kind == ErrorKind.TIMEOUT
            assert name.rows == (("Ada",),)

    asyncio.run(main())
