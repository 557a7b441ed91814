"""Which engine reads which database: the one place that knows them all.

An address is the path of a file (`*.duckdb` is DuckDB's, any other SQLite's) or an SQLAlchemy URL.
A driver is imported when the first database needs it; SQLite needs none.
"""

# ruff: noqa: PLC0415 - the imports of drivers are slow, and most processes need none of them

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mtsql.errors import DataError
from mtsql.sql.engine import CannotOpenError, Engine
from mtsql.sql.sqlite_engine import SqliteEngine, unmerged_file

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


def open_engine(address: str | Path, *, memory_bytes: int) -> Engine:
    """A warm read-only connection.

    Args:
        memory_bytes: for DuckDB's data. SQLite's heap has one limit for the whole process, and a
            server has its own.

    Raises:
        sqlite3.Error, OSError: the database cannot be opened. Only the text of a CannotOpenError is
            fit for display.
    """
    path = file_of(address)
    if path is None:
        return _server_engine(str(address))(str(address))
    if not _is_duckdb(address):
        return SqliteEngine(path)
    from mtsql.sql.duckdb_engine import DuckdbEngine

    return DuckdbEngine(path, memory_bytes=memory_bytes)


def unmerged(address: str | Path) -> Path | None:
    """The file next to an SQLite database whose changes are not in the database's file yet."""
    path = file_of(address)
    return None if path is None or _is_duckdb(address) else unmerged_file(path)


def require_merged(address: str | Path) -> None:
    """Raises DataError for a database that its file alone does not hold: we read only the file."""
    beside = unmerged(address)
    if beside is not None:
        order = "PRAGMA wal_checkpoint(TRUNCATE)" if beside.name.endswith("-wal") else ".schema"
        raise DataError(
            f"{file_of(address)}: has changes that are not in the file yet, but in {beside.name}: "
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
