"""Run one model-written statement against one DuckDB file.

Covered: everything but one plain SELECT (also VALUES, FROM first, SHOW, DESCRIBE), files and the
network (read_csv, COPY, ATTACH, extensions), changes of settings, catalog functions that tell host
paths, SQL inside strings (query(), serialised plans), runaway queries, huge values, too many rows
or bytes, memory. Not covered: a budget in units of work, which DuckDB lacks, so that a verdict on
a slow query depends on the machine's load; and an operator that does not look at the interrupt, for
which the engine runs in a process that `mtsql.sql.pool` limits and kills.
"""

import re
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import duckdb

from mtsql.sql.engine import (
    ENGINE_CRASH,
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
from mtsql.sql.unreadable import why_no_database, why_no_file

FORBIDDEN_NAMES = re.compile(
    r"duckdb_(databases|settings|secrets|extensions|logs\w*|temporary_files|external_file_cache)"
    r"|pg_settings|which_secret"
    r"|pragma_(database_list|database_size|storage_info|platform|user_agent)|write_log"
    r"|json_execute_serialized_sql|from_substrait\w*|truncate_duckdb_logs|\w+_external_resource\w*"
)
"""Views and functions that tell about the host, write somewhere, or run SQL from a string."""
FORBIDDEN_CALLS = re.compile(
    r"query|query_table|current_setting|getvariable|glob|(read|sniff|parquet)_\w+"
    r"|setseed|(force_)?checkpoint|(en|dis)able_(logging|profiling)"
)
"""The same, with names that a column may well have; DuckDB lets them read the open file itself."""
SHOWABLE = ("all", "databases", "schemas", "tables")
"""What may follow SHOW: any other name may be a setting's, and some settings hold paths."""
NAME = re.compile(r"\w+", re.ASCII)
ODD_SPACE = re.compile(
    r"[\v\x1c-\x1f\x85\xa0\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]"
)
"""DuckDB's parser takes many of these for spaces, its tokenizer takes them for letters."""

LOCKED = re.compile(r"Could not set lock on file|Conflicting lock is held")

OTHER_VERSION = re.compile(r"version number (\d+)")
ENCRYPTED = re.compile(r"encrypt", re.IGNORECASE)
DAMAGED = re.compile(
    r"^Corrupt database file|checksum|Could not read enough bytes|not a valid DuckDB"
)

ERROR_PATTERNS: tuple[tuple[type[duckdb.Error], re.Pattern[str], ErrorKind], ...] = (
    (duckdb.ParserException, re.compile(""), ErrorKind.SYNTAX),
    (duckdb.CatalogException, re.compile(r"^Table "), ErrorKind.NO_SUCH_TABLE),
    (duckdb.CatalogException, re.compile(r"Function "), ErrorKind.NO_SUCH_FUNCTION),
    (
        duckdb.BinderException,
        re.compile(r"^Referenced (column|table)|does not have a column|^Cannot extract field"),
        ErrorKind.NO_SUCH_COLUMN,
    ),
    (duckdb.BinderException, re.compile(r"^Ambiguous reference"), ErrorKind.AMBIGUOUS_COLUMN),
    (duckdb.BinderException, re.compile(r"^No function matches"), ErrorKind.WRONG_NUM_ARGS),
    (
        duckdb.BinderException,
        re.compile(r"aggregate|GROUP BY|window function"),
        ErrorKind.MISUSE_AGGREGATE,
    ),
)


class DuckdbEngine:
    """A warm read-only connection; `execute` turns every outcome into a `QueryResult`."""

    NOT_ENFORCED: ClassVar[tuple[str, ...]] = (UNCOUNTED,)

    def __init__(self, path: Path, *, memory_bytes: int) -> None:
        """Raises CannotOpenError when the file cannot be opened.

        Args:
            memory_bytes: for DuckDB's buffers; it never spills to disk.
        """
        self._path = path
        self._memory_bytes = memory_bytes
        self._connection: duckdb.DuckDBPyConnection | None = self._open()

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            str(self._path).encode()  # DuckDB's own complaint is a RuntimeError, "bad_cast"
            connection = duckdb.connect(
                str(self._path),
                read_only=True,
                config={
                    "enable_external_access": "false",
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                    "temp_directory": "",
                    "threads": "1",
                    "memory_limit": f"{self._memory_bytes >> 20}MiB",
                },
            )
            # No verdict may depend on where the machine is; connect has no option for the zone.
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET lock_configuration = true")
            return connection
        except UnicodeError as error:
            raise CannotOpenError("DuckDB opens no path that is not UTF-8") from error
        except duckdb.Error as error:
            raise CannotOpenError(why_duckdb_fails(error, self._path)) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def execute(self, sql: str, limits: QueryLimits) -> QueryResult:
        """Run one statement under `limits`; errors, refusals and interrupts are results."""
        started_s = time.monotonic()
        refusal = refuse_text(sql, limits)
        if refusal is not None:
            return refusal
        try:
            sql.encode()  # DuckDB's own complaint about lone surrogates is a TypeError
            connection = self._connection = self._connection or self._open()
            # DuckDB takes a no-break space for a letter when it is the last character.
            statements = connection.extract_statements(f"{sql}\n")
            refusal = _refuse_statements(sql, statements, own_name=self._path.name)
            if refusal is not None:
                return refusal
            with _interrupted_after(connection, limits.timeout_s):
                cursor = connection.execute(statements[0])
                columns = tuple(str(column[0]) for column in cursor.description or ())
                return collect(columns, _rows(cursor), limits, started_s)
        except (duckdb.Error, UnicodeError, MemoryError, OSError, RuntimeError) as error:
            if _is_unreadable(error):
                self.close()  # a fatal error spoils the connection: the next query opens a new one
            return self._explain(error, limits, time.monotonic() - started_s)

    def _explain(self, error: Exception, limits: QueryLimits, elapsed_s: float) -> QueryResult:
        fail = partial(failed, elapsed_s=elapsed_s)
        # After "Binder Error: " comes what is wrong; the place in the text is left out.
        text = str(error).split("\n\nLINE ")[0].partition("Error: ")[2]
        message = " ".join(text.split()).replace(str(self._path.parent), "")
        if isinstance(error, duckdb.InterruptException):
            return fail(QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT, stopped_after(limits.timeout_s))
        # Python's RuntimeError: no memory for the timer's thread.
        if isinstance(error, (duckdb.OutOfMemoryException, MemoryError, RuntimeError)):
            return fail(QueryStatus.CAPPED, ErrorKind.MEMORY, TOO_MUCH_MEMORY)
        if isinstance(error, UnicodeError):
            return fail(QueryStatus.ERROR, ErrorKind.SYNTAX, "the text is not valid Unicode")
        if isinstance(error, duckdb.PermissionException) or "read-only mode" in message:
            return fail(QueryStatus.REFUSED, ErrorKind.WRITE, "only reading tables is allowed")
        if isinstance(error, duckdb.InternalException):
            # The engine's own mistake, at the query's will: no way to stay unscored.
            return fail(QueryStatus.ERROR, ErrorKind.OTHER, ENGINE_CRASH)
        if _is_unreadable(error):
            message = "the database cannot be read"
            if isinstance(error, CannotOpenError):
                message += f": {error}"
            return fail(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE, message)
        if "Python exception" in message:
            message = "a value of this type cannot be read"
            return fail(QueryStatus.ERROR, ErrorKind.OTHER, message)
        if "Values were not provided" in message:
            return fail(QueryStatus.ERROR, ErrorKind.OTHER, "parameters (?, :name) have no values")
        for kind_of_error, pattern, kind in ERROR_PATTERNS:
            if isinstance(error, kind_of_error) and pattern.search(message):
                return fail(QueryStatus.ERROR, kind, message)
        return fail(QueryStatus.ERROR, ErrorKind.OTHER, message)


def why_duckdb_fails(error: Exception, path: Path) -> str:
    """Why DuckDB does not open a file, in words without a path."""
    text = str(error)
    if LOCKED.search(text):
        return "it is open for writing elsewhere: close what writes to it, or read a copy"
    # Not before DuckDB has tried: to look into a file ends the lock that this process has on it.
    why = why_no_database(path, "DuckDB") if path.is_file() else why_no_file(path)
    if why:
        return why
    version = OTHER_VERSION.search(text)
    if version is not None:
        return (
            f"another version of DuckDB wrote it (storage version {version[1]}; this is DuckDB "
            f"{duckdb.__version__}): install a newer one, or EXPORT DATABASE with that one"
        )
    if ENCRYPTED.search(text):
        return "it is encrypted: copy it into a database without a key"
    if DAMAGED.search(text):
        return "it is damaged: fetch or copy it again"
    first = " ".join(text.split("\n")[0].replace(str(path.parent), "").split())
    return f"DuckDB says: {first.partition('Error: ')[2] or first}"


@contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, timeout_s: float) -> Generator[None]:
    """The query within ends in time; none after it is touched, for the timer is over by then."""
    timer = threading.Timer(min(timeout_s, threading.TIMEOUT_MAX), connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _is_unreadable(error: Exception) -> bool:
    """A corrupt block comes as the bare base class."""
    fatal = (OSError, duckdb.IOException, duckdb.FatalException, duckdb.InternalException)
    return isinstance(error, fatal) or str(error).startswith("Corrupt database file")


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Cell, ...]]:
    while batch := cursor.fetchmany(FETCH_ROWS):
        for values in batch:
            yield tuple(map(plain_cell, values))


def _refuse_statements(
    sql: str, statements: list[duckdb.Statement], *, own_name: str
) -> QueryResult | None:
    """What the parse alone decides."""
    if not statements:
        return failed(QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT, "the statement is empty")
    if len(statements) > 1:
        message = "only one statement can be run at a time"
        return failed(QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS, message)
    if statements[0].type != duckdb.StatementType.SELECT:
        return failed(QueryStatus.REFUSED, ErrorKind.WRITE, "only reading is allowed")
    # FROM 'folder/pets.duckdb' opens the file that is open, and so tells where it is.
    name = "the file" if own_name in sql else _forbidden_name(sql)
    if name is not None:
        message = f"only reading tables is allowed, not {name}"
        return failed(QueryStatus.REFUSED, ErrorKind.WRITE, message)
    return None


def _forbidden_name(sql: str) -> str | None:
    """The first name outside of literals and comments that a query may not use."""
    sql = ODD_SPACE.sub(" ", sql)
    data = sql.encode()
    tokens = [one for one in duckdb.tokenize(sql) if one[1] != duckdb.token_type.comment]
    ends = [start for start, _ in tokens[1:]] + [len(data)]
    is_shown = False
    for (start, kind), end in zip(tokens, ends, strict=True):
        text = data[start:end].decode(errors="replace").lower()
        names = NAME.findall(text.partition("--")[0].partition("/*")[0])
        if is_shown and names and names[0] not in SHOWABLE:
            return "SHOW of a setting"
        is_keyword = kind == duckdb.token_type.keyword
        is_shown = is_keyword and names == ["show"]
        if not is_keyword and kind != duckdb.token_type.identifier:
            continue
        for name in names:
            if FORBIDDEN_NAMES.fullmatch(name):
                return name
            if FORBIDDEN_CALLS.fullmatch(name) and data[end : end + 1] == b"(":
                return name
    return None
