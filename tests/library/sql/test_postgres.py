"""What `mtsql.sql.postgres` alone promises, on a real server; see test_engines.py for the rest."""

import logging
import math
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from helpers.postgres_server import PostgresServer
from mtsql.sql.engine import CannotOpenError, ErrorKind
from mtsql.sql.engines import open_engine
from mtsql.sql.postgres import PostgresEngine, why_postgres_is_closed
from mtsql.sql.records import QueryLimits, QueryStatus

pytestmark = pytest.mark.postgres

LIMITS = QueryLimits(timeout_s=5.0, max_rows=1000, max_bytes=100_000)
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
MANY = "generate_series(1, 100000000)"


@pytest.fixture
def engine(postgres: PostgresServer) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(postgres.reader_url)
    yield engine
    engine.close()


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


def test_an_xml_document_reads_no_file(engine: PostgresEngine) -> None:
    entity = """<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>"""
    result = engine.execute(f"SELECT xmlparse(document '{entity}')::text", LIMITS)
    assert "root:" not in str(result)


def test_a_limit_of_no_time_is_a_limit(engine: PostgresEngine) -> None:
    assert engine.execute(RUNAWAY, replace(LIMITS, timeout_s=0)).kind == ErrorKind.TIMEOUT


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


def test_sorting_does_not_fill_the_servers_disk(postgres: PostgresServer) -> None:
    postgres.admin("ALTER ROLE mtsql_reader SET temp_file_limit = '10MB'")
    engine = PostgresEngine(postgres.reader_url)
    sort = "SELECT x FROM generate_series(1, 2000000) AS x ORDER BY md5(x::text)"
    result = engine.execute(sort, replace(LIMITS, timeout_s=60))
    engine.close()
    postgres.admin("ALTER ROLE mtsql_reader SET temp_file_limit = '1GB'")
    assert (result.status, result.kind) == (QueryStatus.CAPPED, ErrorKind.MEMORY), result


def test_no_query_leaves_its_transaction_open(
    engine: PostgresEngine, postgres: PostgresServer
) -> None:
    state = "SELECT state FROM pg_stat_activity WHERE usename = 'mtsql_reader'"
    for sql in ["SELECT 1", "SELECT 1 / 0", "DROP TABLE pet", RUNAWAY, f"SELECT {MANY}"]:
        engine.execute(sql, replace(LIMITS, timeout_s=0.1, max_rows=5))
        assert postgres.admin(state) == [("idle",)]


def test_a_lost_connection_is_opened_anew(
    engine: PostgresEngine, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)
    postgres.drop_connections()
    assert engine.execute("SELECT 2", LIMITS).rows == ((2,),)
    postgres.restart()
    assert engine.execute("SELECT 3", LIMITS).rows == ((3,),)
    assert caplog.records == []


@pytest.mark.parametrize(
    "act", ["pg_terminate_backend(pid)", "pg_cancel_backend(pid)"], ids=["drop", "cancel"]
)
def test_what_an_administrator_ends_is_nobodys_mistake(
    act: str, engine: PostgresEngine, postgres: PostgresServer
) -> None:
    end = f"SELECT {act} FROM pg_stat_activity WHERE usename = 'mtsql_reader'"
    timer = threading.Timer(1.0, postgres.admin, [end])
    timer.start()
    result = engine.execute(RUNAWAY, replace(LIMITS, timeout_s=30))
    timer.join()
    assert (result.status, result.kind) == (
        QueryStatus.INFRA_FAULT,
        ErrorKind.DATABASE_UNREADABLE,
    ), result
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)


def test_a_locked_table_is_a_fault(engine: PostgresEngine, postgres: PostgresServer) -> None:
    hold = "BEGIN; LOCK TABLE pet; SELECT pg_sleep(2); COMMIT"
    holder = threading.Thread(target=postgres.admin, args=[hold])
    holder.start()
    while not postgres.admin("SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock'"):
        time.sleep(0.01)
    result = engine.execute("SELECT * FROM pet", LIMITS)
    holder.join()
    assert result.status is QueryStatus.INFRA_FAULT, result


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('FATAL:  password authentication failed for user "me"', "the server refuses this user's"),
        ("fe_sendauth: no password supplied", "the server asks for a password"),
        ('FATAL:  database "zoo" does not exist', "the server has no database of that name"),
        ('FATAL:  role "me" does not exist', "the server knows no such user"),
        ("FATAL:  sorry, too many clients already", "the server has no free connection"),
        ("FATAL:  the database system is starting up", "the server is starting or stopping"),
        ("failed to resolve host 'nosuch': Name or service not known", "its name is not known"),
        (
            "connection refused: Connection refused\n\tIs the server running",
            "nothing listens there",
        ),
        ("connection timeout expired", "it does not answer"),
        ("something else about me at host zoo", "the database server cannot be reached"),
    ],
)
def test_why_a_server_lets_nobody_in(said: str, why: str) -> None:
    text = why_postgres_is_closed(psycopg.OperationalError(said))
    assert why in text
    assert "zoo" not in text
    assert '"' not in text


def test_a_server_without_that_database_or_user_says_so(postgres: PostgresServer) -> None:
    for old, new, why in (
        ("/shop?", "/zoo?", "the server has no database of that name"),
        ("mtsql_reader@", "nobody_of_ours@", "the server knows no such user"),
    ):
        with pytest.raises(CannotOpenError, match=why):
            PostgresEngine(postgres.reader_url.replace(old, new))
    with pytest.raises(CannotOpenError, match="cannot be reached: nothing listens there"):
        PostgresEngine("postgresql://me@127.0.0.1:1/shop")


def test_a_server_that_is_gone_is_a_fault_until_it_is_back(
    engine: PostgresEngine, postgres: PostgresServer
) -> None:
    postgres.admin("ALTER ROLE mtsql_reader NOLOGIN")
    postgres.drop_connections()
    gone = engine.execute("SELECT 1", LIMITS)
    postgres.admin("ALTER ROLE mtsql_reader LOGIN")
    assert (gone.status, gone.kind) == (QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE)
    assert gone.message == "this user may not log in: ALTER ROLE ... LOGIN"
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
    grant: str, revoke: str, word: str, postgres: PostgresServer
) -> None:
    postgres.admin(f"ALTER ROLE mtsql_reader {grant}")
    try:
        with pytest.raises(CannotOpenError, match=word):
            PostgresEngine(postgres.reader_url)
    finally:
        postgres.admin(f"ALTER ROLE mtsql_reader {revoke}")


@pytest.mark.parametrize(
    "role", ["pg_read_server_files", "pg_execute_server_program", "pg_monitor", "admin"]
)
def test_a_member_of_a_dangerous_role_is_not_used(role: str, postgres: PostgresServer) -> None:
    postgres.admin(f"ALTER ROLE mtsql_reader NOINHERIT; GRANT {role} TO mtsql_reader")
    try:
        with pytest.raises(CannotOpenError, match="could do more than read"):
            PostgresEngine(postgres.reader_url)
    finally:
        postgres.admin(f"ALTER ROLE mtsql_reader INHERIT; REVOKE {role} FROM mtsql_reader")


def test_a_role_that_turns_dangerous_is_seen_by_the_next_connection(
    engine: PostgresEngine, postgres: PostgresServer
) -> None:
    postgres.admin("ALTER ROLE mtsql_reader SUPERUSER")
    postgres.drop_connections()
    result = engine.execute("SELECT 1", LIMITS)
    postgres.admin("ALTER ROLE mtsql_reader NOSUPERUSER")
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
