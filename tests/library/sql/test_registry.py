"""What a pool makes of databases that it cannot open, or whose file does not hold all of them."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from mtsql.data.reflect import reflect
from mtsql.errors import DataError
from mtsql.sql.engine import ErrorKind
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest
from mtsql.sql.worker import EngineShelf, run_job


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "pets.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO pet VALUES (?, ?)", [(n, "x" * 100) for n in range(9)])
    connection.close()
    return path


def test_changes_beside_a_file_stop_its_queries_until_they_are_in_it(
    database: Path,
) -> None:
    journal = Path(f"{database}-journal")
    journal.write_bytes(bytes(28))  # what journal_mode = PERSIST leaves of a finished one
    log = Path(f"{database}-wal")
    log.write_bytes(b"")
    count = QueryRequest(db_id="pets", sql="SELECT count(*) FROM pet")

    async def main() -> None:
        async with LocalPool({"pets": database}, look_every_s=0.0) as pool:
            assert (await pool.execute_many([count]))[0].rows == ((9,),)
            for beside, content in ((journal, bytes.fromhex("d9d505f920a163d7")), (log, b"x")):
                before = beside.read_bytes()
                beside.write_bytes(content)
                [fault] = await pool.execute_many([count])
                assert (fault.status, fault.kind) == ("infra_fault", ErrorKind.DATABASE_CHANGED)
                assert fault.message == "database 'pets' has changes that are not in its file yet"
                assert await pool.changed_databases() == {"pets": str(database)}
                beside.write_bytes(before)
                assert (await pool.execute_many([count]))[0].rows == ((9,),)

    asyncio.run(main())


@pytest.mark.parametrize(("mode", "suffix"), [("WAL", "-wal"), ("DELETE", "-journal")])
def test_what_a_crash_leaves_is_refused_until_sqlite_has_seen_it(
    mode: str, suffix: str, database: Path, tmp_path: Path
) -> None:
    """Committed rows in a log, or uncommitted ones in the file; also behind a link."""
    (tmp_path / "crash").mkdir()
    left = tmp_path / "crash" / "left.sqlite"
    writer = sqlite3.connect(database)
    writer.execute(f"PRAGMA journal_mode = {mode}")
    writer.execute("PRAGMA cache_size = 1")  # no room for uncommitted pages but in the file
    rows = [(n, "y" * 1000) for n in range(9, 300)]
    writer.executemany("INSERT INTO pet VALUES (?, ?)", rows)
    if mode == "WAL":
        writer.commit()
    for end in ("", suffix):
        shutil.copy(f"{database}{end}", f"{left}{end}")
    writer.rollback()
    writer.close()
    link = tmp_path / "link.sqlite"
    link.symlink_to(left)

    async def num_rows() -> object:
        count = QueryRequest(db_id="pets", sql="SELECT count(*) FROM pet")
        async with LocalPool({"pets": link}) as pool:
            return (await pool.execute_many([count]))[0].rows

    mistake = f"link.sqlite: has changes that are not in the file yet, but in left.sqlite{suffix}: "
    with pytest.raises(DataError, match=mistake):
        asyncio.run(num_rows())
    with pytest.raises(DataError, match=mistake):
        reflect("pets", link)
    reader = sqlite3.connect(left)
    reader.execute("SELECT * FROM pet").fetchall()
    reader.close()
    assert asyncio.run(num_rows()) == ((300 if mode == "WAL" else 9,),)


def test_any_failure_to_open_is_a_fault_that_names_the_database() -> None:
    shelf = EngineShelf({}, memory_bytes=1 << 28, tell=lambda _is_opening: None)  # a KeyError
    result = run_job(shelf, "pets", (0, 0), "SELECT 1", QueryLimits(), QueryLimits())
    assert result is not None
    assert (result.status, result.kind) == ("infra_fault", ErrorKind.DATABASE_UNREADABLE)
    assert result.message == "database 'pets' cannot be opened"
