"""`mtsql sql`: run SQL as an agent's SQL is run, and see what it would see."""

import asyncio
import json
import math
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtsql.errors import ConfigError, DataError, UserError
from mtsql.sql.engine import CannotOpenError
from mtsql.sql.engines import URL, file_of, not_enforced
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import Cell, QueryLimits, QueryRequest, QueryResult, QueryStatus

SUFFIXES = (".sqlite", ".db", ".duckdb")
MAX_AHEAD = 256
"""Lines that are read before the first of them is answered."""


def databases_of(db: str | None, db_root: Path | None) -> dict[str, str | Path]:
    """Databases by the names that requests use; --db comes first and is the default.

    Raises:
        ConfigError: neither is given, or the URL is none.
        DataError: a file or folder is missing.
    """
    found: dict[str, str | Path] = {}
    if db is not None and URL.fullmatch(db):
        found[_name_in(db)] = db
    elif db is not None:
        if not Path(db).is_file():
            raise DataError(f"--db {db}: no such file")
        found[Path(db).stem] = Path(db)
    if db_root is not None:
        if not db_root.is_dir():
            raise DataError(f"--db-root {db_root}: no such folder")
        for folder in sorted(path for path in db_root.iterdir() if path.is_dir()):
            for suffix in SUFFIXES:
                path = folder / f"{folder.name}{suffix}"
                if path.is_file():
                    found.setdefault(folder.name, path)
        if db is None and not found:
            raise DataError(f"--db-root {db_root}: holds no DB/DB.sqlite")
    if not found:
        raise ConfigError(
            "name a database: --db FILE_OR_URL, or --db-root DIR for DIR/DB/DB.sqlite"
        )
    return found


def _name_in(url: str) -> str:
    """The database's own name. Raises ConfigError for a URL that no driver here can open."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        parsed = make_url(url)
        is_ours = file_of(url) is not None or parsed.get_backend_name() == "postgresql"
        if not is_ours:  # those need no driver of SQLAlchemy's choice
            parsed.get_dialect().import_dbapi()
        not_enforced(url)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ConfigError(
            "--db: not a SQLAlchemy URL; write it as postgresql+psycopg://USER:PASSWORD@HOST/DB"
        ) from None
    except CannotOpenError as error:
        raise ConfigError(f"--db: {error}") from None
    except ImportError as error:
        raise ConfigError(f"--db: its driver {error.name!r} is not installed") from None
    return Path(parsed.database or "db").stem


def warn(databases: Mapping[str, str | Path]) -> None:
    """Say on stderr what the databases cannot promise, once for each kind."""
    for lacking in dict.fromkeys(not_enforced(address) for address in databases.values()):
        if lacking:
            print(f"not enforced here: {'; '.join(lacking)}", file=sys.stderr)


def print_answer(databases: Mapping[str, str | Path], sql: str, limits: QueryLimits) -> bool:
    """Run one statement and print its table. Returns whether it succeeded."""
    request = QueryRequest(db_id=next(iter(databases)), sql=sql, limits=limits)

    async def run() -> QueryResult:
        async with LocalPool(databases, num_workers=1) as pool:
            [result] = await pool.execute_many([request])
            return result

    result = asyncio.run(run())
    if result.status is not QueryStatus.OK:
        print(f"{result.status} ({result.kind}): {result.message}", file=sys.stderr)
        return False
    table = Table(box=box.SIMPLE_HEAD)
    for name in result.columns:
        table.add_column(escape(name))
    for row in result.rows:
        table.add_row(*(escape("NULL" if cell is None else str(_plain(cell))) for cell in row))
    Console().print(table)
    more = ", and more that --max-rows cuts off" if result.truncated else ""
    rows = "1 row" if len(result.rows) == 1 else f"{len(result.rows)} rows"
    print(f"{rows}{more}; {1000 * result.elapsed_s:.1f} ms")
    return True


def answer_lines(
    databases: Mapping[str, str | Path],
    requests_fd: int,
    limits: QueryLimits,
    write: Callable[[str], object],
) -> None:
    """One JSON object in, one out, in the same order; up to MAX_AHEAD queries run meanwhile.

    Args:
        requests_fd: gives lines of `{"id": any, "sql": text, "db": name}`; `db` may be left out if
            there is a --db.

    Raises:
        DataError: a line is something else; those before it are answered.
        OSError: `write` cannot write.
    """
    asyncio.run(_answer_lines(databases, requests_fd, limits, write))


async def _answer_lines(
    databases: Mapping[str, str | Path],
    requests_fd: int,
    limits: QueryLimits,
    write: Callable[[str], object],
) -> None:
    default = next(iter(databases))
    under_way: asyncio.Queue[tuple[Any, asyncio.Task[list[QueryResult]]] | None]
    under_way = asyncio.Queue(MAX_AHEAD)
    fault: UserError | OSError | None = None

    async def write_all() -> None:
        nonlocal fault
        while (item := await under_way.get()) is not None:
            name, task = item
            [result] = await task
            try:
                if not isinstance(fault, OSError):
                    write(json.dumps(_line(name, result), ensure_ascii=False) + "\n")
            except OSError as error:  # nobody reads any more: read no more either
                fault = error

    async with LocalPool(databases) as pool:
        writer = asyncio.create_task(write_all())
        number = 0
        async for line in _lines(requests_fd):
            number += 1
            if fault is not None:
                break
            try:
                name, request = _request(line, number, default, limits)
            except DataError as error:
                fault = error
                break
            await under_way.put((name, asyncio.create_task(pool.execute_many([request]))))
        await under_way.put(None)
        await writer
    if fault is not None:
        raise fault


async def _lines(requests_fd: int) -> AsyncIterator[bytes]:
    """Lines as they come, read by a thread: a caller may wait for an answer before the next one.

    The thread is a daemon, so that Ctrl-C does not wait for a line that never comes.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = threading.Semaphore(MAX_AHEAD)

    def read() -> None:
        with suppress(RuntimeError), open(requests_fd, "rb", closefd=False) as file:
            for line in file:
                room.acquire()
                loop.call_soon_threadsafe(arrived.put_nowait, line)
            loop.call_soon_threadsafe(arrived.put_nowait, None)  # RuntimeError: the loop has ended

    threading.Thread(target=read, daemon=True).start()
    while (line := await arrived.get()) is not None:
        room.release()
        yield line


def _request(
    line: bytes, number: int, default: str, limits: QueryLimits
) -> tuple[Any, QueryRequest]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(f"standard input, line {number}: not JSON ({error})") from error
    if not isinstance(value, dict) or "id" not in value or not isinstance(value.get("sql"), str):
        raise DataError(
            f"standard input, line {number}: give an object with 'id', 'sql' and perhaps 'db'"
        )
    db = value.get("db", default)
    return value["id"], QueryRequest(db_id=str(db), sql=value["sql"], limits=limits)


def _line(name: Any, result: QueryResult) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    return {
        "id": name,
        "status": str(result.status),
        "columns": result.columns,
        "rows": [[_plain(cell) for cell in row] for row in result.rows],
        "truncated": result.truncated,
        "elapsed_ms": round(1000 * result.elapsed_s, 3),
        "message": result.message,
    }


def _plain(cell: Cell) -> int | float | str | None:
    """A cell as JSON can hold it: blobs as x'00ff', numbers that are none as text."""
    if isinstance(cell, bytes):
        return f"x'{cell.hex()}'"
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    return cell
