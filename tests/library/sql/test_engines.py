"""What all engines promise alike, each on a real database.

What only one of them promises stands in the file of its name.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from helpers.shops import facts, write_shops
from mtsql.sql.duckdb_engine import DuckdbEngine
from mtsql.sql.engine import Engine, ErrorKind
from mtsql.sql.engines import open_engine
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus
from mtsql.sql.sqlalchemy_engine import SqlalchemyEngine
from mtsql.sql.sqlite_engine import SqliteEngine

Rows = tuple[tuple[object, ...], ...]
LIMITS = QueryLimits(timeout_s=20.0, max_vm_steps=2_000_000, max_rows=1000, max_bytes=100_000)
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
COUNT_UP = RUNAWAY.replace("count(*)", "x")
MANY = "generate_series(1, 100000000)"

ENDLESS = QueryLimits(max_vm_steps=1 << 60, max_rows=10**9, max_bytes=10**10, max_cells=10**9)
REFUSED: dict[str, list[str]] = {
    "sqlite": [
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
    "duckdb": [
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
    "sqlalchemy": [
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
    "postgres": [
        # Statements that are no query, also where they look like one.
        "INSERT INTO pet VALUES (9)",
        "UPDATE pet SET name = 'x'",
        "DELETE FROM pet",
        "/* SELECT */ DELETE FROM pet -- SELECT",
        "MERGE INTO pet USING odd ON true WHEN MATCHED THEN DELETE",
        "WITH c AS (SELECT 1) DELETE FROM pet",
        "WITH c AS (DELETE FROM pet RETURNING id) SELECT * FROM c",
        "WITH c AS (INSERT INTO pet VALUES (9) RETURNING id) SELECT * FROM c",
        "SELECT * INTO copy FROM pet",
        "SELECT 1 INTO TEMP copy",
        "SELECT * FROM pet FOR UPDATE",
        "SELECT * FROM pet FOR KEY SHARE",
        "CREATE TABLE t (a INT)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS 'SELECT 1'",
        "DROP TABLE pet",
        "TRUNCATE pet",
        "ALTER TABLE pet ADD x INT",
        "GRANT ALL ON pet TO PUBLIC",
        "COPY pet TO '/tmp/pet.csv'",
        "COPY pet TO PROGRAM 'id'",
        "COPY (SELECT 1) TO STDOUT",
        "EXPLAIN ANALYZE SELECT 1",
        "DO $$ BEGIN DELETE FROM pet; END $$",
        "CALL run_text('x')",
        "SET statement_timeout = 0",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET ROLE admin",
        "RESET SESSION AUTHORIZATION",
        "BEGIN",
        "COMMIT",
        "ROLLBACK AND CHAIN",
        "LOCK TABLE pet",
        "VACUUM",
        "LISTEN x",
        "NOTIFY x",
        "PREPARE p AS SELECT 1",
        "DECLARE d CURSOR WITH HOLD FOR SELECT 1",
        "FETCH ALL FROM d",
        "CLOSE ALL",
        "DISCARD ALL",
        "LOAD 'x'",
        "SHOW data_directory",
        # The server's files, programs and settings; other sessions and what they ask.
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT current_setting('data_directory')",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT query FROM pg_stat_activity",
        "SELECT query FROM pg_catalog . pg_stat_activity",
        'SELECT query FROM "pg_stat_activity"',
        "SELECT query FROM PG_STAT_ACTIVITY",
        "SELECT query FROM pg_catalog./**/pg_stat_activity",
        r'SELECT query FROM U&"\0070g_stat_activity"',
        """SELECT query FROM u&"!0070g_stat_activity" UESCAPE '!'""",
        "SELECT * FROM pg_stat_get_activity(NULL)",
        "TABLE pg_shadow",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_sleep(1)",
        "SELECT (0.01::float8).pg_sleep",
        "SELECT nextval('x')",
        "SELECT inet_server_addr()",
        "SELECT * FROM information_schema.user_mapping_options",
        "SELECT * FROM information_schema._pg_foreign_servers",
        # SQL inside of strings.
        "SELECT query_to_xml('SELECT * FROM secret', true, true, '')",
        "SELECT database_to_xml(true, true, '')",
        "SELECT cursor_to_xml('c', 1, true, true, '')",
        "SELECT * FROM ts_stat('SELECT ''a''::tsvector')",
        "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')",
        "SELECT * FROM dblink('', 'SELECT 1') AS t(a INT)",
        "SELECT * FROM crosstab('SELECT 1, 2, 3') AS t(a INT)",
        # Functions of the owner that may do more than compute.
        "SELECT run_text('DELETE FROM pet RETURNING id')",
        "SELECT run_text ('SELECT 1')",
        """SELECT "run_text"('SELECT 1')""",
        "SELECT public.RUN_TEXT('SELECT 1')",
        "SELECT run_text/**/('SELECT 1')",
        "SELECT run_text--\n('SELECT 1')",
        "SELECT ('SELECT 1'::text).run_text",
        """SELECT ('SELECT 1'::text) . "run_text" """,
        "SELECT ('SELECT 1'::text)./* a */run_text",
        "SELECT ('SELECT 1'::text).--\n run_text",
        """SELECT "Run That"('SELECT 1')""",
        """SELECT "1 ""x"" 2"('SELECT 1')""",
        "SELECT peek()",
        "SELECT * FROM peek()",
        "SELECT pet.peek_at FROM pet",
        "SELECT noted(id) FROM pet",
        "SELECT wird_é()",
        # What the role has no right to.
        "SELECT * FROM secret",
    ],
}
MISTAKES: dict[str, list[tuple[str, QueryStatus, ErrorKind]]] = {
    "sqlite": [
        ("SELECT 1; SELECT 2", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("SELECT 1; DROP TABLE pet", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        (" ; ", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("-- only a comment; SELECT 1", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("/* only a comment", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("SELECT 1 -- " + "x" * 20_000, QueryStatus.REFUSED, ErrorKind.TOO_LONG),
        ("SELECT nope FROM pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_COLUMN),
        ("SELECT pet.nope FROM pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_COLUMN),
        ("SELECT * FROM nope", QueryStatus.ERROR, ErrorKind.NO_SUCH_TABLE),
        ("SELECT nope(1)", QueryStatus.ERROR, ErrorKind.NO_SUCH_FUNCTION),
        ("SELECT id FROM pet, pet AS p", QueryStatus.ERROR, ErrorKind.AMBIGUOUS_COLUMN),
        ("SELEC 1", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT (", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ('SELECT "open', QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT 1\0", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT '\ud800'", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT abs(1, 2)", QueryStatus.ERROR, ErrorKind.WRONG_NUM_ARGS),
        ("SELECT id FROM pet WHERE max(id) > 1", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT row_number() FROM pet", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT 1 UNION SELECT 1, 2", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT ?", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT " + "(" * 400 + "1" + ")" * 400, QueryStatus.ERROR, ErrorKind.OTHER),
        (" UNION ALL ".join(["SELECT 1"] * 501), QueryStatus.ERROR, ErrorKind.OTHER),
    ],
    "duckdb": [
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
    "sqlalchemy": [
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
        # Not refused: SQLite itself takes no parentheses around a whole query.
        ("(SELECT 1)", QueryStatus.ERROR, ErrorKind.OTHER),
    ],
    "postgres": [
        ("SELECT 1; SELECT 2", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("SELECT 1; DROP TABLE pet", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("SELECT 1; COMMIT; DELETE FROM pet", QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS),
        ("", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        (" ; ", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("-- nothing", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("/* nothing */", QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT),
        ("SELECT " + "1" * 20_000, QueryStatus.REFUSED, ErrorKind.TOO_LONG),
        ("SELECT 1\0", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT '\ud800'", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELEC 1", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT (", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT 'open", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT 1 /* open", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT 1) ; DELETE FROM pet; --", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT :name", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT nope FROM pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_COLUMN),
        ("SELECT pet.nope FROM pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_COLUMN),
        ("SELECT nope.id FROM pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_COLUMN),
        ("SELECT * FROM nope", QueryStatus.ERROR, ErrorKind.NO_SUCH_TABLE),
        ("SELECT * FROM nope.pet", QueryStatus.ERROR, ErrorKind.NO_SUCH_TABLE),
        ("SELECT nope(1)", QueryStatus.ERROR, ErrorKind.NO_SUCH_FUNCTION),
        ("SELECT public.nope(1)", QueryStatus.ERROR, ErrorKind.NO_SUCH_FUNCTION),
        ("SELECT abs(1, 2)", QueryStatus.ERROR, ErrorKind.WRONG_NUM_ARGS),
        ("SELECT id FROM pet, pet AS p", QueryStatus.ERROR, ErrorKind.AMBIGUOUS_COLUMN),
        ("SELECT name FROM pet GROUP BY tame", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT sum(sum(id)) FROM pet", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT id FROM pet WHERE sum(id) > 1", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT rank() FROM pet", QueryStatus.ERROR, ErrorKind.MISUSE_AGGREGATE),
        ("SELECT 1 = 'x'::text", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT 'x'::int", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT 1 / (id - 1) FROM pet", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT 1 UNION SELECT 1, 2", QueryStatus.ERROR, ErrorKind.SYNTAX),
        ("SELECT $1", QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT " + "+".join("1" * 9000), QueryStatus.ERROR, ErrorKind.OTHER),
        ("SELECT repeat('x', 2000000000)", QueryStatus.CAPPED, ErrorKind.MEMORY),
        ("SELECT array_fill(1, ARRAY[1000000000])", QueryStatus.CAPPED, ErrorKind.MEMORY),
    ],
}
LOOK_ALIKES: dict[str, list[tuple[str, Rows | None]]] = {
    "sqlite": [
        ("SELECT 'DROP TABLE pet; --'", (("DROP TABLE pet; --",),)),
        ("SELECT 'a;b' -- ; DELETE FROM pet", (("a;b",),)),
        ("/* DELETE */ SELECT 1 /* ; */ ;", ((1,),)),
        ("SELECT 1;;\n", ((1,),)),
        ("SELECT 1; -- done", ((1,),)),
        ("; SELECT 1", ((1,),)),
        ("VALUES (1, 'x')", ((1, "x"),)),
        ("SELECT name FROM pet ORDER BY name LIMIT 1", (("Ada",),)),
        ("SELECT rank() OVER (ORDER BY id DESC) FROM pet WHERE id = 3", ((1,),)),
        ("SELECT sum(n) OVER (ORDER BY n) FROM number LIMIT 1 OFFSET 3", ((6,),)),
        ("""SELECT json_extract('{"a": [5]}', '$.a[0]')""", ((5,),)),
        ("SELECT value FROM json_each('[7, 8]')", ((7,), (8,))),
        (
            "SELECT date('2024-02-28', '+1 day'), strftime('%Y', '2024-01-01')",
            (("2024-02-29", "2024"),),
        ),
        (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION SELECT x + 1 FROM c WHERE x < 9) "
            "SELECT max(x) FROM c",
            ((9,),),
        ),
        ("SELECT replace(name, 'A', 'x') FROM pet WHERE id = 1", (("xda",),)),
        ("SELECT body FROM note WHERE note MATCH 'dog'", (("a small dog",),)),
        ("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid LIMIT 1", (("pet",),)),
        ("SELECT 1 AS 'delete'", ((1,),)),
        ("EXPLAIN QUERY PLAN SELECT * FROM pet", None),
    ],
    "duckdb": [
        ("SELECT 'DROP TABLE pet; --'", (("DROP TABLE pet; --",),)),
        ('SELECT "delete", query FROM odd', ((7, 8),)),
        ("SELECT 'duckdb_databases', 'query(1)' /* query(1) */ -- duckdb_settings", None),
        ("VALUES (1), (2)", ((1,), (2,))),
        ("FROM odd", ((7, 8),)),
        ("SHOW TABLES", (("odd",), ("pet",))),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) "
            "SELECT max(i) FROM n",
            ((9,),),
        ),
        ("SELECT name FROM pet WHERE name = 'Bö' AND 'ä' <> 'query(' ;", (("Bö",),)),
        ("""SELECT json_extract('{"a": [1, 2]}', '$.a[1]')::INTEGER""", ((2,),)),
        ("SELECT strftime(DATE '2020-01-02', '%Y')", (("2020",),)),
    ],
    "sqlalchemy": [
        ("SELECT 'DROP TABLE pet; --'", (("DROP TABLE pet; --",),)),
        ("VALUES (1, 2)", ((1, 2),)),
        ("SELECT 1 UNION SELECT 2", ((1,), (2,))),
        ("WITH c AS (SELECT 1 AS a) SELECT a FROM c; -- done", ((1,),)),
        ('SELECT 1 AS "delete" /* ; */', ((1,),)),
    ],
    "postgres": [
        ("SELECT 'DROP TABLE pet; --'", (("DROP TABLE pet; --",),)),
        ("SELECT 'run_text', 'set' /* delete */ -- update", (("run_text", "set"),)),
        ('SELECT "delete", random FROM odd', ((7, 8),)),
        ("SELECT delete, odd.random FROM odd", ((7, 8),)),
        ("; SELECT 1 ;; ", ((1,),)),
        ("VALUES (1), (2)", ((1,), (2,))),
        ("TABLE odd", ((7, 8),)),
        ("(SELECT 1) UNION ALL (SELECT 2)", ((1,), (2,))),
        ("SELECT twice(4), (4).twice", ((8, 8),)),
        ("SELECT random() < 2 AND now() > DATE '2020-01-01'", ((1,),)),
        ("SELECT 1::pg_catalog.int4", ((1,),)),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) "
            "SELECT max(i) FROM n",
            ((9,),),
        ),
        ("SELECT name FROM pet WHERE name LIKE '%d%'", (("Ada",),)),
        (
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'odd'"
            " ORDER BY ordinal_position",
            (("delete",), ("random",)),
        ),
        ("SELECT count(*) FROM pet TABLESAMPLE system (100)", ((2,),)),
        ("SELECT rank() OVER (ORDER BY id DESC) FROM pet WHERE id = 1", ((1,),)),
    ],
}

QUERIES: dict[str, list[tuple[str, tuple[str, ...], Rows]]] = {
    "sqlite": [
        (
            "SELECT id, name AS who, weight FROM pet WHERE id < 3",
            ("id", "who", "weight"),
            ((1, "Ada", 4.5), (2, "Bob", None)),
        )
    ],
    "duckdb": [
        (
            "SELECT *, sum(id) OVER () AS all_ids FROM pet ORDER BY id",
            ("id", "name", "weight", "born", "tame", "all_ids"),
            ((1, "Ada", 4.5, "2020-01-02", 1, 3), (2, "Bö", None, None, None, 3)),
        ),
        (
            "SELECT TIMESTAMP '2020-01-02 03:04:05' AS t, [1, 2] AS l, 'a'::BLOB AS b",
            ("t", "l", "b"),
            (("2020-01-02 03:04:05", "[1, 2]", b"a"),),
        ),
    ],
    "sqlalchemy": [
        (
            "SELECT id, name AS who, name AS who FROM shop ORDER BY id;",
            ("id", "who", "who"),
            ((1, "Ada", "Ada"), (2, "Bob", "Bob"), (3, "Cy", "Cy")),
        ),
        (
            "SELECT '%s :a ?' AS a, 7 % 4 AS b, x'00ff' AS c, NULL AS d",
            ("a", "b", "c", "d"),
            (("%s :a ?", 3, b"\x00\xff", None),),
        ),
    ],
    "postgres": [
        (
            "SELECT *, sum(id) OVER () AS all_ids FROM pet ORDER BY id;",
            ("id", "name", "weight", "born", "tame", "all_ids"),
            ((1, "Ada", 4.5, "2020-01-02", 1, 3), (2, "Bö", None, None, None, 3)),
        )
    ],
}
RUNAWAYS = {
    "sqlite": [RUNAWAY],
    "duckdb": [
        RUNAWAY,
        "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range > 5",
    ],
    "sqlalchemy": [COUNT_UP],  # the clock is looked at between rows
    "postgres": [
        RUNAWAY,
        f"SELECT count(*) FROM {MANY} AS a, {MANY} AS b",
        # Each batch of rows is fast; the whole is not.
        f"SELECT x FROM {MANY} AS x, generate_series(1, 3000) AS y WHERE y = 3000",
        "SELECT factorial(32000) % 7",  # one call of one function
    ],
}
ROWS = {
    "sqlite": [(COUNT_UP, "SELECT n FROM number WHERE n < 100 ORDER BY n")],
    "duckdb": [("SELECT * FROM range(1000000000)", "SELECT * FROM range(100)")],
    "sqlalchemy": [(COUNT_UP, f"{COUNT_UP} LIMIT 100")],
    "postgres": [(f"SELECT {MANY}", "SELECT * FROM generate_series(1, 100)")],
}
"""Endlessly many rows, and a hundred."""
FOUR_ROWS = {
    "sqlite": ["number LIMIT 4"],
    "duckdb": ["range(4)"],
    "sqlalchemy": ["shop, shop AS other LIMIT 4"],
    "postgres": ["generate_series(1, 4)"],
}

ENGINES = tuple(REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An engine before a database of its own."""

    engine: Engine
    facts: Callable[[], object]
    """What no statement may change."""
    place: str
    """What no message may name: the folder of the file, or of the server."""
    num_rows: tuple[str, int]
    """A table, and how many rows it has."""
    busy: Callable[[], object] = list
    """Queries that go on: none, once the clock has ended one."""

    def execute(self, sql: str, limits: QueryLimits = LIMITS, **changed: Any) -> QueryResult:
        return self.engine.execute(sql, replace(limits, **changed))

    def check(self) -> None:
        """It still answers, and nothing is lost."""
        table, num = self.num_rows
        assert self.execute(f"SELECT count(*) FROM {table}").rows == ((num,),)


def open_sqlite(folder: Path) -> Opened:
    """Three pets, and 300 numbers; the path needs quoting in a URI."""
    folder = folder / "a b?#%41"
    folder.mkdir()
    path = folder / "pets&mode=rwc.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, weight REAL);
            INSERT INTO pet VALUES (1, 'Ada', 4.5), (2, 'Bob', NULL), (3, 'Cy', 2);
            CREATE TABLE number (n INTEGER);
            CREATE INDEX number_n ON number (n);
            CREATE VIRTUAL TABLE note USING fts5(body);
            INSERT INTO note VALUES ('a small dog'), ('a large cat');
            """
        )
        connection.executemany("INSERT INTO number VALUES (?)", [(n,) for n in range(300)])
    return Opened(
        engine=SqliteEngine(path),
        facts=lambda: facts(path),
        place=str(folder),
        num_rows=("pet", 3),
    )


def open_duckdb(folder: Path) -> Opened:
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
    return Opened(
        engine=DuckdbEngine(path, memory_bytes=200_000_000),
        facts=lambda: facts(path),
        place=str(folder),
        num_rows=("pet", 2),
    )


def open_sqlalchemy(folder: Path) -> Opened:
    """A SQLite file, as any database that SQLAlchemy reaches."""
    path = write_shops(folder / "shops.sqlite")
    return Opened(
        engine=SqlalchemyEngine(f"sqlite+pysqlite:///{path}"),
        facts=lambda: facts(path),
        place=str(folder),
        num_rows=("shop", 3),
    )


def open_postgres(server: Any) -> Opened:

    def facts_of_server() -> object:
        """All pets, and the name of everything in the database."""
        names = "SELECT oid, relname FROM pg_class WHERE relname !~ '^pg_toast' ORDER BY 1"
        return server.admin("SELECT * FROM pet ORDER BY id"), server.admin(names)

    return Opened(
        engine=open_engine(server.reader_url, memory_bytes=1 << 28),
        facts=facts_of_server,
        place=server.reader_url.partition("host=")[2],
        num_rows=("pet", 2),
        busy=lambda: server.admin(
            "SELECT * FROM pg_stat_activity WHERE usename = 'mtsql_reader' AND state <> 'idle'"
        ),
    )


@pytest.fixture
def opened(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    """The engine that the test's parameter names; the process stands in an empty folder beside."""
    if engine == "postgres":
        one = open_postgres(request.getfixturevalue("careless_postgres"))
    else:
        folder = tmp_path / "host"
        folder.mkdir()
        openers = {"sqlite": open_sqlite, "duckdb": open_duckdb, "sqlalchemy": open_sqlalchemy}
        one = openers[engine](folder)
        monkeypatch.chdir(folder)
    yield one
    one.engine.close()


def for_each(table: Mapping[str, Sequence[Any]]) -> list[Any]:
    """(engine, *entry) for all entries of a table."""
    return [
        pytest.param(
            engine,
            *(entry if isinstance(entry, tuple) else (entry,)),
            marks=[pytest.mark.postgres] if engine == "postgres" else [],
        )
        for engine, entries in table.items()
        for entry in entries
    ]


on_every_engine = pytest.mark.parametrize("engine", for_each({engine: [()] for engine in ENGINES}))


@pytest.mark.parametrize(("engine", "sql", "columns", "rows"), for_each(QUERIES))
def test_a_query_gives_columns_rows_and_plain_values(
    engine: str, sql: str, columns: tuple[str, ...], rows: Rows, opened: Opened
) -> None:
    result = opened.execute(sql)
    assert result.status is QueryStatus.OK
    assert (result.columns, result.rows) == (columns, rows)
    assert not result.truncated
    assert 0 < result.elapsed_s < LIMITS.timeout_s


@pytest.mark.parametrize(("engine", "sql"), for_each(REFUSED))
def test_all_but_reading_is_refused(
    engine: str, sql: str, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    before = opened.facts()
    result = opened.execute(sql.replace("{folder}", opened.place))
    found = (result.status, result.kind)
    if engine == "sqlalchemy":  # what SQLite cannot read needs no refusal
        assert found in (
            (QueryStatus.REFUSED, ErrorKind.WRITE),
            (QueryStatus.ERROR, ErrorKind.SYNTAX),
        ), result
    else:
        assert found == (QueryStatus.REFUSED, ErrorKind.WRITE), result
    if result.status is QueryStatus.REFUSED:
        assert result.message.startswith("only reading ")
    assert result.rows == ()
    assert opened.place not in result.message
    assert opened.facts() == before
    opened.check()
    assert caplog.records == []


@pytest.mark.parametrize(("engine", "sql", "status", "kind"), for_each(MISTAKES))
def test_mistakes_have_names(
    engine: str, sql: str, status: QueryStatus, kind: ErrorKind, opened: Opened
) -> None:
    result = opened.execute(sql)
    assert (result.status, result.kind) == (status, kind), result
    assert result.message
    assert "\n" not in result.message
    assert opened.place not in result.message
    opened.check()


@pytest.mark.parametrize(("engine", "sql", "rows"), for_each(LOOK_ALIKES))
def test_look_alikes_pass(engine: str, sql: str, rows: Rows | None, opened: Opened) -> None:
    result = opened.execute(sql)
    assert result.status is QueryStatus.OK, result
    assert rows is None or result.rows == rows


@pytest.mark.parametrize(("engine", "sql"), for_each(RUNAWAYS))
def test_the_clock_ends_runaways(engine: str, sql: str, opened: Opened) -> None:
    started_s = time.monotonic()
    result = opened.execute(sql, replace(ENDLESS, timeout_s=0.3))
    assert (result.status, result.kind) == (QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT), result
    assert result.message == "stopped after 0.3 seconds (sql.timeout_s)"
    assert 0.3 <= result.elapsed_s <= time.monotonic() - started_s < 2
    opened.check()
    assert opened.busy() == []


@on_every_engine
def test_no_limit_at_all_is_a_limit(engine: str, opened: Opened) -> None:
    assert opened.execute("SELECT 1", timeout_s=math.inf).rows == ((1,),)


@pytest.mark.parametrize(("engine", "endless", "hundred"), for_each(ROWS))
def test_one_row_more_than_the_cap_is_seen_and_not_kept(
    engine: str, endless: str, hundred: str, opened: Opened
) -> None:
    cut = opened.execute(endless, max_rows=100)
    assert (cut.status, len(cut.rows), cut.truncated) == (QueryStatus.OK, 100, True)
    first = cut.rows[0][0]  # 1, and 0 in DuckDB
    assert isinstance(first, int)
    assert cut.rows == tuple((number,) for number in range(first, first + 100))
    assert cut.elapsed_s < 3
    at_cap = opened.execute(hundred, max_rows=100)
    assert (len(at_cap.rows), at_cap.truncated) == (100, False)
    above_cap = opened.execute(hundred, max_rows=99)
    assert (above_cap.status, len(above_cap.rows), above_cap.truncated) == (
        QueryStatus.OK,
        99,
        True,
    )
    opened.check()


@on_every_engine
def test_bytes_are_counted_as_documented(engine: str, opened: Opened) -> None:
    # Two integers of 8 bytes and "ab": 18 bytes, 3 cells.
    sql = "SELECT 1, 2, 'ab'"
    assert opened.execute(sql, max_bytes=18, max_cells=3).rows == ((1, 2, "ab"),)
    for result in (opened.execute(sql, max_bytes=17), opened.execute(sql, max_cells=2)):
        assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
        assert result.rows == ()


@pytest.mark.parametrize(("engine", "source"), for_each(FOUR_ROWS))
def test_cells_are_counted_whatever_they_hold(engine: str, source: str, opened: Opened) -> None:
    # 4 rows of 3 empty texts are 12 cells and 0 bytes.
    sql = f"SELECT '', '', '' FROM {source}"
    whole = opened.execute(sql, max_cells=12, max_bytes=0)
    assert (whole.status, len(whole.rows), whole.truncated) == (QueryStatus.OK, 4, False)
    result = opened.execute(sql, max_cells=11)
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert (result.rows, result.message) == (
        (),
        "the result has more than 11 cells (sql.max_cells)",
    )
    # The row cap comes first: 2 rows of 3 cells are kept, and 6 cells are allowed.
    cut = opened.execute(sql, max_rows=2, max_cells=6)
    assert (cut.status, len(cut.rows), cut.truncated) == (QueryStatus.OK, 2, True)
