"""One attack for each line that `mtsql.sql.postgres` promises, on a real server."""

import logging
import math
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.postgres_server import PostgresServer
from mtsql.sql.engine import CannotOpenError, ErrorKind
from mtsql.sql.engines import open_engine
from mtsql.sql.postgres import PostgresEngine
from mtsql.sql.records import QueryLimits, QueryStatus

pytestmark = pytest.mark.postgres

LIMITS = QueryLimits(timeout_s=5.0, max_rows=1000, max_bytes=100_000)
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
MANY = "generate_series(1, 100000000)"

CARELESS_SQL = """
CREATE TABLE secret (word TEXT);
INSERT INTO secret VALUES ('hidden');
CREATE FUNCTION run_text(query TEXT) RETURNS TEXT LANGUAGE plpgsql AS
    $$ DECLARE answer TEXT; BEGIN EXECUTE query INTO answer; RETURN answer; END $$;
CREATE FUNCTION "Run That"(TEXT) RETURNS TEXT LANGUAGE sql AS 'SELECT run_text($1)';
CREATE FUNCTION "1 ""x"" 2"(TEXT) RETURNS TEXT LANGUAGE sql AS 'SELECT run_text($1)';
CREATE FUNCTION peek() RETURNS TEXT LANGUAGE sql STABLE SECURITY DEFINER AS
    'SELECT word FROM secret';
CREATE FUNCTION peek_at(pet) RETURNS TEXT LANGUAGE sql STABLE SECURITY DEFINER AS
    'SELECT word FROM secret';
CREATE FUNCTION note(INTEGER, INTEGER) RETURNS INTEGER LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE noted(INTEGER) (SFUNC = note, STYPE = INTEGER, INITCOND = '0');
CREATE FUNCTION twice(INTEGER) RETURNS INTEGER LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
CREATE FUNCTION wird_é() RETURNS INTEGER LANGUAGE sql AS 'SELECT 1';
GRANT UPDATE, DELETE, INSERT ON pet TO mtsql_reader;
"""
"""What careless owners of a database leave behind: each is a way out for the role."""


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> PostgresServer:
    postgres.admin(CARELESS_SQL)
    return postgres


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(server.reader_url)
    yield engine
    engine.close()


def facts(server: PostgresServer) -> list[tuple[object, ...]]:
    """All pets, and the name of everything in the database."""
    return [
        *server.admin("SELECT * FROM pet ORDER BY id"),
        *server.admin("SELECT oid, relname FROM pg_class WHERE relname !~ '^pg_toast' ORDER BY 1"),
    ]


def test_a_query_gives_columns_rows_and_plain_values(engine: PostgresEngine) -> None:
    result = engine.execute("SELECT *, sum(id) OVER () AS all_ids FROM pet ORDER BY id;", LIMITS)
    assert result.status is QueryStatus.OK
    assert result.columns == ("id", "name", "weight", "born", "tame", "all_ids")
    assert result.rows == (
        (1, "Ada", 4.5, "2020-01-02", 1, 3),
        (2, "Bö", None, None, None, 3),
    )
    assert not result.truncated
    assert 0 < result.elapsed_s < 5


@pytest.mark.parametrize(
    ("sql", "cell"),
    [
        ("true", 1),
        ("1.50::numeric", 1.5),
        ("'-Infinity'::numeric", -math.inf),
        ("1.5::real", 1.5),
        ("9223372036854775807", 9223372036854775807),
        (r"'\x00ff'::bytea", b"\x00\xff"),
        ("NULL", None),
        ("DATE '2020-01-02'", "2020-01-02"),
        ("DATE 'infinity'", "infinity"),
        ("DATE '0044-03-15 BC'", "0044-03-15 BC"),
        ("TIMESTAMP '2020-01-02 03:04:05'", "2020-01-02 03:04:05"),
        ("TIME '03:04'", "03:04:00"),
        ("INTERVAL '1 day 2 hours'", "1 day 02:00:00"),
        ("ARRAY[1, NULL]", "{1,NULL}"),
        ("ARRAY[true]", "{t}"),
        ("ARRAY[1.5]", "{1.5}"),
        ("""'{"a": [1]}'::json""", '{"a": [1]}'),
        ("""'{"a":[1]}'::jsonb""", '{"a": [1]}'),
        ("'00000000-0000-0000-0000-00000000000a'::uuid", "00000000-0000-0000-0000-00000000000a"),
        ("ROW(1, 'a')", "(1,a)"),
        ("int4range(1, 3)", "[1,3)"),
        ("inet '10.0.0.1'", "10.0.0.1"),
        ("'ab'::char(3)", "ab "),
        ("'%s %(x)s :y ?'", "%s %(x)s :y ?"),
        ("7 % 4", 3),
        ("pg_typeof(1)", "integer"),
    ],
)
def test_values_arrive_as_numbers_bytes_or_the_servers_text(
    sql: str, cell: object, engine: PostgresEngine
) -> None:
    result = engine.execute(f"SELECT {sql}", LIMITS)
    assert result.rows == ((cell,),), result
    assert type(result.rows[0][0]) is type(cell)


def test_names_of_columns_are_kept_also_twice_or_none(engine: PostgresEngine) -> None:
    assert engine.execute('SELECT 1 AS "A b", 2 AS a, 3 AS a', LIMITS).columns == ("A b", "a", "a")
    empty = engine.execute("SELECT FROM pet", LIMITS)
    assert (empty.columns, empty.rows) == ((), ((), ()))


@pytest.mark.parametrize(
    "sql",
    [
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
)
def test_all_but_reading_is_refused(
    sql: str, engine: PostgresEngine, server: PostgresServer
) -> None:
    before = facts(server)
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (QueryStatus.REFUSED, ErrorKind.WRITE), result
    assert result.message.startswith("only reading ")
    assert result.rows == ()
    assert facts(server) == before
    assert engine.execute("SELECT count(*) FROM pet", LIMITS).rows == ((2,),)


@pytest.mark.parametrize(
    ("sql", "status", "kind"),
    [
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
)
def test_mistakes_have_names(
    sql: str, status: QueryStatus, kind: ErrorKind, engine: PostgresEngine
) -> None:
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.kind) == (status, kind), result
    assert result.message
    assert "\n" not in result.message
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
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
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) "
         "SELECT max(i) FROM n", ((9,),)),
        ("SELECT name FROM pet WHERE name LIKE '%d%'", (("Ada",),)),
        ("SELECT column_name FROM information_schema.columns WHERE table_name = 'odd'"
         " ORDER BY ordinal_position", (("delete",), ("random",))),
        ("SELECT count(*) FROM pet TABLESAMPLE system (100)", ((2,),)),
        ("SELECT rank() OVER (ORDER BY id DESC) FROM pet WHERE id = 1", ((1,),)),
    ],
)  # fmt: skip
def test_look_alikes_pass(
    sql: str, rows: tuple[tuple[object, ...], ...], engine: PostgresEngine
) -> None:
    result = engine.execute(sql, LIMITS)
    assert (result.status, result.rows) == (QueryStatus.OK, rows), result


def test_an_xml_document_reads_no_file(engine: PostgresEngine) -> None:
    entity = """<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>"""
    result = engine.execute(f"SELECT xmlparse(document '{entity}')::text", LIMITS)
    assert "root:" not in str(result)


@pytest.mark.parametrize(
    "sql",
    [
        RUNAWAY,
        f"SELECT count(*) FROM {MANY} AS a, {MANY} AS b",
        # Each batch of rows is fast; the whole is not.
        f"SELECT x FROM {MANY} AS x, generate_series(1, 3000) AS y WHERE y = 3000",
        "SELECT factorial(32000) % 7",  # one call of one function
    ],
)
def test_the_clock_ends_runaways(sql: str, engine: PostgresEngine, server: PostgresServer) -> None:
    endless = QueryLimits(timeout_s=0.3, max_rows=10**9, max_bytes=10**10, max_cells=10**9)
    started_s = time.monotonic()
    result = engine.execute(sql, endless)
    assert (result.status, result.kind) == (QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT), result
    assert result.message == "stopped after 0.3 seconds"
    assert time.monotonic() - started_s < 2
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)
    busy = "SELECT * FROM pg_stat_activity WHERE usename = 'mtsql_reader' AND state <> 'idle'"
    assert server.admin(busy) == []


def test_every_time_limit_is_a_limit(engine: PostgresEngine) -> None:
    assert engine.execute("SELECT 1", replace(LIMITS, timeout_s=math.inf)).rows == ((1,),)
    assert engine.execute(RUNAWAY, replace(LIMITS, timeout_s=0)).kind == ErrorKind.TIMEOUT


def test_rows_cells_and_bytes_are_capped_before_they_are_fetched(engine: PostgresEngine) -> None:
    cut = engine.execute(f"SELECT {MANY}", replace(LIMITS, max_rows=100))
    assert (cut.status, len(cut.rows), cut.truncated) == (QueryStatus.OK, 100, True)
    assert cut.elapsed_s < 3
    whole = engine.execute("SELECT * FROM generate_series(1, 100)", replace(LIMITS, max_rows=100))
    assert (len(whole.rows), whole.truncated) == (100, False)
    # Two integers of 8 bytes and "ab": 18 bytes.
    assert engine.execute("SELECT 1, 2, 'ab'", replace(LIMITS, max_bytes=18)).rows
    small = engine.execute("SELECT 1, 2, 'ab'", replace(LIMITS, max_bytes=17))
    assert (small.status, small.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    # 4 rows of 3 empty texts are 12 cells and 0 bytes.
    cells = "SELECT '', '', '' FROM generate_series(1, 4)"
    assert len(engine.execute(cells, replace(LIMITS, max_cells=12, max_bytes=0)).rows) == 4
    few = engine.execute(cells, replace(LIMITS, max_cells=11))
    assert (few.status, few.kind) == (QueryStatus.CAPPED, ErrorKind.ROWS_BYTES)
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


@pytest.mark.slow
def test_a_row_too_large_for_this_process_is_the_querys_fault(engine: PostgresEngine) -> None:
    old = resource.getrlimit(resource.RLIMIT_AS)
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    patient = replace(LIMITS, timeout_s=60)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 50_000_000, old[1]))
    try:
        result = engine.execute("SELECT repeat('x', 150000000)", patient)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.MEMORY), result
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


def test_sorting_does_not_fill_the_servers_disk(server: PostgresServer) -> None:
    server.admin("ALTER ROLE mtsql_reader SET temp_file_limit = '10MB'")
    engine = PostgresEngine(server.reader_url)
    sort = "SELECT x FROM generate_series(1, 2000000) AS x ORDER BY md5(x::text)"
    result = engine.execute(sort, replace(LIMITS, timeout_s=60))
    engine.close()
    server.admin("ALTER ROLE mtsql_reader SET temp_file_limit = '1GB'")
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.MEMORY), result


def test_no_query_leaves_its_transaction_open(
    engine: PostgresEngine, server: PostgresServer
) -> None:
    state = "SELECT state FROM pg_stat_activity WHERE usename = 'mtsql_reader'"
    for sql in ["SELECT 1", "SELECT 1 / 0", "DROP TABLE pet", RUNAWAY, f"SELECT {MANY}"]:
        engine.execute(sql, replace(LIMITS, timeout_s=0.1, max_rows=5))
        assert server.admin(state) == [("idle",)]


def test_a_lost_connection_is_opened_anew(
    engine: PostgresEngine, server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)
    server.drop_connections()
    assert engine.execute("SELECT 2", LIMITS).rows == ((2,),)
    server.restart()
    assert engine.execute("SELECT 3", LIMITS).rows == ((3,),)
    assert caplog.records == []


@pytest.mark.parametrize(
    "act", ["pg_terminate_backend(pid)", "pg_cancel_backend(pid)"], ids=["drop", "cancel"]
)
def test_what_an_administrator_ends_is_nobodys_mistake(
    act: str, engine: PostgresEngine, server: PostgresServer
) -> None:
    end = f"SELECT {act} FROM pg_stat_activity WHERE usename = 'mtsql_reader'"
    timer = threading.Timer(1.0, server.admin, [end])
    timer.start()
    result = engine.execute(RUNAWAY, replace(LIMITS, timeout_s=30))
    timer.join()
    assert (result.status, result.kind) == (
        QueryStatus.INFRA_FAULT,
        ErrorKind.DATABASE_UNREADABLE,
    ), result
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


def test_a_locked_table_is_a_fault(engine: PostgresEngine, server: PostgresServer) -> None:
    hold = "BEGIN; LOCK TABLE pet; SELECT pg_sleep(2); COMMIT"
    holder = threading.Thread(target=server.admin, args=[hold])
    holder.start()
    while not server.admin("SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock'"):
        time.sleep(0.01)
    result = engine.execute("SELECT * FROM pet", LIMITS)
    holder.join()
    assert result.status is QueryStatus.INFRA_FAULT, result


def test_a_server_that_is_gone_is_a_fault_until_it_is_back(
    engine: PostgresEngine, server: PostgresServer
) -> None:
    server.admin("ALTER ROLE mtsql_reader NOLOGIN")
    server.drop_connections()
    gone = engine.execute("SELECT 1", LIMITS)
    server.admin("ALTER ROLE mtsql_reader LOGIN")
    assert (gone.status, gone.kind) == (QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE)
    assert gone.message == "the database server cannot be reached"
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


@pytest.mark.parametrize(
    ("grant", "revoke", "word"),
    [
        ("SUPERUSER", "NOSUPERUSER", "a superuser:"),
        ("REPLICATION", "NOREPLICATION", "a replication role"),
        ("CREATEROLE", "NOCREATEROLE", "an administrative role"),
    ],
)
def test_a_dangerous_role_is_not_used(
    grant: str, revoke: str, word: str, server: PostgresServer
) -> None:
    server.admin(f"ALTER ROLE mtsql_reader {grant}")
    try:
        with pytest.raises(CannotOpenError, match=word):
            PostgresEngine(server.reader_url)
    finally:
        server.admin(f"ALTER ROLE mtsql_reader {revoke}")


@pytest.mark.parametrize(
    "role", ["pg_read_server_files", "pg_execute_server_program", "pg_monitor", "admin"]
)
def test_a_member_of_a_dangerous_role_is_not_used(role: str, server: PostgresServer) -> None:
    server.admin(f"ALTER ROLE mtsql_reader NOINHERIT; GRANT {role} TO mtsql_reader")
    try:
        with pytest.raises(CannotOpenError, match="could do more than read"):
            PostgresEngine(server.reader_url)
    finally:
        server.admin(f"ALTER ROLE mtsql_reader INHERIT; REVOKE {role} FROM mtsql_reader")


def test_a_role_that_turns_dangerous_is_seen_by_the_next_connection(
    engine: PostgresEngine, server: PostgresServer
) -> None:
    server.admin("ALTER ROLE mtsql_reader SUPERUSER")
    server.drop_connections()
    result = engine.execute("SELECT 1", LIMITS)
    server.admin("ALTER ROLE mtsql_reader NOSUPERUSER")
    assert result.status is QueryStatus.INFRA_FAULT
    assert "a superuser" in result.message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://who:hunter2@127.0.0.1:9/shop",
        "postgresql+psycopg://who:hunter2@/shop?host=/nowhere/at/all",
        "postgresql://who:hunter2@127.0.0.1:notaport/shop",
    ],
)
def test_what_cannot_be_opened_names_no_host_user_or_secret(url: str) -> None:
    with pytest.raises(CannotOpenError) as caught:
        open_engine(url, memory_bytes=1)
    text = f"{caught.value} {caught.value.__cause__} {caught.value.__suppress_context__}"
    assert not any(word in text for word in ("who", "hunter2", "127", "nowhere", "shop"))
