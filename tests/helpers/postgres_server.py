"""A PostgreSQL server of the tests' own, in a folder of its own; see the fixture `postgres`.

pytest-postgresql would start it as whoever runs pytest; PostgreSQL refuses root, which is who runs
tests in a container. So the programs are started here, as another user where we are root.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from mtsql.sql.postgres import READER_ROLE_SQL

START_WITHIN_S = 30.0
TABLES_SQL = """
CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, weight NUMERIC(5, 2), born DATE, tame BOOL);
INSERT INTO pet VALUES (1, 'Ada', 4.5, '2020-01-02', true), (2, 'Bö', NULL, NULL, NULL);
CREATE TABLE odd ("delete" INTEGER, random INTEGER);
INSERT INTO odd VALUES (7, 8);
"""

CARELESS_SQL = """
CREATE TABLE secret (word TEXT);
INSERT INTO secret VALUES ('hidden');
CREATE FUNCTION run_text(query TEXT) RETURNS TEXT LANGUAGE plpgsql AS
    $$ DECLARE answer TEXT; BEGIN EXECUTE query INTO answer; RETURN answer; END $$;
CREATE FUNCTION "Run That"(TEXT) RETURNS TEXT LANGUAGE sql AS 'SELECT run_text($1)';
CREATE FUNCTION "1 ""x"" 2"(TEXT) RETURNS TEXT LANGUAGE sql AS 'SELECT run_text($1)';
CREATE FUNCTION peek() RETURNS TEXT LANGUAGE sql STABLE SECURITY DEFINER AS
    'SELECT word FROM secret';
CREATE FUNCTION peek_at(pet) RETURNS TEXT LANGUAGE sql STABLE SECURITY DEFINER AS
    'SELECT word FROM secret';
CREATE FUNCTION note(INTEGER, INTEGER) RETURNS INTEGER LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE noted(INTEGER) (SFUNC = note, STYPE = INTEGER, INITCOND = '0');
CREATE FUNCTION twice(INTEGER) RETURNS INTEGER LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
CREATE FUNCTION wird_é() RETURNS INTEGER LANGUAGE sql AS 'SELECT 1';
GRANT UPDATE, DELETE, INSERT ON pet TO mtsql_reader;
"""
"""What careless owners of a database leave behind: each is a way out for the role."""


def find_programs() -> Path | None:
    """The folder of `initdb` and `postgres`: most systems keep them off the PATH."""
    candidates: list[Path] = []
    if found := shutil.which("initdb"):
        candidates.append(Path(found).resolve().parent)
    if config := shutil.which("pg_config"):
        shown = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        candidates.append(Path(shown.stdout.strip()))
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian's place
    for folder in candidates:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    return None


class PostgresServer:
    """Reached by a Unix socket that only this folder holds. Database `shop`, tables pet and odd."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="mtsql-pg-"))
        self._as_user: dict[str, Any] = {"cwd": self._folder}
        if os.geteuid() == 0:
            names = [entry.pw_name for entry in pwd.getpwall()]
            user = "postgres" if "postgres" in names else "nobody"
            group = pwd.getpwnam(user).pw_gid
            os.chown(self._folder, pwd.getpwnam(user).pw_uid, group)
            self._as_user |= {"user": user, "group": group, "extra_groups": []}
        self.admin_url = f"postgresql+psycopg://admin@/shop?host={self._folder}"
        """A superuser: engines refuse it."""
        self.reader_url = f"postgresql+psycopg://mtsql_reader@/shop?host={self._folder}"
        """The role that `READER_ROLE_SQL` makes."""
        initdb = [str(programs / "initdb"), "-D", "data", "-U", "admin", "--auth=trust"]
        initdb += ["--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(initdb, check=True, capture_output=True, **self._as_user)
        self._start()
        self.admin("CREATE DATABASE shop", database="postgres")
        self.admin(TABLES_SQL + READER_ROLE_SQL)

    def _start(self) -> None:
        command = [str(self._programs / "postgres"), "-D", "data", "-k", str(self._folder)]
        command += ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=30"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user)
        deadline_s = time.monotonic() + START_WITHIN_S
        while True:
            try:
                self.admin("SELECT 1", database="postgres")
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)
            else:
                return

    def admin(self, sql: str, *, database: str = "shop") -> list[tuple[Any, ...]]:
        """Run statements as a superuser; the rows of the last one."""
        where = f"host={self._folder} user=admin dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def drop_connections(self) -> None:
        """What an administrator or an idle limit does."""
        self.admin(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE usename = 'mtsql_reader'"
        )

    def restart(self) -> None:
        self._stop()
        self._start()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        self._stop()
        shutil.rmtree(self._folder)
