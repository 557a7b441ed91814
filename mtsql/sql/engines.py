"""Which engine reads which database: the one place that knows them all.

An address is the path of a file (`*.duckdb` is DuckDB's, any other SQLite's) or an SQLAlchemy URL.
A driver is imported when the first database needs it; SQLite needs none.
"""

# ruff: noqa: PLC0415 - the imports of drivers are slow, and most processes need none of them

import os
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mtsql.errors import DataError
from mtsql.sql.engine import CannotOpenError, Engine
from mtsql.sql.kept import KeptRoom
from mtsql.sql.sqlite_engine import SqliteEngine, unmerged_file, why_sqlite_fails
from mtsql.sql.unreadable import EngineName, why_no_database, why_no_file

if TYPE_CHECKING:
    from mtsql.sql.sqlalchemy_engine import SqlalchemyEngine

URL = re.compile(r"(?P<dialect>\w+)(?:\+\w+)?://(?P<rest>.*)", re.DOTALL)


def file_of(address: str | Path) -> Path | None:
    """The database file at an address, be it a path or `sqlite:///a.db`; None for a server."""
    url = URL.fullmatch(str(address))
    if url is None:
        return Path(address)
    if url["dialect"] not in ("sqlite", "duckdb"):
        return None
    return Path(unquote(url["rest"].partition("?")[0].removeprefix("/")))


def open_engine(address: str | Path, *, memory_bytes: int, room: KeptRoom | None = None) -> Engine:
    """A warm read-only connection.

    Args:
        memory_bytes: for DuckDB's data. SQLite's heap has one limit for the whole process, and a
            server has its own.
        room: for the rows of views, where the engine can keep them (SQLite); None: for none.

    Raises:
        CannotOpenError: the database cannot be opened; the text says why.
    """
    path = file_of(address)
    if path is None:
        return _server_engine(str(address))(str(address))
    if not path.is_file():
        raise CannotOpenError(why_no_file(path))
    if not _is_duckdb(address):
        why = why_no_database(path, "SQLite")  # to SQLite, an empty file is an empty database
        if why:
            raise CannotOpenError(why)
        try:
            return SqliteEngine(path, room)
        except sqlite3.Error as error:
            raise CannotOpenError(why_sqlite_fails(error)) from error
    from mtsql.sql.duckdb_engine import DuckdbEngine

    return DuckdbEngine(path, memory_bytes=memory_bytes)


def unmerged(address: str | Path) -> Path | None:
    """The file next to an SQLite database whose changes are not in the database's file yet."""
    path = file_of(address)
    return None if path is None or _is_duckdb(address) else unmerged_file(path)


def why_unreadable(address: str | Path) -> str:
    """What is wrong with the database at an address, and the fix, as words behind its path.

    Nothing is connected: a server is not asked, a lock or damage further in is not seen.

    Returns:
        "" where nothing is wrong.
    """
    path = file_of(address)
    if path is None:
        return ""
    why = why_missing(address)
    if why:
        return why
    why = why_no_database(path, _engine_name(address))
    return cannot_be_read(address, why) if why else ""


def why_missing(address: str | Path) -> str:
    """The part of `why_unreadable` that does not look into the file."""
    path = file_of(address)
    if path is None:
        return ""
    try:
        return _why_unmerged(address, path) if path.is_file() else why_no_file(path)
    except OSError as error:  # a folder above it that may not be entered
        return f"cannot be read ({error.strerror})"


def cannot_be_read(address: str | Path, why: str) -> str:
    """The words for a file that is there and is not what its address says.

    Example: `cannot be read as a DuckDB database: it is open for writing elsewhere`.
    """
    article = "an SQLite" if _engine_name(address) == "SQLite" else "a DuckDB"
    return f"cannot be read as {article} database: {why}"


def require_readable(address: str | Path) -> None:
    """Raises DataError for a file that `why_unreadable` has something to say about."""
    why = why_unreadable(address)
    if why:
        raise DataError(f"{file_of(address)}: {why}")


def _why_unmerged(address: str | Path, path: Path) -> str:
    """We read only the file: a database that it alone does not hold is refused."""
    beside = unmerged(address)
    if beside is None:
        return ""
    order = "PRAGMA wal_checkpoint(TRUNCATE)" if beside.name.endswith("-wal") else ".schema"
    can_write = os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)
    where = "" if can_write else "copy both files to a folder that you may write to; there, "
    return (
        f"has changes that are not in the file yet, but in {beside.name}: {where}"
        f'close what writes to it, then run: sqlite3 FILE "{order}"'
    )


def not_enforced(address: str | Path) -> tuple[str, ...]:
    """The limits that the database at an address cannot keep, in words; nothing is connected.

    Raises:
        CannotOpenError: its driver is not installed.
    """
    if file_of(address) is None:
        return _server_engine(str(address)).NOT_ENFORCED
    if not _is_duckdb(address):
        return SqliteEngine.NOT_ENFORCED
    from mtsql.sql.duckdb_engine import DuckdbEngine

    return DuckdbEngine.NOT_ENFORCED


def _engine_name(address: str | Path) -> EngineName:
    return "DuckDB" if _is_duckdb(address) else "SQLite"


def _is_duckdb(address: str | Path) -> bool:
    url = URL.fullmatch(str(address))
    return Path(address).suffix == ".duckdb" if url is None else url["dialect"] == "duckdb"


def _server_engine(url: str) -> "type[SqlalchemyEngine]":
    if re.match(r"postgres(ql)?\b", url) is None:
        from mtsql.sql.sqlalchemy_engine import SqlalchemyEngine

        return SqlalchemyEngine
    try:
        from mtsql.sql.postgres import PostgresEngine
    except ImportError:
        message = "PostgreSQL needs psycopg: pip install 'mtsql[postgres]'"
        raise CannotOpenError(message) from None
    return PostgresEngine
