"""One attack for each line that `mtsql.sql.duckdb_engine` promises; look-alikes that must pass."""

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from helpers.shops import facts
from mtsql.sql.duckdb_engine import DuckdbEngine
from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus

LIMITS = QueryLimits(timeout_s=2.0, max_rows=1000, max_bytes=100_000)
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


def test_a_query_gives_columns_rows_and_plain_values(engine: DuckdbEngine) -> None:
    result = engine.execute("SELECT *, sum(id) OVER () AS all_ids FROM pet ORDER BY id", LIMITS)
    assert result.status is QueryStatus.OK
    assert result.columns == ("id", "name", "weight", "born", "tame", "all_ids")
    assert result.rows == (
        (1, "Ada", 4.5, "2020-01-02", 1, 3),
        (2, "Bö", None, None, None, 3),
    )
    assert not result.truncated
    assert 0 < result.elapsed_s < 2
    times = engine.execute("SELECT TIMESTAMP '2020-01-02 03:04:05', [1, 2], 'a'::BLOB", LIMITS)
    assert times.rows == (("2020-01-02 03:04:05", "[1, 2]", b"a"),)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO pet (id) VALUES (3)",
        "UPDATE pet SET id = 9",
        "DELETE FROM pet",
        "DROP TABLE pet",
        "CREATE TABLE x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE MACRO m() AS 1",
        "ATTACH '{folder}/new.duckdb'",
        "COPY pet TO '{folder}/pet.csv'",
        "COPY (SELECT 1) TO '{folder}/one.parquet'",
        "EXPORT DATABASE '{folder}/all'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 8",
        "SET VARIABLE x = 1",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE SELECT 1",
        "PREPARE p AS SELECT 1",
        "BEGIN",
        "CHECKPOINT",
        "VACUUM",
        "USE memory",
        "SELECT * FROM read_csv('{folder}/pets.duckdb')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_blob('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM duckdb_databases()",
        "SELECT path FROM duckdb_databases",
        'SELECT path FROM "DuckDB_Databases"',
        "SELECT file FROM system.main.pragma_database_list",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT current_setting('temp_directory')",
        "SELECT * FROM query('SELECT path FROM duckdb_databases()')",
        "SELECT * FROM query /* a */ ('SELECT 1')",
        "SELECT 'ä', * FROM query('SELECT 1')",
        "SELECT * FROM query_table('pet')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT write_log('x')",
    ],
)
def test_all_but_reading_is_refused(sql: str, engine: DuckdbEngine, database: Path) -> None:
    before = facts(database)
    result = engine.execute(sql.format(folder=database.parent), LIMITS)
    assert (result.status, result.kind) == (QueryStatus.REFUSED, ErrorKind.WRITE), result
    assert str(database.parent) not in result.message
    assert facts(database) == before
    assert engine.execute("SELECT count(*) FROM pet", LIMITS).rows == ((2,),)


@pytest.mark.parametrize(
    ("sql", "status", "kind"),
    [
        ("SELECT 1; SELECT 2", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("SELECT 1; DROP TABLE pet", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("-- nothing", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("SELECT " + "1" * 20_000, QueryStatus.REFUSED, ErrorKind.TOO_LONG),
        ("SELECT 1\0", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT '\ud800'", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT FROM WHERE", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT nosuch FROM pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_COLUMN),
        ("SELECT pet.nosuch FROM pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_COLUMN),
        ("SELECT * FROM nosuch", QueryStatus.ERROR, ErrorKind.NO_SUCH_TABLE),
        ("SELECT nosuch(1)", QueryStatus.ERROR, ErrorKind.NO_SUCH_FUNCTION),
        ("SELECT abs(1, 2)", QueryStatus.ERROR, ErrorKind.WRONG_NUM_ARGS),
        ("SELECT id FROM pet, pet AS p", QueryStatus.ERROR, ErrorKind.AMBIGUOUS_COLUMN),
        ("SELECT id, name FROM pet GROUP BY id", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT sum(sum(id)) FROM pet", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT 'x'::INTEGER", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT ?", QueryStatus.ERROR, ErrorKind.OTHER),
    ],
)
def test_mistakes_have_names(
    sql: str, status: QueryStatus, kind: ErrorKind, engine: DuckdbEngine
) -> None:
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (status, kind), result
    assert result.message
    assert "\n" not in result.message


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 'DROP TABLE pet; --'", (("DROP TABLE pet; --",),)),
        ('SELECT "delete", query FROM odd', ((7, 8),)),
        ("SELECT 'duckdb_databases', 'query(1)' /* query(1) */ -- duckdb_settings", None),
        ("VALUES (1), (2)", ((1,), (2,))),
        ("FROM odd", ((7, 8),)),
        ("SHOW TABLES", (("odd",), ("pet",))),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) "
         "SELECT max(i) FROM n", ((9,),)),
        ("SELECT name FROM pet WHERE name = 'Bö' AND 'ä' <> 'query(' ;", (("Bö",),)),
        ("""SELECT json_extract('{"a": [1, 2]}', '$.a[1]')::INTEGER""", ((2,),)),
        ("SELECT strftime(DATE '2020-01-02', '%Y')", (("2020",),)),
    ],
)  # fmt: skip
def test_look_alikes_pass(
    sql: str, rows: tuple[tuple[object, ...], ...] | None, engine: DuckdbEngine
) -> None:
    result = engine.execute(sql, LIMITS)
    assert result.status is QueryStatus.OK, result
    assert rows is None or result.rows == rows


@pytest.mark.parametrize(
    "sql", [RUNAWAY, "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range > 5"]
)
def test_the_clock_ends_runaways(sql: str, engine: DuckdbEngine) -> None:
    started_s = time.monotonic()
    result = engine.execute(sql, replace(LIMITS, timeout_s=0.2))
    assert (result.status, result.kind) == (QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT)
    assert result.message == "stopped after 0.2 seconds"
    assert time.monotonic() - started_s < 2
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


def test_rows_bytes_and_memory_are_capped(engine: DuckdbEngine) -> None:
    cut = engine.execute("SELECT * FROM range(1000000000)", replace(LIMITS, max_rows=100))
    assert (cut.status, len(cut.rows), cut.truncated) == (QueryStatus.OK, 100, True)
    whole = engine.execute("SELECT * FROM range(100)", replace(LIMITS, max_rows=100))
    assert (len(whole.rows), whole.truncated) == (100, False)
    # Two integers of 8 bytes and "ab": 18 bytes.
    pair = "SELECT 1, 2, 'ab'"
    assert engine.execute(pair, replace(LIMITS, max_bytes=18)).status is QueryStatus.OK
    small = engine.execute(pair, replace(LIMITS, max_bytes=17))
    assert (small.status, small.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    large = engine.execute("SELECT list(range) FROM range(1000000000)", LIMITS)
    assert (large.status, large.kind) == (QueryStatus.CAPPED, ErrorKind.MEMORY)
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


def test_cells_are_counted_whatever_they_hold(engine: DuckdbEngine) -> None:
    # 4 rows of 3 empty texts are 12 cells and 0 bytes.
    sql = "SELECT '', '', '' FROM range(4)"
    whole = engine.execute(sql, replace(LIMITS, max_cells=12, max_bytes=0))
    assert (whole.status, len(whole.rows), whole.truncated) == (QueryStatus.OK, 4, False)
    result = engine.execute(sql, replace(LIMITS, max_cells=11))
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert (result.rows, result.message) == ((), "the result has more than 11 cells")


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


def test_no_limit_at_all_is_a_limit(engine: DuckdbEngine) -> None:
    assert engine.execute("SELECT 1", replace(LIMITS, timeout_s=math.inf)).rows == ((1,),)


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
    with pytest.raises(OSError, match="no DuckDB database"):
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
            assert runaway.kind == ErrorKind.TIMEOUT
            assert name.rows == (("Ada",),)

    asyncio.run(main())
