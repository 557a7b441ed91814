"""Fixtures and settings that every test file shares."""

import atexit
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from helpers.places import real_data

if TYPE_CHECKING:
    from helpers.postgres_server import PostgresServer

# No deadline: on a busy machine one example may be slow. No database: nothing is left in the tree.
settings.register_profile("mtsql", deadline=None, database=None, print_blob=True)
settings.load_profile("mtsql")

# Started in the background by a script, or with nohup, a process ignores Ctrl-C, and its children
# inherit that. Tests interrupt themselves and their children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


WHOLE_RUNS = (
    "tests/end_to_end/",
    "tests/gpu/",
    "tests/machines/test_sql_pool_actor.py",
)
"""Tests that start runs or a Ray: two at a time would take each other's cores and limits."""
BENCHES = "tests/commands/test_bench.py"
"""Begin beside them: they measure, and what they measure is not asserted."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In several processes a file's tests share one, so that its fixtures are made once, and all
    whole runs share one."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only where it is installed

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "whole runs" if nodeid.startswith(WHOLE_RUNS) else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In several processes whole runs and benches begin first, for they take longest."""
    if hasattr(config, "workerinput"):
        first = (WHOLE_RUNS, BENCHES)
        items.sort(key=lambda item: [not item.nodeid.startswith(one) for one in first])


status = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[status] = exitstatus


def _seed_line(config: pytest.Config) -> str:
    seed = config.getoption("hypothesis_seed")
    return f"property tests draw from seed {seed}; again: pytest --hypothesis-seed={seed}"


def pytest_report_header(config: pytest.Config) -> str:
    return _seed_line(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    if exitstatus:
        terminalreporter.write_line(_seed_line(terminalreporter.config))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A new seed each time, and known, so that what fails can be drawn again. First: hypothesis
    # reads it in its own hook. Processes of pytest-xdist get it with the other options.
    if config.getoption("hypothesis_seed") is None:
        config.option.hypothesis_seed = str(secrets.randbelow(10**9))

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
