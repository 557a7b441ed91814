"""Run one model-written statement against one SQLite file.

Covered: writes in any form (also behind a CTE), ATTACH, VACUUM INTO, PRAGMA, transactions,
extension loading, several statements, runaway recursion and joins, huge values, too many rows or
bytes, text that is not UTF-8, host paths in messages. Not covered: time inside one opcode (neither
the progress handler nor an interrupt is polled there) and memory outside SQLite's heap; for both,
the engine runs in a process that `mtsql.sql.pool` limits and kills.
"""

import os
import re
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from mtsql.sql.engine import (
    TOO_MUCH_MEMORY,
    ErrorKind,
    collect,
    failed,
    refuse_text,
    stopped_after,
)
from mtsql.sql.kept import KeptRoom, KeptViews
from mtsql.sql.quoting import quote_name
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus, ViewText
from mtsql.sql.sqlite_refusal import COMMENTS, explain_refusal

STEPS_PER_CHECK = 1000
"""VM steps between two looks at budget and clock: about 13 us, at no cost one can measure."""
KEEP_LIMITS = QueryLimits(timeout_s=0.5, max_bytes=1 << 30)
"""Of keeping a view's rows: far more than the largest result takes."""
_MOST_BYTES = (1 << 31) - 1  # SQLite takes no larger number

ALLOWED_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)
FORBIDDEN_FUNCTIONS = frozenset(
    {
        "load_extension",
        "fts3_tokenizer",
        "readfile",
        "writefile",
        "edit",
        "fsdir",
        "lsmode",
        "sqlite_log",
    }
)
MAX_PATTERN_BYTES = 1000
"""Of LIKE and GLOB: a match takes time in one opcode, at worst the pattern times the text."""
CONNECTION_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: MAX_PATTERN_BYTES,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
"""SQLite's own limits on columns (2,000), depth (1,000) and compound selects (500) stay: a query
beyond them fails everywhere, so that it is the query's mistake.
"""

ERROR_PATTERNS = (
    (re.compile(r"^no such column"), ErrorKind.NO_SUCH_COLUMN),
    (re.compile(r"^no such table"), ErrorKind.NO_SUCH_TABLE),
    (re.compile(r"^no such (function|module|window)"), ErrorKind.NO_SUCH_FUNCTION),
    (re.compile(r"^ambiguous column name"), ErrorKind.AMBIGUOUS_COLUMN),
    (re.compile(r"^wrong number of arguments"), ErrorKind.WRONG_NUM_ARGS),
    (re.compile(r"^misuse of (aliased )?(aggregate|window)"), ErrorKind.MISUSE_AGGREGATE),
    (re.compile(r"(syntax error$|^incomplete input|^unrecognized token)"), ErrorKind.SYNTAX),
)
"""SQLite gives all of these one error code, so that only its text tells them apart."""

UNREADABLE_CODES = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
    }
)

DAMAGED = "it is damaged: fetch or copy it again, or save what is left with sqlite3's .recover"
REASONS = {
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: "it is damaged, encrypted, or written by a newer SQLite",
    sqlite3.SQLITE_PERM: "it may not be read",
    sqlite3.SQLITE_BUSY: "it is locked elsewhere",
    sqlite3.SQLITE_LOCKED: "it is locked elsewhere",
}
"""Of the codes above, those that tell more than that it does not work."""

JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""Of a rollback journal in use: a finished one is gone, empty or begins with zeros."""

decode_text = partial(str, encoding="utf-8", errors="replace")
"""Real databases hold text that is not UTF-8; a replacement mark beats a failed query."""


def unmerged_file(path: Path) -> Path | None:
    """The write-ahead log or rollback journal of changes that a database's file lacks, if any.

    It is next to the file that a link leads to, because SQLite looks for it there. A log
    whose changes are in the file already counts too, until it is emptied.
    """
    real = path.resolve()
    log = real.with_name(f"{real.name}-wal")
    if log.exists() and log.stat().st_size:
        return log
    journal = real.with_name(f"{real.name}-journal")
    if journal.is_file():
        with journal.open("rb") as file:
            if file.read(len(JOURNAL_MAGIC)) == JOURNAL_MAGIC:
                return journal
    return None


def why_sqlite_fails(error: sqlite3.Error) -> str:
    """The cause of an error that no query can be blamed for, in words without a path."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # primary code
    if code == sqlite3.SQLITE_ERROR:  # a malformed schema, say: the text names it
        return f"SQLite says: {error}"
    return REASONS.get(code, f"SQLite cannot read it (code {code})")


class SqliteEngine:
    """A warm, immutable, read-only connection; `execute` turns every outcome into a `QueryResult`.

    The file must not change while the engine is open, and what is in a journal next to it is not
    seen (immutable=1 skips locks, journals and change checks): the engine's owner looks for an
    `unmerged_file`, and opens a new engine when size or mtime differ.
    """

    NOT_ENFORCED: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, room: KeptRoom | None = None) -> None:
        """Raises sqlite3.Error when the file cannot be opened as a database.

        Args:
            room: for the rows of views; None: none are kept.
        """
        self._path = path
        self._ticks_left = 0
        self._deadline_s = 0.0
        self._stopped_by: ErrorKind | None = None
        self._refused: tuple[int, str] | None = None  # the first refused action, and on what
        # cached_statements=0: a reused statement keeps its step counter, and the budget would
        # depend on history.
        self._connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path.absolute()))}?mode=ro&immutable=1",
            uri=True,
            isolation_level=None,
            cached_statements=0,
            check_same_thread=False,
        )
        try:
            self._connection.execute("PRAGMA query_only = ON")
            # Sorting never spills into files on the host; the memory limit of the worker bounds it.
            self._connection.execute("PRAGMA temp_store = MEMORY")
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connect_virtual_tables()
        except sqlite3.Error:
            self._connection.close()
            raise
        self._connection.text_factory = decode_text
        for category, limit in CONNECTION_LIMITS.items():
            self._connection.setlimit(category, limit)
        self._connection.set_authorizer(self._authorize)
        self._steps_per_check: int = 0
        self.kept = KeptViews(self._connection, room or KeptRoom(0))
        self._readable: frozenset[str] = frozenset()
        """Kept tables that the statement under way may read."""

    def close(self) -> None:
        self.kept.close()
        self._connection.close()

    def execute(
        self, sql: str, limits: QueryLimits, *, started_s: float | None = None
    ) -> QueryResult:
        """Run one statement under `limits`; errors, refusals and interrupts are results.

        The step budget is kept to within `STEPS_PER_CHECK` steps and is the same on every machine;
        `elapsed_s` is wall time from the first look at the text to the last row.

        Args:
            started_s: when the time limit began, on the monotonic clock; None: now.
        """
        started_s = time.monotonic() if started_s is None else started_s
        refusal = refuse_text(sql, limits)
        if refusal is not None:
            return refusal
        self._arm(limits, started_s)
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql.rstrip("; \t\r\n\f"))
            result = self._fetch(cursor, sql, limits, started_s)
        except (sqlite3.Error, sqlite3.Warning, UnicodeError, MemoryError) as error:
            result = self._explain(error, sql, limits, time.monotonic() - started_s)
        finally:
            cursor.close()
        return result

    def execute_view(self, sql: str, views: Sequence[ViewText], limits: QueryLimits) -> QueryResult:
        """Run the last view of a chain on top of those before it, without computing them again
        where their rows are kept; and keep its own.

        Rows of a whole result are those that `sql`, the composed query, gives. Whatever else comes
        of kept rows (an error, a limit met, a result that is cut) is not told: the composed query
        is run for it, in what is left of the time. A chain has one budget of work: what kept views
        took counts.
        """
        started_s = time.monotonic()
        on_kept = self.kept.rewrite(views)
        if on_kept is not None:
            left = max(1, limits.max_vm_steps - on_kept.num_steps)
            self._readable = on_kept.tables
            try:
                result = self.execute(
                    on_kept.sql, replace(limits, max_vm_steps=left), started_s=started_s
                )
            finally:
                self._readable = frozenset()
            if result.status is QueryStatus.OK and not result.truncated:
                num_steps = on_kept.num_steps + self._num_steps(left)
                self._keep(views, result, num_steps)
                return result
        result = self.execute(sql, limits, started_s=started_s)
        if result.status is QueryStatus.OK:
            self._keep(views, result, self._num_steps(limits.max_vm_steps))
        return result

    def _num_steps(self, granted: int) -> int:
        """What the statement that ran last took, to within `STEPS_PER_CHECK`."""
        return max(0, granted - max(self._ticks_left, 0) * self._steps_per_check)

    def _keep(self, views: Sequence[ViewText], result: QueryResult, num_steps: int) -> None:
        if not self.kept.is_worth(views, result, num_steps):
            return
        self._arm(KEEP_LIMITS, time.monotonic())
        # Whatever goes wrong here, the rows are computed again.
        with suppress(sqlite3.Error, sqlite3.Warning, UnicodeError, MemoryError):
            kinds = self.kept.kinds(views, result.columns)
            if kinds is not None:
                with self._writable():
                    self.kept.keep(views, result, kinds, num_steps=num_steps)

    @contextmanager
    def _writable(self) -> Generator[None]:
        """For our own statements; the file stays read-only, as it was opened so."""
        self._connection.set_authorizer(None)
        try:
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 1)
            self._connection.execute("PRAGMA query_only = OFF")
            yield
        finally:
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            self._connection.set_authorizer(self._authorize)

    def _connect_virtual_tables(self) -> None:
        """Before the authorizer exists: SQLite declares each of them with an inner CREATE TABLE.

        It is also the first read: SQLite opens lazily, and a file that is no database is found
        here.
        """
        rows = self._connection.execute(
            "SELECT name FROM sqlite_master "
            "WHERE type = 'table' AND sql LIKE 'create virtual table%'"
        )
        quoted = [quote_name(str(name)) for (name,) in rows.fetchall()]
        for source in ["json_each('[]')", "json_tree('[]')", *quoted]:
            # A module this build of SQLite lacks: only queries on that one table fail.
            with suppress(sqlite3.OperationalError):
                self._connection.execute(f"SELECT * FROM {source} LIMIT 0")

    def _arm(self, limits: QueryLimits, started_s: float) -> None:
        steps_per_check = max(1, min(STEPS_PER_CHECK, limits.max_vm_steps))
        if steps_per_check != self._steps_per_check:
            self._connection.set_progress_handler(self._on_progress, steps_per_check)
            self._steps_per_check = steps_per_check
        self._ticks_left = limits.max_vm_steps // steps_per_check
        self._deadline_s = started_s + limits.timeout_s
        self._stopped_by = None
        self._refused = None
        # Room for one value of the largest allowed result, and never less than a line of text.
        longest = min(max(limits.max_bytes, 1024), _MOST_BYTES)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 4 * limits.max_sql_chars + 4)

    def _on_progress(self) -> int:
        self._ticks_left -= 1
        if self._ticks_left <= 0:
            self._stopped_by = ErrorKind.STEPS
            return 1
        if time.monotonic() > self._deadline_s:
            self._stopped_by = ErrorKind.TIMEOUT
            return 1
        return 0

    def _authorize(
        self,
        action: int,
        first: str | None,
        second: str | None,
        database: str | None,
        source: str | None,
    ) -> int:
        if action == sqlite3.SQLITE_PRAGMA and (first, second) == ("data_version", None):
            return sqlite3.SQLITE_OK  # a plain read, which full-text tables make by themselves
        if action not in ALLOWED_ACTIONS:
            self._refused = self._refused or (action, first or "")
            return sqlite3.SQLITE_DENY
        if database == self.kept.schema and first not in self._readable:
            self._refused = self._refused or (action, first or "")
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FORBIDDEN_FUNCTIONS:
            self._refused = self._refused or (action, str(second))
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _fetch(
        self, cursor: sqlite3.Cursor, sql: str, limits: QueryLimits, started_s: float
    ) -> QueryResult:
        if cursor.description is None:
            if COMMENTS.sub("", sql).strip("; \t\r\n\f"):
                return failed(QueryStatus.REFUSED, ErrorKind.WRITE, "only reading is allowed")
            return failed(QueryStatus.REFUSED, ErrorKind.EMPTY_STATEMENT, "the statement is empty")
        columns = tuple(str(column[0]) for column in cursor.description)
        return collect(columns, cursor, limits, started_s)

    def _explain(
        self, error: Exception, sql: str, limits: QueryLimits, elapsed_s: float
    ) -> QueryResult:
        """Name what went wrong, from the strongest evidence (our handlers) to the weakest."""
        fail = partial(failed, elapsed_s=elapsed_s)
        if self._refused:
            message = explain_refusal(*self._refused, sql, str(error))
            return fail(QueryStatus.REFUSED, ErrorKind.WRITE, message)
        if self._stopped_by is ErrorKind.STEPS:
            message = f"stopped after {limits.max_vm_steps} steps of work (sql.max_vm_steps)"
            return fail(QueryStatus.INTERRUPTED, ErrorKind.STEPS, message)
        if self._stopped_by is not None:
            return fail(QueryStatus.INTERRUPTED, ErrorKind.TIMEOUT, stopped_after(limits.timeout_s))
        if isinstance(error, MemoryError):
            return fail(QueryStatus.CAPPED, ErrorKind.MEMORY, TOO_MUCH_MEMORY)
        if isinstance(error, UnicodeError):
            return fail(QueryStatus.ERROR, ErrorKind.SYNTAX, "the text is not valid Unicode")
        if isinstance(error, sqlite3.Warning) or "one statement at a time" in str(error):
            message = "only one statement can be run at a time"
            return fail(QueryStatus.REFUSED, ErrorKind.MULTIPLE_STATEMENTS, message)
        return self._explain_code(error, limits, elapsed_s)

    def _explain_code(self, error: Exception, limits: QueryLimits, elapsed_s: float) -> QueryResult:
        fail = partial(failed, elapsed_s=elapsed_s)
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # primary code
        message = str(error).replace(str(self._path.parent), "").replace(self._path.name, "")
        if code == sqlite3.SQLITE_TOOBIG or isinstance(error, sqlite3.DataError):
            message = f"a value is larger than {limits.max_bytes} bytes (sql.max_bytes)"
            return fail(QueryStatus.CAPPED, ErrorKind.ROWS_BYTES, message)
        if code in (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_FULL):
            return fail(QueryStatus.CAPPED, ErrorKind.MEMORY, TOO_MUCH_MEMORY)
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH):
            return fail(QueryStatus.REFUSED, ErrorKind.WRITE, "only reading is allowed")
        if code in UNREADABLE_CODES:
            message = f"the database cannot be read: {REASONS.get(code, f'SQLite code {code}')}"
            return fail(QueryStatus.INFRA_FAULT, ErrorKind.DATABASE_UNREADABLE, message)
        if message == "LIKE or GLOB pattern too complex":
            message = f"a pattern of LIKE or GLOB is longer than {MAX_PATTERN_BYTES} bytes"
            message += ", a fixed limit"
            return fail(QueryStatus.CAPPED, ErrorKind.ROWS_BYTES, message)
        if "bindings" in message:
            return fail(QueryStatus.ERROR, ErrorKind.OTHER, "parameters (?, :name) have no values")
        for pattern, kind in ERROR_PATTERNS:
            if pattern.search(message):
                return fail(QueryStatus.ERROR, kind, message)
        return fail(QueryStatus.ERROR, ErrorKind.OTHER, message)
