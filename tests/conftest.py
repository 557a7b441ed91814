"""Fixtures and settings that every test file shares."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from helpers.places import ROOT

if TYPE_CHECKING:
    from helpers.postgres_server import PostgresServer

# No deadline: on a busy machine one example may be slow. No database: nothing is left in the tree.
settings.register_profile("mtsql", deadline=None, database=None)
settings.load_profile("mtsql")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the official SParC, CoSQL and Spider releases."""
    named = os.environ.get("MTSQL_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "sparc" / "dev.json").is_file():
        pytest.skip(f"needs the SParC release in {folder}; MTSQL_SHARED_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgresServer]":
    """A real server: `reader_url` for an engine or a pool, `admin(sql)` to prepare its tables."""
    pytest.importorskip("psycopg")
    from helpers.postgres_server import PostgresServer, find_programs  # noqa: PLC0415 - it needs psycopg

    programs = find_programs()
    if programs is None:
        pytest.skip(
            "needs the programs of a PostgreSQL server: on PATH, by pg_config or in Debian's folder"
        )
    server = PostgresServer(programs)
    yield server
    server.close()
