"""What `mtsql.sql.sqlite_engine` alone promises; see test_engines.py for the rest."""

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mtsql.sql.engine import ErrorKind
from mtsql.sql.records import QueryLimits, QueryStatus
from mtsql.sql.sqlite_engine import SqliteEngine
from mtsql.sql.sqlite_refusal import explain_refusal

LIMITS = QueryLimits(timeout_s=20.0, max_vm_steps=2_000_000, max_rows=1000, max_bytes=100_000)
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three pets, and 300 numbers; the path needs quoting in a URI."""
    folder = tmp_path / "a b?#%41"
    folder.mkdir()
    path = folder / "pets&mode=rwc.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, weight REAL);
            INSERT INTO pet VALUES (1, 'Ada', 4.5), (2, 'Bob', NULL), (3, CAST(x'ff41' AS TEXT), 2);
            CREATE TABLE number (n INTEGER);
            CREATE INDEX number_n ON number (n);
            CREATE VIRTUAL TABLE note USING fts5(body);
            INSERT INTO note VALUES ('a small dog'), ('a large cat');
            """
        )
        connection.executemany("INSERT INTO number VALUES (?)", [(n,) for n in range(300)])
    connection.close()
    return path


@pytest.fixture
def engine(database: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(database)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("/* x */ CREATE TEMP TABLE t (a)", "is allowed, not CREATE"),
        ("drop table pet", "is allowed, not DROP"),
        ("VACUUM INTO 'x'", "is allowed, not VACUUM"),
        ("ANALYZE", "is allowed, not ANALYZE"),
        ("EXPLAIN QUERY PLAN CREATE VIEW v AS SELECT 1", "is allowed, not CREATE"),
        ("WITH c AS (SELECT 1) DELETE FROM pet", "is allowed, not DELETE"),
        ("SELECT load_extension('x')", "is allowed, not the function load_extension"),
        ("SELECT * FROM pragma_table_info('pet')", "tables is allowed, not pragma_table_info"),
        (
            "WITH c AS (SELECT 'pragma_x') SELECT * FROM c, PRAGMA_table_list",
            "tables is allowed, not PRAGMA_table_list",
        ),
    ],
)
def test_a_refusal_names_what_the_statement_names(
    sql: str, words: str, engine: SqliteEngine
) -> None:
    assert engine.execute(sql, LIMITS).message == f"only reading {words}"


def test_a_table_that_this_build_of_sqlite_may_have_is_named_too() -> None:
    inner = (sqlite3.SQLITE_UPDATE, "sqlite_master")  # how SQLite declares it
    sql, error = "SELECT * FROM dbstat", "vtable constructor failed: dbstat"
    assert explain_refusal(*inner, sql, error) == "only reading tables is allowed, not dbstat"


@pytest.mark.parametrize("sql", ["SELECT writefile('f', 'x')", "SELECT readfile('f')"])
def test_file_functions_do_not_exist(sql: str, engine: SqliteEngine) -> None:
    assert engine.execute(sql, LIMITS).kind in (ErrorKind.NO_SUCH_FUNCTION, ErrorKind.WRITE)


@pytest.mark.parametrize(
    "sql", [RUNAWAY, "SELECT count(*) FROM number a, number b, number c, number d"]
)
def test_the_step_budget_ends_runaways_alike_each_time(sql: str, engine: SqliteEngine) -> None:
    results = [engine.execute(sql, LIMITS) for _ in range(3)]
    assert {(r.status, r.kind) for r in results} == {(QueryStatus.INTERRUPTED, ErrorKind.STEPS)}
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


def test_a_tiny_step_budget_holds(engine: SqliteEngine) -> None:
    count = "SELECT count(*) FROM number a, number b"
    assert engine.execute(count, replace(LIMITS, max_vm_steps=500)).kind == ErrorKind.STEPS
    assert engine.execute(count, LIMITS).rows == ((90_000,),)


def test_bytes_are_counted_as_documented(engine: SqliteEngine) -> None:
    # 'é' is 2 bytes, 'ab' 2, a blob of 3 is 3, a number and NULL 8 each: 23.
    sql = "SELECT 'é', 'ab', x'000102', 1, NULL"
    assert engine.execute(sql, replace(LIMITS, max_bytes=23)).status is QueryStatus.OK
    result = engine.execute(sql, replace(LIMITS, max_bytes=22))
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert result.rows == ()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT zeroblob(1000000000)",
        "SELECT replace(hex(zeroblob(40000)), '0', '0123456789')",
        "SELECT group_concat(a.n) FROM number a, number b",
        "SELECT 'x' || zeroblob(90000) FROM number",
    ],
)
def test_huge_values_are_capped(sql: str, engine: SqliteEngine) -> None:
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert result.rows == ()


def test_a_wide_table_and_long_conditions_run_as_in_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "wide.sqlite"
    with sqlite3.connect(path) as connection:
        columns = ", ".join(f"c{number} INTEGER DEFAULT 7" for number in range(1000))
        connection.execute(f"CREATE TABLE w ({columns})")
        connection.execute("INSERT INTO w DEFAULT VALUES")
    connection.close()
    engine = SqliteEngine(path)
    assert engine.execute("SELECT * FROM w", LIMITS).rows == ((7,) * 1000,)
    ors = " OR ".join(["c0 = 6"] * 400)
    assert engine.execute(f"SELECT count(*) FROM w WHERE {ors}", LIMITS).rows == ((0,),)
    union = " UNION ALL ".join(["SELECT 1"] * 300)
    assert len(engine.execute(union, LIMITS).rows) == 300
    # Beyond what any SQLite takes it is the query's mistake.
    result = engine.execute("SELECT *, * , 1 FROM w", LIMITS)
    assert (result.status, result.message) == (
        QueryStatus.ERROR,
        "too many columns in result set",
    )
    engine.close()


def test_a_limit_of_ours_is_no_mistake_of_the_query(engine: SqliteEngine) -> None:
    pattern = engine.execute(f"SELECT 'a' LIKE '{'a' * 1001}'", LIMITS)
    assert (pattern.status, pattern.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert pattern.message == ("a pattern of LIKE or GLOB is longer than 1000 bytes, a fixed limit")
    assert engine.execute(f"SELECT 'a' LIKE '{'a' * 1000}'", LIMITS).rows == ((0,),)
    steps = engine.execute(RUNAWAY, LIMITS)
    assert steps.message == "stopped after 2000000 steps of work (sql.max_vm_steps)"
    value = engine.execute("SELECT hex(zeroblob(99999))", LIMITS)
    assert value.message == "a value is larger than 100000 bytes (sql.max_bytes)"


def test_odd_values_arrive(engine: SqliteEngine) -> None:
    result = engine.execute("SELECT 9e999, -9e999, 9e999 - 9e999, x'00ff', NULL", LIMITS)
    assert result.rows == ((math.inf, -math.inf, None, b"\x00\xff", None),)
    assert engine.execute("SELECT name FROM pet WHERE id = 3", LIMITS).rows == (("\ufffdA",),)


def test_messages_hold_no_path(engine: SqliteEngine, database: Path) -> None:
    attacks = [
        "ATTACH 'x/y' AS other",
        "VACUUM INTO 'x/y'",
        "SELECT file FROM pragma_database_list",
        "SELECT load_extension('x')",
        "SELECT nope",
    ]
    for sql in attacks:
        result = engine.execute(sql, LIMITS)
        assert result.status is not QueryStatus.OK
        assert str(database.parent) not in result.message
        assert database.name not in result.message


def test_a_file_that_is_no_database_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "text.sqlite"
    path.write_text("this is no database, whatever its name says " * 30, encoding="utf-8")
    with pytest.raises(sqlite3.DatabaseError):
        SqliteEngine(path)
    with pytest.raises(sqlite3.OperationalError):
        SqliteEngine(tmp_path / "missing.sqlite")
    assert not (tmp_path / "missing.sqlite").exists()
