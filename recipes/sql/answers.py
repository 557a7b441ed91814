"""`mtsql sql`: run SQL as an agent's SQL is run, and see what it would see."""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtsql.data.databases import find_databases
from mtsql.errors import ConfigError, DataError, some_of
from mtsql.shown.results import json_cell
from mtsql.sql.engine import CannotOpenError
from mtsql.sql.engines import URL, file_of, not_enforced, why_unreadable
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus
from recipes.sql.table import print_table, writable

REQUEST_KEYS = ("id", "sql", "db")
MAX_AHEAD = 256
"""Lines that are read before the first of them is answered."""


def databases_of(db: str | None, db_root: Path | None) -> dict[str, str | Path]:
    """Databases by the names that requests use; --db comes first and is the default.

    Those of --db-root that cannot be opened are left out, and named on stderr with the reason.

    Raises:
        ConfigError: neither is given, or the text is not a URL.
        DataError: a file or folder is missing, or --db is no database.
    """
    found: dict[str, str | Path] = {}
    if db is not None and URL.fullmatch(db):
        found[_name_in(db)] = db
    elif db is not None:
        found[Path(db).stem] = Path(db)
    for address in found.values():
        why = why_unreadable(address)
        if why:
            raise DataError(f"--db {db}: {why}")
    if db_root is not None:
        if not db_root.is_dir():
            why = "not a folder" if db_root.exists() else "no such folder"
            raise DataError(f"--db-root {db_root}: {why}")
        unreadable: dict[str, str] = {}
        for name, path in find_databases(db_root).items():
            why = why_unreadable(path)
            if why:
                unreadable[name] = why
            else:
                found.setdefault(name, path)
        reasons = some_of([f"{name} {why}" for name, why in unreadable.items()])
        if db is None and not found:
            what = f"no database that can be opened: {reasons}" if unreadable else "no DB/DB.sqlite"
            raise DataError(f"--db-root {db_root}: holds {what}")
        if unreadable:
            print(f"left out, of --db-root: {reasons}", file=sys.stderr)
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
        print(f"{result.status} ({result.kind}): {writable(result.message)}", file=sys.stderr)
        return False
    print_table(result)
    more = ", and more that --max-rows cuts off" if result.truncated else ""
    rows = "1 row" if len(result.rows) == 1 else f"{len(result.rows)} rows"
    print(f"{rows}{more}; {1000 * result.elapsed_s:.1f} ms")
    return True


def answer_lines(
    databases: Mapping[str, str | Path],
    default: str | None,
    requests_fd: int,
    limits: QueryLimits,
    write: Callable[[bytes], object],
) -> None:
    """One JSON object in, one out, in the same order; up to MAX_AHEAD queries run meanwhile.

    Args:
        default: the database of lines that name none; None: each line must.
        requests_fd: gives lines of `{"id": any, "sql": text, "db": name}`; `db` may be left out or
            null if there is a --db, and blank lines count for nothing.
        write: gets whole lines, in UTF-8.

    Raises:
        DataError: a line is something else; those before it are answered.
        Exception: what `write` raises; no later answer is written.
    """
    asyncio.run(_answer_lines(databases, default, requests_fd, limits, write))


async def _answer_lines(
    databases: Mapping[str, str | Path],
    default: str | None,
    requests_fd: int,
    limits: QueryLimits,
    write: Callable[[bytes], object],
) -> None:
    under_way: asyncio.Queue[tuple[Any, asyncio.Task[list[QueryResult]]] | None]
    under_way = asyncio.Queue(MAX_AHEAD)
    fault: Exception | None = None

    async def read_all(pool: LocalPool) -> None:
        nonlocal fault
        try:
            async for number, line in _lines(requests_fd):
                name, request = _request(line, number, default, limits)
                await under_way.put((name, asyncio.create_task(pool.execute_many([request]))))
        except Exception as error:  # noqa: BLE001 - raised when what came before it is answered
            fault = error
        await under_way.put(None)

    async with LocalPool(databases) as pool:
        reader = asyncio.create_task(read_all(pool))
        try:
            while (item := await under_way.get()) is not None:
                name, task = item
                [result] = await task
                write(_line(name, result))
        finally:  # the answers have no reader any more: read no more requests either
            reader.cancel()
    if fault is not None:
        raise fault


async def _lines(requests_fd: int) -> AsyncIterator[tuple[int, bytes]]:
    """Lines that are not blank and their numbers, as they come.

    A thread reads them: a caller may wait for an answer before the next one. It is a daemon, so
    that Ctrl-C does not wait for a line that never comes.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | OSError | None] = asyncio.Queue()
    room = threading.Semaphore(MAX_AHEAD)

    def read() -> None:
        end = None
        with suppress(RuntimeError):  # the loop has ended
            try:
                with open(requests_fd, "rb", closefd=False) as file:
                    for line in file:
                        room.acquire()
                        loop.call_soon_threadsafe(arrived.put_nowait, line)
            except OSError as error:  # a folder, say
                end = error
            loop.call_soon_threadsafe(arrived.put_nowait, end)

    threading.Thread(target=read, daemon=True).start()
    number = 0
    while isinstance(line := await arrived.get(), bytes):
        room.release()
        number += 1
        if line.strip():
            yield number, line
    if line is not None:
        raise DataError(f"standard input: cannot be read ({line.strerror})")


def _request(
    line: bytes, number: int, default: str | None, limits: QueryLimits
) -> tuple[Any, QueryRequest]:
    place = f"standard input, line {number}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error})") from error
    if not isinstance(value, dict) or "id" not in value or not isinstance(value.get("sql"), str):
        raise DataError(f"{place}: give an object with 'id', 'sql' and perhaps 'db'")
    unknown = [key for key in value if key not in REQUEST_KEYS]
    if unknown:
        raise DataError(f"{place}: unknown key {unknown[0]!r}; give 'id', 'sql' and perhaps 'db'")
    db = default if value.get("db") is None else value["db"]
    if db is None:
        raise DataError(f"{place}: name a 'db', one of --db-root, or give --db for all lines")
    if not isinstance(db, str):
        raise DataError(f"{place}: 'db' is {json.dumps(db)}; write the database's name as text")
    return value["id"], QueryRequest(db_id=db, sql=value["sql"], limits=limits)


def _line(name: Any, result: QueryResult) -> bytes:  # noqa: ANN401 - any JSON value
    answer = {
        "id": name,
        "status": str(result.status),
        "columns": result.columns,
        "rows": [[json_cell(cell) for cell in row] for row in result.rows],
        "truncated": result.truncated,
        "elapsed_ms": round(1000 * result.elapsed_s, 3),
        "message": result.message,
    }
    try:
        return (json.dumps(answer, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can say
        return (json.dumps(answer) + "\n").encode()
