"""Fixtures and settings that every test file shares."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from helpers.places import ROOT, TESTS, real_data

if TYPE_CHECKING:
    from helpers.postgres_server import PostgresServer

# No deadline: on a busy machine one example may be slow. No database: nothing is left in the tree.
settings.register_profile("mtsql", deadline=None, database=None)
settings.load_profile("mtsql")

# Started in the background by a script, or with nohup, a process ignores Ctrl-C, and its children
# inherit that. Tests interrupt themselves and their children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# First, because pytest-xdist reads the groups in its own hook of this name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For pytest-xdist: what must run in one process, and what must begin first.

    A file's tests share a process, so that its fixtures are made once; a file that attacks several
    engines has one group for each. Whole runs share one process, as two at a time would take each
    other's cores and limits, and they begin first: they take longest.
    """
    if not hasattr(config, "workerinput"):
        return  # one process runs all, in the order of the files
    for item in items:
        group = item.path.relative_to(ROOT).as_posix()
        if item.get_closest_marker("ray") or group.startswith("tests/end_to_end"):
            group = "whole runs"
        elif isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            group += str(item.callspec.params.get("engine", ""))
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not item.path.is_relative_to(TESTS / "end_to_end"))


status = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[status] = exitstatus


def pytest_configure(config: pytest.Config) -> None:
    @atexit.register
    def leave() -> None:
        """Let pytest's summary stand last where a test failed.

        Frames of the failure live to the end, and DuckDB's binding would count in forty lines
        what they hold as leaked.
        """
        code = config.stash.get(status, 0)
        if code:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


@pytest.fixture(scope="module", autouse=True)
def shared_pools() -> Iterator[None]:
    """Close at its end what a module's tests opened through helpers.turns."""
    yield
    if turns := sys.modules.get("helpers.turns"):
        turns.POOLS.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the official SParC, CoSQL and Spider releases."""
    return real_data("sparc/dev.json")


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


@pytest.fixture(scope="session")
def careless_postgres(postgres: "PostgresServer") -> "PostgresServer":
    """The same server with what careless owners leave behind in their databases."""
    from helpers.postgres_server import CARELESS_SQL  # noqa: PLC0415 - it needs psycopg

    postgres.admin(CARELESS_SQL)
    return postgres
