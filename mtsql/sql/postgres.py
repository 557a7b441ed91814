"""Run one model-written statement against one PostgreSQL database.

Covered: everything but one SELECT, VALUES, TABLE or WITH (the text becomes the body of a cursor, so
that the server's own grammar refuses the rest, also behind a CTE), several statements, SELECT INTO,
row locks and writes inside functions (a read-only transaction, rolled back), the server's files,
programs, settings, locks and other sessions (by the role's rights and by name), SQL inside strings,
runaway queries, too many rows, cells or bytes, sorting into endless files, lost connections, hosts,
users and paths in messages. Not covered: see `NOT_ENFORCED`; what the owner's own objects do when
they are read (views, foreign tables, operators, casts, types, functions declared stable or
immutable); and functions made while an engine is open.

The role is made once by an administrator; `READER_ROLE_SQL` does it, and an engine does not open
as a role that could do more harm. Each engine holds one connection to the server.
"""

import math
import re
import time
from functools import partial
from typing import Any, ClassVar

import psycopg
import sqlalchemy
from psycopg.adapt import AdaptersMap, Buffer, Loader
from sqlalchemy import exc

from mtsql.sql.engine import TOO_MUCH_MEMORY, UNCOUNTED, CannotOpenError, ErrorKind, failed
from mtsql.sql.postgres_names import NAMES_SQL, FunctionNames
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus
from mtsql.sql.sqlalchemy_engine import (
    LOGGER_NAME,
    UNREACHABLE,
    OutOfTimeError,
    SqlalchemyEngine,
)

READER_ROLE_SQL = """\
CREATE ROLE mtsql_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE mtsql_reader SET default_transaction_read_only = on;
ALTER ROLE mtsql_reader SET temp_file_limit = '1GB';
ALTER ROLE mtsql_reader SET lc_messages = 'C';
GRANT USAGE ON SCHEMA public TO mtsql_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mtsql_reader;
"""
"""Run in the database to be read, by its administrator; then ALTER ROLE mtsql_reader PASSWORD ...

The last two settings are an administrator's to make: without them a sort may fill the server's
disk, and errors in another language are typed less finely.
"""

SETTINGS = {
    "application_name": "mtsql",
    "bytea_output": "hex",
    "client_connection_check_interval": "1s",  # a query ends with the worker that asked it
    "client_min_messages": "error",
    "cursor_tuple_fraction": "1",  # plan for the whole result, not for its first tenth
    "datestyle": "ISO",
    "default_transaction_read_only": "on",
    "hash_mem_multiplier": "1",
    "idle_in_transaction_session_timeout": "60s",
    "intervalstyle": "postgres",
    "jit": "off",
    "lock_timeout": "1s",
    "work_mem": "32MB",
}
"""For the whole session; those that the server's version lacks are left out."""
SETTINGS_SQL = (
    "SELECT set_config(name, wanted.value, false) "
    "FROM unnest(%s::text[], %s::text[]) AS wanted(name, value) "
    "JOIN pg_catalog.pg_settings USING (name)"
)
DANGERS_SQL = """
SELECT DISTINCT CASE
    WHEN rolsuper THEN 'a superuser'
    WHEN rolreplication THEN 'a replication role'
    WHEN rolcreaterole OR rolcreatedb OR rolbypassrls THEN 'an administrative role'
    ELSE rolname::text END AS danger
FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(session_user, oid, 'MEMBER') AND (
    rolsuper OR rolreplication OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolname IN (
        'pg_checkpoint', 'pg_create_subscription', 'pg_execute_server_program', 'pg_maintain',
        'pg_monitor', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_read_server_files',
        'pg_signal_backend', 'pg_stat_scan_tables', 'pg_write_all_data', 'pg_write_server_files'))
ORDER BY danger
"""
DEAD_AFTER = {
    "connect_timeout": 2,
    "tcp_user_timeout": 2000,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 2,
}
"""A server that does not answer is a fault, which must show before the worker is killed."""
DRIFT_S = 0.05
"""How far the server's clock for one batch may lag behind the clock of the whole query."""
MAX_TIMEOUT_S = 2_000_000.0

WRITING_WORDS = re.compile(
    r"alter|analyze|begin|call|checkpoint|close|cluster|comment|commit|copy|create|deallocate"
    r"|declare|delete|discard|do|drop|end|execute|explain|fetch|grant|import|insert|listen|load"
    r"|lock|merge|move|notify|prepare|reassign|refresh|reindex|release|reset|revoke|rollback"
    r"|savepoint|security|set|show|start|truncate|unlisten|update|vacuum"
)
"""First words of all statements that are no query: only to tell a refusal from a typing mistake."""
WRITING_IN_WITH = ("delete", "insert", "merge", "update")
COMMENTS = re.compile(r"--[^\n]*|/\*.*?(\*/|$)", re.DOTALL)

ERROR_KINDS = {
    "3F000": ErrorKind.NO_SUCH_TABLE,  # no such schema
    "42601": ErrorKind.SYNTAX,
    "42702": ErrorKind.AMBIGUOUS_COLUMN,
    "42703": ErrorKind.NO_SUCH_COLUMN,
    "42803": ErrorKind.MISUSE_AGGREGATE,
    "42809": ErrorKind.MISUSE_AGGREGATE,
    "42P01": ErrorKind.NO_SUCH_TABLE,
    "42P20": ErrorKind.MISUSE_AGGREGATE,
}
WRITE_STATES = ("25006", "42501")
MEMORY_STATES = ("53100", "53200", "53400", "54000")
PARAMETER_STATES = ("08P01", "42P02")
FAULT_STATES = ("08", "28", "3D", "40", "53300", "55P03", "57", "58", "XX001", "XX002")
"""The server, its disk, its locks or its administrator: no verdict on the query."""


CLOSED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile("no password supplied"),
        "the server asks for a password: write it into the URL, or set PGPASSWORD",
    ),
    (
        re.compile("(password|authentication) (authentication )?failed|auth failed"),
        "the server refuses this user's password: mend the one in the URL",
    ),
    (re.compile('role "[^"]*" does not exist'), "the server knows no such user: mend the URL"),
    (
        re.compile('database "[^"]*" does not exist'),
        "the server has no database of that name: mend the URL (psql -l lists them)",
    ),
    (
        re.compile("no pg_hba.conf entry|pg_hba.conf rejects"),
        "the server's pg_hba.conf does not let this user in from here",
    ),
    (re.compile("permission denied for database"), "this user may not connect to that database"),
    (re.compile("is not permitted to log in"), "this user may not log in: ALTER ROLE ... LOGIN"),
    (
        re.compile("too many (connections|clients)|remaining connection slots"),
        "the server has no free connection: try again, or raise its max_connections",
    ),
    (
        re.compile("starting up|shutting down|not yet accepting|in recovery"),
        "the server is starting or stopping: try again",
    ),
    (
        re.compile("resolve host|translate host name|[Nn]ame or service not known"),
        f"{UNREACHABLE}: its name is not known here",
    ),
    (
        re.compile("Connection refused|No such file or directory"),
        f"{UNREACHABLE}: nothing listens there; is it up, and are host and port right?",
    ),
    (re.compile("timeout|timed out"), f"{UNREACHABLE}: it does not answer"),
    (re.compile("SSL|certificate"), "the server and this URL do not agree on SSL (sslmode)"),
)
"""The client library's words, and what they mean; they hold hosts, users and databases."""


def why_postgres_is_closed(error: Exception) -> str:
    """Why a connection is not made, in words without host, user or database."""
    text = str(getattr(error, "orig", None) or error)
    return next((why for sign, why in CLOSED if sign.search(text)), UNREACHABLE)


class TextLoader(Loader):
    """What PostgreSQL would show, even if the database's encoding let broken text in."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", errors="replace")


class FloatLoader(Loader):
    def load(self, data: Buffer) -> float:
        return float(bytes(data))


class BoolLoader(Loader):
    def load(self, data: Buffer) -> int:
        return int(data == b"t")


class QuietCursor(psycopg.ServerCursor[Any]):
    def __del__(self, *_: object) -> None:
        """No warning: SQLAlchemy closes a lost connection without closing its cursor."""


NUMBER_TYPES = ("int2", "int4", "int8", "oid", "float4", "float8", "bytea")


def plain_adapters() -> AdaptersMap:
    """Only numbers and bytes become more than text: Python's dates end in the year 9999."""
    adapters = AdaptersMap(psycopg.adapters)
    for info in psycopg.adapters.types:
        if info.name not in NUMBER_TYPES:
            adapters.register_loader(info.oid, TextLoader)
        adapters.register_loader(info.array_oid, TextLoader)
    adapters.register_loader("numeric", FloatLoader)
    adapters.register_loader("bool", BoolLoader)
    adapters.register_loader(0, TextLoader)
    return adapters


class PostgresEngine(SqlalchemyEngine):
    """A warm connection as a role that may only read; each query is its own transaction."""

    NOT_ENFORCED: ClassVar[tuple[str, ...]] = (
        UNCOUNTED,
        "memory of the server beyond work_mem for each sort or hash",
        "time inside one function of the server that does not look at its clock",
    )

    def _create(self, url: sqlalchemy.URL) -> sqlalchemy.Engine:
        self._names = FunctionNames([])
        self._granted_s = 0.0
        return sqlalchemy.create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=sqlalchemy.NullPool,
            use_native_hstore=False,
            pool_logging_name=LOGGER_NAME,
            connect_args={
                **{name: value for name, value in DEAD_AFTER.items() if name not in url.query},
                "client_encoding": "UTF8",
                "context": plain_adapters(),
                "prepare_threshold": None,  # each statement is asked once
            },
        )

    def _open(self) -> sqlalchemy.Connection:
        connection = super()._open()
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection.execution_options(postgresql_readonly=True)

    def _why_closed(self, error: Exception) -> str:
        return why_postgres_is_closed(error)

    def _set_up(self, connection: sqlalchemy.Connection) -> None:
        """Raises CannotOpenError, also when the role could do more than read."""
        driver: Any = connection.connection.driver_connection
        driver.server_cursor_factory = QuietCursor
        try:
            names, values = list(SETTINGS), list(SETTINGS.values())
            connection.exec_driver_sql(SETTINGS_SQL, (names, values))
            dangers = connection.exec_driver_sql(DANGERS_SQL).scalars().all()
            functions = connection.exec_driver_sql(NAMES_SQL).all()
            connection.commit()
        except exc.SQLAlchemyError:
            raise CannotOpenError("the database server does not answer as expected") from None
        if "a superuser" in dangers:
            dangers = ["a superuser"]
        if dangers:
            raise CannotOpenError(
                f"the role is, or may act as, {', '.join(dangers)}: it could do more than read; "
                "READER_ROLE_SQL in mtsql.sql.postgres makes one that cannot"
            )
        self._names = FunctionNames((name, may_do_more) for name, may_do_more in functions)

    def _refuse(self, sql: str) -> QueryResult | None:
        if not COMMENTS.sub("", sql).strip("; \t\r\n\f"):
            return failed(QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT, "the statement is empty")
        name = self._names.forbidden(sql)
        if name is not None:
            message = f"only reading tables is allowed, not {name}"
            return failed(QueryStatus.REFUSED, ErrorKind.WRITE, message)
        return None

    def _begin(
        self, connection: sqlalchemy.Connection, limits: QueryLimits, started_s: float
    ) -> None:
        self._grant(connection, started_s + limits.timeout_s - time.monotonic())

    def _look_at_clock(self, limits: QueryLimits, started_s: float) -> None:
        """The server's limit is one for each batch of rows: it shrinks as the query goes on."""
        super()._look_at_clock(limits, started_s)
        left_s = started_s + limits.timeout_s - time.monotonic()
        if self._connection is not None and self._granted_s - left_s > DRIFT_S:
            self._grant(self._connection, left_s)

    def _grant(self, connection: sqlalchemy.Connection, left_s: float) -> None:
        self._granted_s = max(left_s, 0.001)
        # To the server, 0 means no limit.
        left_ms = 0 if left_s > MAX_TIMEOUT_S else math.ceil(self._granted_s * 1000)
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {left_ms}")

    def _explain(
        self, error: Exception, sql: str, limits: QueryLimits, elapsed_s: float
    ) -> QueryResult:
        original: psycopg.Error | None = getattr(error, "orig", None)
        if isinstance(error, psycopg.Error):  # SQLAlchemy wraps most of them, not all
            original = error
        fail = partial(failed, elapsed_s=elapsed_s)
        if original is not None and not original.sqlstate and _is_too_large(original):
            return fail(QueryStatus.CAPPED, ErrorKind.MEMORY, TOO_MUCH_MEMORY)
        if original is None or self._is_lost(error):
            return super()._explain(error, sql, limits, elapsed_s)
        state = original.sqlstate or ""
        message = " ".join((original.diag.message_primary or "").split())
        # Sooner than the limit, it is an administrator who cancels.
        if state == "57014" and elapsed_s > 0.9 * limits.timeout_s:
            return super()._explain(OutOfTimeError(), sql, limits, elapsed_s)
        if state in PARAMETER_STATES:
            return fail(QueryStatus.ERROR, ErrorKind.OTHER, "parameters ($1) have no values")
        if state.startswith(FAULT_STATES):
            message = f"the database cannot be read (SQLSTATE {state})"
            return fail(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE, message)
        is_null = "null character" in message  # chr(0), which has the code of a program limit
        if (state in MEMORY_STATES and not is_null) or "memory alloc" in message:
            return fail(QueryStatus.CAPPED, ErrorKind.MEMORY, TOO_MUCH_MEMORY)
        if state == "42601" and "multiple commands" in message:
            message = "only one statement can be run at a time"
            return fail(QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS, message)
        if state in WRITE_STATES or _is_writing(sql, state, message):
            message = f"only reading is allowed: {message}"
            return fail(QueryStatus.REFUSED, ErrorKind.WRITE, message)
        message = message or "the database rejected the statement"
        return fail(QueryStatus.ERROR, self._kind(state, message), message)

    def _kind(self, state: str, message: str) -> ErrorKind:
        if state == "42883":
            name = re.match(r"function \"?(?:[^(]*\.)?([^(\"]*)\"?\(", message)
            if name is None:
                return ErrorKind.OTHER  # an operator does not fit its operands
            is_known = name[1] in self._names.known
            return ErrorKind.WRONG_NUM_ARGS if is_known else ErrorKind.NO_SUCH_FUNCTION
        if state == "42P01" and "FROM-clause entry" in message:
            return ErrorKind.NO_SUCH_COLUMN  # of a table that the query does not name
        return ERROR_KINDS.get(state, ErrorKind.OTHER)


def _is_too_large(error: psycopg.Error) -> bool:
    """Whether the client's own library met a row too large for this process.

    It then loses the connection too; but the query is to blame, not the server.
    """
    return "memory" in str(error) or isinstance(error, psycopg.InternalError)


def _is_writing(sql: str, state: str, message: str) -> bool:
    """Whether the cursor's grammar met a statement that is not a query."""
    if state == "0A000":
        return "data-modifying" in message
    if state != "42601":
        return False
    if "... INTO" in message:
        return True
    first = re.match(r"\W*(\w+)", COMMENTS.sub(" ", sql))
    near = re.search(r'at or near "(\w+)"', message)
    if first is None or near is None:
        return False
    starts, place = first[1].lower(), near[1].lower()
    if starts == "with":
        return place in WRITING_IN_WITH
    return starts == place and WRITING_WORDS.fullmatch(starts) is not None
