"""What `mtsql.sql.sqlalchemy_engine` alone promises; what engine an address gets."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.shops import facts, write_shops
from mtsql.sql.duckdb_engine import DuckdbEngine
from mtsql.sql.engine import CannotOpenError, ErrorKind
from mtsql.sql.engines import file_of, not_enforced, open_engine
from mtsql.sql.records import QueryLimits, QueryStatus
from mtsql.sql.sqlalchemy_engine import SqlalchemyEngine
from mtsql.sql.sqlite_engine import SqliteEngine

LIMITS = QueryLimits(timeout_s=2.0, max_rows=1000, max_bytes=100_000)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    return write_shops(folder / "shops.sqlite")


@pytest.fixture
def engine(database: Path) -> Iterator[SqlalchemyEngine]:
    engine = SqlalchemyEngine(f"sqlite+pysqlite:///{database}")
    yield engine
    engine.close()


def test_what_slips_through_is_rolled_back_and_a_result(database: Path) -> None:
    class Careless(SqlalchemyEngine):
        def _refuse(self, sql: str) -> None:
            """As if a text had been read in another way than the database reads it."""

    before = facts(database)
    engine = Careless(f"sqlite+pysqlite:///{database}")
    assert engine.execute("DELETE FROM shop", LIMITS).kind == ErrorKind.WRITE
    engine.execute("DELETE FROM shop RETURNING id", LIMITS)
    assert engine.execute("SELECT 1; DELETE FROM shop", LIMITS).status is QueryStatus.ERROR
    assert engine.execute("SELECT count(*) FROM shop", LIMITS).rows == ((3,),)
    engine.close()
    assert facts(database) == before


def test_a_database_that_cannot_be_opened_is_said_without_its_place(tmp_path: Path) -> None:
    for url in (
        f"sqlite+pysqlite:///{tmp_path}/no/such/folder/x.sqlite",
        "nosuchdialect://who:hunter2@host/db",
        "mysql+nosuchdriver://who:hunter2@host/db",
    ):
        with pytest.raises(CannotOpenError) as caught:
            SqlalchemyEngine(url)
        assert not any(word in str(caught.value) for word in (str(tmp_path), "who", "hunter2"))


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("a/b.sqlite", "a/b.sqlite"),
        (Path("/a/b.duckdb"), "/a/b.duckdb"),
        ("sqlite:///a.db", "a.db"),
        ("sqlite+pysqlite:////a/b.db?mode=ro", "/a/b.db"),
        ("duckdb:////a/b%20c", "/a/b c"),
        ("postgresql://who@host/shop", None),
        ("mysql+pymysql://host/shop", None),
    ],
)
def test_addresses_of_files(address: str | Path, path: str | None) -> None:
    assert file_of(address) == (None if path is None else Path(path))


def test_each_address_gets_its_engine(database: Path, tmp_path: Path) -> None:
    import duckdb  # noqa: PLC0415

    other = tmp_path / "x.duckdb"
    duckdb.connect(str(other)).close()
    for address, kind in {
        str(database): SqliteEngine,
        database: SqliteEngine,
        f"sqlite:///{database}": SqliteEngine,
        f"sqlite+pysqlite:///{database}": SqliteEngine,
        str(other): DuckdbEngine,
        f"duckdb:///{other}": DuckdbEngine,
    }.items():
        engine = open_engine(address, memory_bytes=100_000_000)
        assert type(engine) is kind
        assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)
        engine.close()
        assert not_enforced(address) == kind.NOT_ENFORCED
    with pytest.raises((OSError, sqlite3.Error)):
        open_engine("sqlite://", memory_bytes=1)


def test_what_is_not_enforced_is_said_before_a_connection() -> None:
    assert not_enforced("pets.sqlite") == ()
    [work] = not_enforced("pets.duckdb")
    assert work.startswith("work units")
    assert any("memory" in words for words in not_enforced("postgres://host/shop"))
    assert any("time" in words for words in not_enforced("mysql://host/shop"))
