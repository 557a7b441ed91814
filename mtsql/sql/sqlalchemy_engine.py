"""Run one model-written statement on any database that SQLAlchemy can reach.

Covered: everything but one plain query, as sqlglot reads it in the database's dialect (writes also
behind a CTE, SELECT INTO, row locks, several statements, comments that MySQL executes); a
transaction that is always rolled back, and read-only where the dialect knows such a thing; too many
rows, cells or bytes; hosts, users and paths in messages. Not covered: see `NOT_ENFORCED`; and a
text that the database reads in another way than sqlglot does. Connect as a role that may only read.
"""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import sqlalchemy
import sqlglot
from sqlalchemy import exc
from sqlglot import exp

from mtsql.sql.engine import (
    FETCH_ROWS,
    TOO_MUCH_MEMORY,
    UNCOUNTED,
    CannotOpenError,
    ErrorKind,
    collect,
    failed,
    plain_cell,
    refuse_text,
    stopped_after,
)
from mtsql.sql.records import Cell, QueryLimits, QueryResult, QueryStatus

UNREACHABLE = "the database server cannot be reached"
RETRY_WITHIN_S = 0.5
"""A connection that was dead before its query shows it at once; later, the query itself may be why.
"""

LOGGER_NAME = "mtsql"
logging.getLogger(f"sqlalchemy.pool.impl.NullPool.{LOGGER_NAME}").disabled = True
"""SQLAlchemy logs there what it cannot close on a lost connection; we report that as a result."""
logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it would log each statement that we refuse

SQLGLOT_DIALECTS = {
    "awsathena": "athena",
    "cockroachdb": "postgres",
    "mariadb": "mysql",
    "mssql": "tsql",
    "postgresql": "postgres",
}
"""Where SQLAlchemy and sqlglot give one dialect two names."""
READ_ONLY_DIALECTS = frozenset({"cockroachdb", "mariadb", "mysql", "oracle", "postgresql"})
FORBIDDEN_NODES = (
    exp.Insert,
    exp.Update,
    exp.Delete,
    exp.Merge,
    exp.Create,
    exp.Drop,
    exp.Alter,
    exp.Into,
    exp.Lock,
    exp.Command,
    exp.Set,
    exp.Pragma,
    exp.Copy,
    exp.Parameter,
    exp.SessionParameter,
)
FORBIDDEN_TEXT = re.compile(
    r"/\*M?!"  # MySQL and MariaDB execute such a comment
    r"|\binto\s+(?:out|dump)file\b"
    r"|\b(?:load_file|load_extension|fts3_tokenizer|readfile|writefile)\b"
    r"|\b(?:sleep|benchmark|get_lock|waitfor)\s*\("
    r"|\b(?:openrowset|openquery|opendatasource|xp_\w+|sp_\w+|utl_\w+|dbms_\w+|httpuritype)\b",
    re.IGNORECASE,
)
"""A floor, not a fence: the commonest ways to a host's files, network and locks."""


class OutOfTimeError(Exception):
    """The clock ran out between two batches of rows."""


class SqlalchemyEngine:
    """A warm connection; `execute` turns every outcome into a `QueryResult`.

    The next query opens a lost connection again. One that was dead already costs nothing: its query
    is run again.
    """

    NOT_ENFORCED: ClassVar[tuple[str, ...]] = (
        UNCOUNTED,
        "the soft time limit: only a kill of the worker ends a query, and the server may go on",
        "memory of the server",
        "functions that reach the server's host or network: only the commonest are refused",
        "reading only, on a dialect without read-only transactions: the role's grants decide",
    )
    OPTIONS: ClassVar[dict[str, Any]] = {
        "stream_results": True,
        "max_row_buffer": FETCH_ROWS,
        "no_parameters": True,  # else a driver would read % in the text
    }

    def __init__(self, url: str) -> None:
        """Raises CannotOpenError."""
        self._connection: sqlalchemy.Connection | None = None
        try:
            parts = sqlalchemy.make_url(url)
            self._secrets = (parts.username, parts.password, parts.host, parts.database)
            self._engine = self._create(parts)
            driver = self._engine.dialect.loaded_dbapi
        except (exc.SQLAlchemyError, ImportError, ValueError) as error:
            what = "has no driver here" if isinstance(error, ImportError) else "is not usable"
            raise CannotOpenError(f"the database URL {what}") from None
        # Most come wrapped, as an SQLAlchemyError; ValueError and TypeError are what drivers raise
        # for a text they cannot send.
        self._errors: tuple[type[Exception], ...] = (
            exc.SQLAlchemyError,
            driver.Error,
            getattr(driver, "Warning", driver.Error),
            OutOfTimeError,
            MemoryError,
            OSError,
            ValueError,
            TypeError,
        )
        self._connection = self._open()

    def close(self) -> None:
        if self._connection is not None:
            with suppress(*self._errors):
                self._connection.close()
            self._connection = None

    def execute(self, sql: str, limits: QueryLimits) -> QueryResult:
        """Run one statement under `limits`; errors, refusals and interrupts are results."""
        started_s = time.monotonic()
        refusal = refuse_text(sql, limits)
        if refusal is not None:
            return refusal
        try:
            sql.encode()
        except UnicodeError:
            return failed(QueryStatus.ERROR, ErrorKind.SYNTAX, "the text is not valid Unicode")
        refusal = self._refuse(sql)
        if refusal is not None:
            return refusal
        was_open = self._connection is not None
        result = self._try(sql, limits, started_s)
        if result.status is QueryStatus.CAPPED:
            self.close()  # a driver keeps the memory that it took for a huge row
        is_lost = result.status is QueryStatus.INFRA_FAULT and self._connection is None
        if is_lost and was_open and time.monotonic() - started_s < RETRY_WITHIN_S:
            result = self._try(sql, limits, time.monotonic())
        return result

    def _try(self, sql: str, limits: QueryLimits, started_s: float) -> QueryResult:
        try:
            connection = self._connection = self._connection or self._open()
            self._begin(connection, limits, started_s)
            text = sql.strip("; \t\r\n\f")
            with connection.exec_driver_sql(text, execution_options=self.OPTIONS) as cursor:
                if not cursor.returns_rows:
                    return failed(QueryStatus.REFUSED, ErrorKind.WRITE, "only reading is allowed")
                description: Any = cursor.cursor.description if cursor.cursor else ()
                columns = tuple(str(column[0]) for column in description)
                return collect(columns, self._rows(cursor, limits, started_s), limits, started_s)
        except self._errors as error:
            if not isinstance(error, (OutOfTimeError, exc.DBAPIError)) or self._is_lost(error):
                self.close()  # the driver may be in any state; the next query starts afresh
            return self._explain(error, sql, limits, time.monotonic() - started_s)
        finally:
            self._roll_back()

    def _rows(
        self, cursor: sqlalchemy.CursorResult[Any], limits: QueryLimits, started_s: float
    ) -> Iterator[tuple[Cell, ...]]:
        while batch := cursor.fetchmany(FETCH_ROWS):
            for row in batch:
                yield tuple(map(plain_cell, row))
            self._look_at_clock(limits, started_s)

    def _roll_back(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except self._errors:
                self.close()

    def _is_lost(self, error: Exception) -> bool:
        return isinstance(error, exc.DBAPIError) and error.connection_invalidated

    # What follows differs between databases.

    def _create(self, url: sqlalchemy.URL) -> sqlalchemy.Engine:
        return sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, pool_logging_name=LOGGER_NAME
        )

    def _open(self) -> sqlalchemy.Connection:
        try:
            return self._engine.connect()
        except (exc.SQLAlchemyError, OSError) as error:
            raise CannotOpenError(self._why_closed(error)) from None

    def _why_closed(self, error: Exception) -> str:
        """Why the server lets nobody in, in words without host, user or database."""
        return UNREACHABLE

    def _refuse(self, sql: str) -> QueryResult | None:
        """What the text alone decides."""
        if FORBIDDEN_TEXT.search(sql):
            return failed(QueryStatus.REFUSED, ErrorKind.WRITE, "only reading tables is allowed")
        name = self._engine.dialect.name
        try:
            parsed = sqlglot.parse(sql, dialect=SQLGLOT_DIALECTS.get(name, name))
        except (sqlglot.ParseError, sqlglot.TokenError) as error:
            message = " ".join(str(error).splitlines()[0].split())
            return failed(QueryStatus.ERROR, ErrorKind.SYNTAX, re.sub(r"\x1b\[\d*m", "", message))
        except (ValueError, RecursionError):  # a dialect unknown to sqlglot; a text too deep
            message = "the statement cannot be checked for writes"
            return failed(QueryStatus.REFUSED, ErrorKind.WRITE, message)
        statements = [one for one in parsed if one is not None and type(one) is not exp.Semicolon]
        if not statements:
            return failed(QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT, "the statement is empty")
        if len(statements) > 1:
            message = "only one statement can be run at a time"
            return failed(QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS, message)
        query = statements[0]
        if not isinstance(query, (exp.Query, exp.Values)) or query.find(*FORBIDDEN_NODES):
            return failed(QueryStatus.REFUSED, ErrorKind.WRITE, "only reading is allowed")
        return None

    def _begin(
        self, connection: sqlalchemy.Connection, limits: QueryLimits, started_s: float
    ) -> None:
        if self._engine.dialect.name in READ_ONLY_DIALECTS:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def _look_at_clock(self, limits: QueryLimits, started_s: float) -> None:
        if time.monotonic() > started_s + limits.timeout_s:
            raise OutOfTimeError

    def _explain(
        self, error: Exception, sql: str, limits: QueryLimits, elapsed_s: float
    ) -> QueryResult:
        fail = partial(failed, elapsed_s=elapsed_s)
        if isinstance(error, OutOfTimeError):
            return fail(QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT, stopped_after(limits.timeout_s))
        if isinstance(error, MemoryError):
            return fail(QueryStatus.CAPPED, ErrorKind.MEMORY, TOO_MUCH_MEMORY)
        if isinstance(error, CannotOpenError):
            return fail(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE, str(error))
        if isinstance(error, OSError) or self._is_lost(error):
            message = "the connection to the database is lost"
            return fail(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE, message)
        return fail(QueryStatus.ERROR, ErrorKind.OTHER, self._without_secrets(error))

    def _without_secrets(self, error: Exception) -> str:
        """The driver's words in one line, without users, hosts and paths."""
        original = getattr(error, "orig", None) or error
        words = [str(one) for one in original.args if isinstance(one, str)]
        message = " ".join(" ".join(words).split())
        message = re.sub(r"'[^']*'@'[^']*'", "the user", message)
        for secret in self._secrets:
            if secret:
                message = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "", message)
        return message or "the database rejected the statement"
