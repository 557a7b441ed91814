"""Each case of hostile.yaml on each engine, through a real pool: its verdict, and no harm done."""

import asyncio
import hashlib
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
import yaml

import mtsql.sql
from mtsql.sql import lane
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult

HERE = Path(__file__).resolve().parent
ENGINES = ("sqlite", "duckdb", "postgres")
PATIENT: dict[str, float] = {
    "timeout_s": 20.0,
    "max_vm_steps": 2_000_000,
    "max_bytes": 100_000,
}
"""For cases that end by themselves: a busy machine must not turn them into timeouts."""
RUNAWAY_S = 0.15
"""For cases that would never end."""
KILL_AFTER_S = 0.5
"""The pool's grace of a second, shortened: a dozen cases end no other way."""
MAX_MESSAGE_CHARS = 2000
VERDICTS = {"ok", "refused", "interrupted", "capped", "error", "infra_fault"}
REJECTED = frozenset({"refused", "error"})

TABLES = """
CREATE TABLE pet (id INTEGER, name TEXT, weight DOUBLE PRECISION);
INSERT INTO pet VALUES (1, 'Ada', 4.5), (2, 'Bob', NULL), (3, 'Ünal', 2.0);
CREATE TABLE "order" ("delete" TEXT, "group" INTEGER);
INSERT INTO "order" VALUES ('x', 1), ('y', 2);
CREATE TABLE "my table" ("a column" TEXT);
INSERT INTO "my table" VALUES ('a;b');
CREATE TABLE number (n INTEGER);
"""
NUMBERS = f"INSERT INTO number VALUES {', '.join(f'({n})' for n in range(300))};"
SEQUENCE = "CREATE SEQUENCE pet_number;"
GRANTS = """
GRANT USAGE ON SCHEMA public TO mtsql_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mtsql_reader;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO mtsql_reader;
"""
SERVER_FACTS = """
SELECT 'relation', oid::text, relname::text, relkind::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace OR relpersistence = 't'
UNION ALL SELECT 'pet', id::text, name, weight::text FROM pet
UNION ALL SELECT 'number', count(*)::text, sum(n)::text, '' FROM number
UNION ALL SELECT 'order', "delete", "group"::text, '' FROM "order"
UNION ALL SELECT 'sequence', last_value::text, is_called::text, '' FROM pet_number
UNION ALL SELECT 'functions', count(*)::text, '', '' FROM pg_proc
UNION ALL SELECT 'roles', count(*)::text, bool_or(rolsuper)::text, '' FROM pg_roles
UNION ALL SELECT 'role setting', setrole::text, setconfig::text, '' FROM pg_db_role_setting
UNION ALL SELECT 'large objects', count(*)::text, '', '' FROM pg_largeobject_metadata
UNION ALL SELECT 'advisory locks', count(*)::text, '', '' FROM pg_locks WHERE locktype = 'advisory'
UNION ALL SELECT 'prepared', count(*)::text, '', '' FROM pg_prepared_xacts
UNION ALL SELECT 'slots', count(*)::text, '', '' FROM pg_replication_slots
UNION ALL SELECT 'databases', count(*)::text, '', '' FROM pg_database
UNION ALL SELECT 'file in the data folder', pg_stat_file('hole', true)::text, '', ''
ORDER BY 1, 2, 3, 4
"""
SESSION_FACTS = """
SELECT 'setting', name, setting FROM pg_settings WHERE name <> 'statement_timeout'
UNION ALL SELECT 'user', session_user::text, current_user::text
UNION ALL SELECT 'lock', locktype, mode FROM pg_locks
WHERE pid = pg_backend_pid() AND locktype IN ('advisory', 'tuple')
UNION ALL SELECT 'relation', relname::text, '' FROM pg_class WHERE relpersistence = 't'
UNION ALL SELECT 'statement', name, statement FROM pg_prepared_statements
UNION ALL SELECT 'channel', pg_listening_channels(), ''
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    sql: str
    must: frozenset[str]
    rows: tuple[tuple[Any, ...], ...] | None
    limits: QueryLimits
    views: tuple[tuple[str, str], ...] = ()

    @property
    def requests(self) -> list[QueryRequest]:
        """The case; before it, each of the views that it stands on, as an agent would run them."""
        whole = (*self.views, ("result", self.sql))
        found: list[QueryRequest] = []
        for place, (_, sql) in enumerate(whole):
            before = ", ".join(f"{name} AS ({text})" for name, text in whole[:place])
            composed = f"WITH {before} {sql}" if before else sql
            views = whole[: place + 1] if self.views else ()
            found.append(QueryRequest(db_id="pets", sql=composed, limits=self.limits, views=views))
        return found


def read_case(raw: Any, group_must: Any, engine: str) -> Case | None:
    """One entry of the file as `engine` must meet it; None when it is not for this engine."""
    entry: dict[str, Any] = raw if isinstance(raw, dict) else {"sql": raw}
    unknown = set(entry) - {"sql", "must", "rows", "engines", "limits", "why", "views"}
    assert not unknown, f"{entry['sql']}: unknown keys {unknown}"
    if engine not in entry.get("engines", ENGINES):
        return None
    parts = entry["sql"] if isinstance(entry["sql"], list) else [entry["sql"]]
    must = entry.get("must", group_must)
    must = must[engine] if isinstance(must, dict) else must
    verdicts = {must} if isinstance(must, str) else set(must)
    if "rejected" in verdicts:
        verdicts = verdicts - {"rejected"} | REJECTED
    assert verdicts <= VERDICTS, f"{entry['sql']}: {verdicts - VERDICTS}"
    limits = dict(PATIENT)
    if "interrupted" in verdicts:
        limits["timeout_s"] = RUNAWAY_S
    rows = entry.get("rows")
    return Case(
        sql="".join(one if isinstance(one, str) else one[0] * one[1] for one in parts),
        must=frozenset(verdicts),
        rows=None if rows is None else tuple(map(tuple, rows)),
        limits=QueryLimits(**(limits | entry.get("limits", {}))),
        views=tuple((name, sql) for name, sql in entry.get("views", ())),
    )


def all_cases() -> Iterator[Any]:
    groups = yaml.safe_load((HERE / "hostile.yaml").read_text(encoding="utf-8"))
    for engine in ENGINES:
        marks = [pytest.mark.postgres] if engine == "postgres" else []
        for group, content in groups.items():
            for raw in content["cases"]:
                case = read_case(raw, content["must"], engine)
                if case is not None:
                    slug = re.sub(r"[^A-Za-z0-9]+", "-", case.sql[:60]).strip("-")
                    yield pytest.param(engine, case, id=f"{engine}: {group}: {slug}", marks=marks)


@dataclass(kw_only=True)
class Arena:
    """One engine's database and the pool before it, for all cases."""

    pool: LocalPool
    runner: asyncio.Runner
    file: Path | None
    cwd: Path
    server: Any
    secrets: tuple[str, ...]
    facts: Any = None
    close_facts: Any = None

    def run(self, sql: str, limits: QueryLimits) -> QueryResult:
        return self.ask(QueryRequest(db_id="pets", sql=sql, limits=limits))

    def ask(self, request: QueryRequest) -> QueryResult:
        [result] = self.runner.run(self.pool.execute_many([request]))
        return result

    def look(self) -> Any:
        """What no case may change, as far as it is cheap to see."""
        listing = sorted(entry.name for entry in self.cwd.iterdir())
        if self.file is None:
            return listing
        stat = self.file.stat()
        beside = sorted(entry.name for entry in self.file.parent.iterdir())
        return listing, beside, stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_mode

    def look_closely(self) -> Any:
        if self.file is None:
            return self.server.admin(SERVER_FACTS, database="hostile")
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


def make_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES + NUMBERS)
    connection.close()


def make_duckdb(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(TABLES + NUMBERS + SEQUENCE)


def make_postgres(server: Any) -> str:
    """Returns the URL of a database of its own."""
    server.admin("CREATE DATABASE hostile", database="postgres")
    server.admin(TABLES + NUMBERS + SEQUENCE + GRANTS, database="hostile")
    return server.reader_url.replace("/shop?", "/hostile?")


@contextmanager
def open_arena(engine: str, host: Path, cwd: Path, server: Any) -> Iterator[Arena]:
    file = None if server else host / f"pets.{engine}"
    if file is None:
        address = make_postgres(server)
    else:
        address = file
        {"sqlite": make_sqlite, "duckdb": make_duckdb}[engine](file)
    secrets = [str(host), str(cwd), str(HERE.parent), str(Path.home()), sys.prefix]
    if isinstance(address, str):
        secrets.append(address.partition("host=")[2])  # the folder of the server
    with asyncio.Runner() as runner:
        pool = LocalPool({"pets": address}, num_workers=1, cache_bytes=0)
        runner.run(pool.start())
        arena = Arena(
            pool=pool,
            runner=runner,
            file=file,
            cwd=cwd,
            server=server,
            secrets=(*secrets, "site-packages", "Traceback"),
        )
        arena.facts, arena.close_facts = arena.look(), arena.look_closely()
        yield arena
        runner.run(pool.close())


@pytest.fixture(scope="module")
def arenas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Arena]]:
    """The arena of an engine, made when its first case needs it. The current folder is empty."""
    cwd = tmp_path_factory.mktemp("cwd")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.chdir(cwd)

        @cache
        def opened(engine: str) -> Arena:
            server = request.getfixturevalue("postgres") if engine == "postgres" else None
            host = tmp_path_factory.mktemp("host")
            return stack.enter_context(open_arena(engine, host, cwd, server))

        def arena(engine: str) -> Arena:
            patch.setattr(lane, "GRACE_S", KILL_AFTER_S)
            return opened(engine)

        yield arena


def test_the_package_promises_what_is_attacked() -> None:
    promised = re.findall(r"^- ([\w ,-]+?)(?:: |$)", str(mtsql.sql.__doc__), re.MULTILINE)
    groups = yaml.safe_load((HERE / "hostile.yaml").read_text(encoding="utf-8"))
    assert promised == list(groups)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "case"), [*all_cases()])
def test_each_case_ends_as_it_must(engine: str, case: Case, arenas: Callable[[str], Arena]) -> None:
    arena = arenas(engine)
    result = [arena.ask(request) for request in case.requests][-1]
    shown = f"{result.status} {result.kind} {result.message[:300]} {result.rows[:3]}"
    assert result.status in case.must, shown
    if result.status == "ok":
        assert case.rows is None or result.rows == case.rows
    else:
        assert (result.rows, result.columns) == ((), ())
        assert 0 < len(result.message) <= MAX_MESSAGE_CHARS
    told = f"{result.message} {result.columns} {result.rows}"
    assert not [secret for secret in arena.secrets if secret in told], shown
    assert arena.look() == arena.facts
    assert arena.run("SELECT 1", QueryLimits()).rows == ((1,),)


@pytest.mark.parametrize(
    "engine", ["sqlite", "duckdb", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def test_after_all_cases_nothing_has_changed(engine: str, arenas: Callable[[str], Arena]) -> None:
    arena = arenas(engine)
    assert arena.run("SELECT count(*) FROM number", QueryLimits()).rows == ((300,),)
    assert arena.look_closely() == arena.close_facts
    template = psutil.Process(arena.pool.worker_pids[0]).parent()
    assert template is not None
    give_up_s = time.monotonic() + 5
    while len(template.children()) > 2:
        assert time.monotonic() < give_up_s, "killed workers stay"
        arena.runner.run(asyncio.sleep(0.05))
    assert arena.pool.stats().num_in_flight == 0


@pytest.mark.postgres
def test_nothing_of_a_query_stays_in_its_session(postgres: Any) -> None:
    from mtsql.sql.postgres import PostgresEngine  # noqa: PLC0415 - it needs psycopg

    engine = PostgresEngine(postgres.reader_url)

    def session() -> list[tuple[Any, ...]]:
        assert engine._connection is not None
        rows = engine._connection.exec_driver_sql(SESSION_FACTS).all()
        engine._connection.rollback()
        return [tuple(row) for row in rows]

    before = session()
    attacks = [one.values for one in all_cases() if one.values[0] == "postgres"]
    for _, case in attacks:
        if "interrupted" not in case.must:
            engine.execute(case.sql, case.limits)
    assert session() == before
    engine.close()
