"""Attacks on `mtsql.sql.sqlalchemy_engine`, on a real SQLite file; what engine an address gets."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.shops import facts, write_shops
from mtsql.sql.duckdb_engine import DuckdbEngine
from mtsql.sql.engine import CannotOpenError, ErrorKind
from mtsql.sql.engines import file_of, not_enforced, open_engine
from mtsql.sql.records import QueryLimits, QueryStatus
from mtsql.sql.sqlalchemy_engine import SqlalchemyEngine
from mtsql.sql.sqlite_engine import SqliteEngine

LIMITS = QueryLimits(timeout_s=2.0, max_rows=1000, max_bytes=100_000)
COUNT_UP = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    return write_shops(folder / "shops.sqlite")


@pytest.fixture
def engine(database: Path) -> Iterator[SqlalchemyEngine]:
    engine = SqlalchemyEngine(f"sqlite+pysqlite:///{database}")
    yield engine
    engine.close()


def test_a_query_gives_columns_and_rows(engine: SqlalchemyEngine) -> None:
    result = engine.execute("SELECT id, name AS who, name AS who FROM shop ORDER BY id;", LIMITS)
    assert result.status is QueryStatus.OK
    assert result.columns == ("id", "who", "who")
    assert result.rows == ((1, "Ada", "Ada"), (2, "Bob", "Bob"), (3, "Cy", "Cy"))
    assert engine.execute("SELECT '%s :a ?', 7 % 4, x'00ff', NULL", LIMITS).rows == (
        ("%s :a ?", 3, b"\x00\xff", None),
    )


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO shop VALUES (9, 'Eve', 'Oslo')",
        "UPDATE shop SET name = 'x'",
        "DELETE FROM shop",
        "DELETE FROM shop RETURNING id",
        "REPLACE INTO shop VALUES (1, 'x', 'y')",
        "WITH c AS (SELECT 1) DELETE FROM shop",
        "WITH c AS (SELECT 1) INSERT INTO shop SELECT 9, 'x', 'y' FROM c",
        "WITH c AS (DELETE FROM shop RETURNING id) SELECT * FROM c",
        "/* SELECT */ DELETE FROM shop",
        "SELECT * INTO copy FROM shop",
        "SELECT * FROM shop FOR UPDATE",
        "CREATE TABLE t (a INT)",
        "CREATE TABLE t AS SELECT * FROM shop",
        "DROP TABLE shop",
        "ALTER TABLE shop RENAME TO market",
        "ATTACH 'new.sqlite' AS other",
        "VACUUM INTO 'new.sqlite'",
        "PRAGMA user_version = 7",
        "SELECT * FROM shop INTO OUTFILE '/tmp/x'",
        "BEGIN",
        "COMMIT",
        "SET x = 1",
        "EXPLAIN DELETE FROM shop",
        "SELECT load_extension('evil')",
        "SELECT LOAD_FILE ('/etc/passwd')",
        "SELECT sleep(10)",
        "SELECT 1 /*! INTO OUTFILE '/tmp/x' */",
        "SELECT 1 /*M! + 1 */",
        "EXEC xp_cmdshell 'id'",
    ],
)
def test_all_but_reading_is_refused(
    sql: str,
    engine: SqlalchemyEngine,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(database.parent)
    before = facts(database)
    result = engine.execute(sql, LIMITS)
    assert result.status in (QueryStatus.REFUSED, QueryStatus.ERROR), result
    assert result.kind in (ErrorKind.WRITE, ErrorKind.SYNTAX), result
    assert facts(database) == before
    assert engine.execute("SELECT count(*) FROM shop", LIMITS).rows == ((3,),)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("sql", "status", "kind"),
    [
        ("SELECT 1; SELECT 2", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("SELECT 1; DROP TABLE shop", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("-- nothing", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        (" ; ", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("SELECT " + "1" * 20_000, QueryStatus.REFUSED, ErrorKind.TOO_LONG),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, QueryStatus.REFUSED, ErrorKind.WRITE),
        ("SELECT 1\0", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT '\ud800'", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT (", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT 'open", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT nope FROM shop", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT * FROM nope", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT ?", QueryStatus.ERROR, ErrorKind.OTHER),
    ],
)
def test_mistakes_have_names(
    sql: str, status: QueryStatus, kind: ErrorKind, engine: SqlalchemyEngine, database: Path
) -> None:
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (status, kind), result
    assert result.message
    assert "\n" not in result.message
    assert str(database) not in result.message


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'DROP TABLE shop; --'",
        "VALUES (1, 2)",
        "SELECT 1 UNION SELECT 2",
        "(SELECT 1)",
        "WITH c AS (SELECT 1 AS a) SELECT a FROM c; -- done",
        "SELECT 1 AS \"delete\" /* ; */",
    ],
)  # fmt: skip
def test_look_alikes_pass(sql: str, engine: SqlalchemyEngine) -> None:
    result = engine.execute(sql, LIMITS)
    # SQLite itself takes no parentheses around a whole query.
    assert result.status is (QueryStatus.ERROR if sql[0] == "(" else QueryStatus.OK), result


def test_caps_hold_while_rows_arrive(engine: SqlalchemyEngine) -> None:
    cut = engine.execute(COUNT_UP, replace(LIMITS, max_rows=5))
    assert (cut.rows, cut.truncated) == (((1,), (2,), (3,), (4,), (5,)), True)
    # Two integers of 8 bytes and "ab": 18 bytes, 3 cells.
    assert engine.execute("SELECT 1, 2, 'ab'", replace(LIMITS, max_bytes=18, max_cells=3)).rows
    for small in (replace(LIMITS, max_bytes=17), replace(LIMITS, max_cells=2)):
        result = engine.execute("SELECT 1, 2, 'ab'", small)
        assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)


def test_the_clock_is_looked_at_between_rows(engine: SqlalchemyEngine) -> None:
    started_s = time.monotonic()
    endless = QueryLimits(timeout_s=0.2, max_rows=10**9, max_bytes=10**10, max_cells=10**9)
    result = engine.execute(COUNT_UP, endless)
    assert (result.status, result.kind) == (QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT)
    assert time.monotonic() - started_s < 2


def test_what_slips_through_is_rolled_back_and_a_result(database: Path) -> None:
    class Careless(SqlalchemyEngine):
        def _refuse(self, sql: str) -> None:
            """As if a text had been read in another way than the database reads it."""

    before = facts(database)
    engine = Careless(f"sqlite+pysqlite:///{database}")
    assert engine.execute("DELETE FROM shop", LIMITS).kind == ErrorKind.WRITE
    engine.execute("DELETE FROM shop RETURNING id", LIMITS)
    assert engine.execute("SELECT 1; DELETE FROM shop", LIMITS).status is QueryStatus.ERROR
    assert engine.execute("SELECT count(*) FROM shop", LIMITS).rows == ((3,),)
    engine.close()
    assert facts(database) == before


def test_a_database_that_cannot_be_opened_is_said_without_its_place(tmp_path: Path) -> None:
    for url in (
        f"sqlite+pysqlite:///{tmp_path}/no/such/folder/x.sqlite",
        "nosuchdialect://who:hunter2@host/db",
        "mysql+nosuchdriver://who:hunter2@host/db",
    ):
        with pytest.raises(CannotOpenError) as caught:
            SqlalchemyEngine(url)
        assert not any(word in str(caught.value) for word in (str(tmp_path), "who", "hunter2"))


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("a/b.sqlite", "a/b.sqlite"),
        (Path("/a/b.duckdb"), "/a/b.duckdb"),
        ("sqlite:///a.db", "a.db"),
        ("sqlite+pysqlite:////a/b.db?mode=ro", "/a/b.db"),
        ("duckdb:////a/b%20c", "/a/b c"),
        ("postgresql://who@host/shop", None),
        ("mysql+pymysql://host/shop", None),
    ],
)
def test_addresses_of_files(address: str | Path, path: str | None) -> None:
    assert file_of(address) == (None if path is None else Path(path))


def test_each_address_gets_its_engine(database: Path, tmp_path: Path) -> None:
    import duckdb  # noqa: PLC0415

    other = tmp_path / "x.duckdb"
    duckdb.connect(str(other)).close()
    for address, kind in {
        str(database): SqliteEngine,
        database: SqliteEngine,
        f"sqlite:///{database}": SqliteEngine,
        f"sqlite+pysqlite:///{database}": SqliteEngine,
        str(other): DuckdbEngine,
        f"duckdb:///{other}": DuckdbEngine,
    }.items():
        engine = open_engine(address, memory_bytes=100_000_000)
        assert type(engine) is kind
        assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)
        engine.close()
        assert not_enforced(address) == kind.NOT_ENFORCED
    with pytest.raises((OSError, sqlite3.Error)):
        open_engine("sqlite://", memory_bytes=1)


def test_what_is_not_enforced_is_said_before_a_connection() -> None:
    assert not_enforced("pets.sqlite") == ()
    [work] = not_enforced("pets.duckdb")
    assert work.startswith("work units")
    assert any("memory" in words for words in not_enforced("postgres://host/shop"))
    assert any("time" in words for words in not_enforced("mysql://host/shop"))
