"""One attack for each line that `mtsql.sql.sqlite_engine` promises; look-alikes that must pass."""

import math
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.shops import facts
from mtsql.sql.engine import ErrorKind
from mtsql.sql.records import QueryLimits, QueryStatus
from mtsql.sql.sqlite_engine import SqliteEngine
from mtsql.sql.sqlite_refusal import explain_refusal

LIMITS = QueryLimits(timeout_s=2.0, max_vm_steps=2_000_000, max_rows=1000, max_bytes=100_000)
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


def test_a_query_gives_columns_rows_and_time(engine: SqliteEngine) -> None:
    result = engine.execute("SELECT id, name AS who, weight FROM pet WHERE id < 3", LIMITS)
    assert result.status is QueryStatus.OK
    assert result.columns == ("id", "who", "weight")
    assert result.rows == ((1, "Ada", 4.5), (2, "Bob", None))
    assert not result.truncated
    assert 0 < result.elapsed_s < LIMITS.timeout_s


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO pet VALUES (9, 'Eve', 1)",
        "UPDATE pet SET name = 'Eve'",
        "DELETE FROM pet",
        "REPLACE INTO pet VALUES (1, 'Eve', 1)",
        "WITH c AS (SELECT 1) DELETE FROM pet",
        "WITH c AS (SELECT 1) INSERT INTO pet SELECT 9, 'Eve', 1 FROM c",
        "/* SELECT */ DELETE FROM pet",
        "DELETE FROM pet RETURNING id",
        "DROP TABLE pet",
        "ALTER TABLE pet RENAME TO cat",
        "CREATE TABLE t AS SELECT * FROM pet",
        "CREATE TEMP TABLE t (a)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
        "INSERT INTO note VALUES ('x')",
        "EXPLAIN DELETE FROM pet",
        "ATTACH 'new.sqlite' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'new.sqlite'",
        "REINDEX",
        "ANALYZE",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = OFF",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA table_info(pet)",
        "SELECT * FROM pragma_table_info('pet')",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT s",
        "SELECT load_extension('evil')",
        "SELECT fts3_tokenizer('simple')",
    ],
)
def test_all_but_reading_is_refused(
    sql: str, engine: SqliteEngine, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)
    before = facts(database)
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (QueryStatus.REFUSED, ErrorKind.WRITE)
    assert result.message.startswith("only reading ")
    assert facts(database) == before
    assert engine.execute("SELECT count(*) FROM pet", LIMITS).rows == ((3,),)


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
    ("sql", "kind"),
    [
        ("SELECT 1; SELECT 2", ErrorKind.MULTIPLE_STATEMENTS),
        ("SELECT 1; DROP TABLE pet", ErrorKind.MULTIPLE_STATEMENTS),
        ("", ErrorKind.EMPTY_STATEMENT),
        (" ; ", ErrorKind.EMPTY_STATEMENT),
        ("-- only a comment; SELECT 1", ErrorKind.EMPTY_STATEMENT),
        ("/* only a comment", ErrorKind.EMPTY_STATEMENT),
        ("SELECT 1 -- " + "x" * 20_000, ErrorKind.TOO_LONG),
    ],
)
def test_exactly_one_statement_of_bounded_length(
    sql: str, kind: ErrorKind, engine: SqliteEngine
) -> None:
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (QueryStatus.REFUSED, kind)


@pytest.mark.parametrize(
    ("sql", "first_row"),
    [
        ("SELECT 'DROP TABLE pet; --'", ("DROP TABLE pet; --",)),
        ("SELECT 'a;b' -- ; DELETE FROM pet", ("a;b",)),
        ("/* DELETE */ SELECT 1 /* ; */ ;", (1,)),
        ("SELECT 1;;\n", (1,)),
        ("SELECT 1; -- done", (1,)),
        ("; SELECT 1", (1,)),
        ("VALUES (1, 'x')", (1, "x")),
        ("SELECT name FROM pet ORDER BY name LIMIT 1", ("Ada",)),
        ("SELECT rank() OVER (ORDER BY id DESC) FROM pet WHERE id = 3", (1,)),
        ("SELECT sum(n) OVER (ORDER BY n) FROM number LIMIT 1 OFFSET 3", (6,)),
        ("""SELECT json_extract('{"a": [5]}', '$.a[0]')""", (5,)),
        ("SELECT value FROM json_each('[7, 8]')", (7,)),
        (
            "SELECT date('2024-02-28', '+1 day'), strftime('%Y', '2024-01-01')",
            ("2024-02-29", "2024"),
        ),
        (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION SELECT x + 1 FROM c WHERE x < 9) "
            "SELECT max(x) FROM c",
            (9,),
        ),
        ("SELECT replace(name, 'A', 'x') FROM pet WHERE id = 1", ("xda",)),
        ("SELECT body FROM note WHERE note MATCH 'dog'", ("a small dog",)),
        ("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid LIMIT 1", ("pet",)),
        ("SELECT 1 AS 'delete'", (1,)),
        ("EXPLAIN QUERY PLAN SELECT * FROM pet", None),
    ],
)
def test_look_alikes_pass(
    sql: str, first_row: tuple[object, ...] | None, engine: SqliteEngine
) -> None:
    result = engine.execute(sql, LIMITS)
    assert result.status is QueryStatus.OK, result
    if first_row is not None:
        assert result.rows[0] == first_row


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT nope FROM pet", ErrorKind.NO_SUCH_COLUMN),
        ("SELECT pet.nope FROM pet", ErrorKind.NO_SUCH_COLUMN),
        ("SELECT * FROM nope", ErrorKind.NO_SUCH_TABLE),
        ("SELECT nope(1)", ErrorKind.NO_SUCH_FUNCTION),
        ("SELECT id FROM pet, pet AS p", ErrorKind.AMBIGUOUS_COLUMN),
        ("SELEC 1", ErrorKind.SYNTAX),
        ("SELECT (", ErrorKind.SYNTAX),
        ('SELECT "open', ErrorKind.SYNTAX),
        ("SELECT 1\0", ErrorKind.SYNTAX),
        ("SELECT '\ud800'", ErrorKind.SYNTAX),
        ("SELECT abs(1, 2)", ErrorKind.WRONG_NUM_ARGS),
        ("SELECT id FROM pet WHERE max(id) > 1", ErrorKind.MISUSE_AGGREGATE),
        ("SELECT row_number() FROM pet", ErrorKind.MISUSE_AGGREGATE),
        ("SELECT 1 UNION SELECT 1, 2", ErrorKind.OTHER),
        ("SELECT ?", ErrorKind.OTHER),
        ("SELECT " + "(" * 400 + "1" + ")" * 400, ErrorKind.OTHER),
        (" UNION ALL ".join(["SELECT 1"] * 101), ErrorKind.OTHER),
    ],
)
def test_the_models_mistakes_have_names(sql: str, kind: ErrorKind, engine: SqliteEngine) -> None:
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (QueryStatus.ERROR, kind)
    assert result.message


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


def test_the_clock_ends_what_the_budget_allows(engine: SqliteEngine) -> None:
    started_s = time.monotonic()
    result = engine.execute(RUNAWAY, QueryLimits(timeout_s=0.1, max_vm_steps=1 << 60))
    assert (result.status, result.kind) == (QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT)
    assert 0.1 <= result.elapsed_s <= time.monotonic() - started_s < 1.0


def test_one_row_more_than_the_cap_is_seen_and_not_kept(engine: SqliteEngine) -> None:
    sql = "SELECT n FROM number ORDER BY n"
    at_cap = engine.execute(sql, replace(LIMITS, max_rows=300))
    above_cap = engine.execute(sql, replace(LIMITS, max_rows=299))
    assert (len(at_cap.rows), at_cap.truncated) == (300, False)
    assert (len(above_cap.rows), above_cap.truncated) == (299, True)
    assert above_cap.status is QueryStatus.OK


def test_the_row_cap_stops_an_endless_result(engine: SqliteEngine) -> None:
    endless = RUNAWAY.replace("count(*)", "x")
    result = engine.execute(endless, replace(LIMITS, max_rows=5))
    assert result.rows == ((1,), (2,), (3,), (4,), (5,))
    assert result.truncated


def test_bytes_are_counted_as_documented(engine: SqliteEngine) -> None:
    # 'é' is 2 bytes, 'ab' 2, a blob of 3 is 3, a number and NULL 8 each: 23.
    sql = "SELECT 'é', 'ab', x'000102', 1, NULL"
    assert engine.execute(sql, replace(LIMITS, max_bytes=23)).status is QueryStatus.OK
    result = engine.execute(sql, replace(LIMITS, max_bytes=22))
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert result.rows == ()


def test_cells_are_counted_whatever_they_hold(engine: SqliteEngine) -> None:
    # 4 rows of 3 empty texts are 12 cells and 0 bytes.
    sql = "SELECT '', '', '' FROM number LIMIT 4"
    whole = engine.execute(sql, replace(LIMITS, max_cells=12, max_bytes=0))
    assert (whole.status, len(whole.rows), whole.truncated) == (QueryStatus.OK, 4, False)
    result = engine.execute(sql, replace(LIMITS, max_cells=11))
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert (result.rows, result.message) == ((), "the result has more than 11 cells")
    # The row cap comes first: 2 rows of 3 cells are kept, and 6 cells are allowed.
    cut = engine.execute(sql, replace(LIMITS, max_rows=2, max_cells=6))
    assert (cut.status, len(cut.rows), cut.truncated) == (QueryStatus.OK, 2, True)


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
