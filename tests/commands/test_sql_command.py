"""`mtsql sql` as its user meets it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from mtsql.sql.records import QueryLimits
from recipes.main import main
from recipes.sql.answers import answer_lines

if TYPE_CHECKING:
    from helpers.postgres_server import PostgresServer

Answer = Callable[..., tuple[int, bytes, bytes]]
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two databases as Spider lays them out, and a folder that holds none."""
    for name in ("pets", "shops", "empty"):
        (tmp_path / name).mkdir()
    with sqlite3.connect(tmp_path / "pets" / "pets.sqlite") as connection:
        connection.execute("CREATE TABLE pet (id, name)")
        connection.execute("INSERT INTO pet VALUES (1, 'Ada'), (2, NULL), (3, x'00ff')")
    connection.close()
    with duckdb.connect(str(tmp_path / "shops" / "shops.duckdb")) as other:
        other.execute("CREATE TABLE shop AS SELECT 7 AS id, 1.0 / 0 AS price")
    return tmp_path


def pets(root: Path) -> str:
    return str(root / "pets" / "pets.sqlite")


def jsonl(text: str, *words: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """Answer lines as a process of its own does."""
    return subprocess.run(
        [sys.executable, "-m", "recipes.main", "sql", *words, "--jsonl"],
        input=text.encode(),
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Answer:
    """Answer lines in this process; code, output and errors."""

    def answer(lines: bytes, *words: str) -> tuple[int, bytes, bytes]:
        requests = tmp_path / "requests.jsonl"
        requests.write_bytes(lines)
        with requests.open() as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            code = main(["sql", *words, "--jsonl"])
        out, err = capsysbinary.readouterr()
        return code, out, err

    return answer


def test_a_table_is_printed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "--db", pets(root), "SELECT * FROM pet", "--max-rows", "2"]) == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if "Ada" in line] == [["1", "Ada"]]
    assert "NULL" in out
    assert "2 rows, and more that --max-rows cuts off" in out


def test_what_an_agent_may_not_do_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "--db", pets(root), "DELETE FROM pet"]) == 1
    assert capsys.readouterr().err == "refused (write): only reading is allowed, not DELETE\n"
    assert main(["sql", "--db", pets(root), RUNAWAY, "--timeout-s", "0.1"]) == 1
    assert capsys.readouterr().err.startswith("interrupted (timeout): ")


def test_a_file_may_be_named_by_its_url(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shops = root / "shops" / "shops.duckdb"
    assert main(["sql", "--db", f"duckdb:///{shops}", "SELECT id FROM shop"]) == 0
    told = capsys.readouterr()
    assert "1 row; " in told.out
    assert told.err.startswith("not enforced here: work units (max_vm_steps)")
    assert main(["sql", "--db", f"sqlite:///{pets(root)}", "SELECT 1"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.postgres
def test_a_server_is_read_like_a_file(
    postgres: "PostgresServer", capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.reader_url
    assert main(["sql", "--db", url, "SELECT id, name FROM pet WHERE weight > 4"]) == 0
    told = capsys.readouterr()
    assert [line.split() for line in told.out.splitlines() if "Ada" in line] == [["1", "Ada"]]
    assert "memory of the server" in told.err
    assert main(["sql", "--db", url, "DELETE FROM pet"]) == 1
    assert "refused (write)" in capsys.readouterr().err
    assert main(["sql", "--db", postgres.admin_url, "SELECT 1"]) == 1
    err = capsys.readouterr().err
    assert "a superuser" in err
    assert "READER_ROLE_SQL" in err


def test_lines_are_answered_in_order(root: Path) -> None:
    requests = [
        {"id": 1, "db": "pets", "sql": "SELECT * FROM pet WHERE id > 1"},
        {"id": "b", "db": "shops", "sql": "SELECT * FROM shop"},
        {"id": None, "db": "pets", "sql": "SELECT nosuch"},
        {"id": [4], "db": "../pets/pets", "sql": "SELECT 1"},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "recipes.main", "sql", "--db-root", str(root), "--jsonl"],
        input="".join(json.dumps(one) + "\n" for one in requests),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["id"] for one in answers] == [1, "b", None, [4]]
    assert [one["status"] for one in answers] == ["ok", "ok", "error", "infra_fault"]
    assert answers[0].keys() == {
        "id", "status", "columns", "rows", "truncated", "elapsed_ms", "message"
    }  # fmt: skip
    assert answers[0]["rows"] == [[2, None], [3, "x'00ff'"]]
    assert answers[1]["rows"] == [[7, "inf"]]
    assert answers[2]["message"] == "no such column: nosuch"


def test_an_answer_comes_before_the_next_line(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.main", "sql", "--db", pets(root), "--jsonl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(json.dumps({"id": number, "sql": f"SELECT {number}"}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["rows"] == [[number]]
        process.stdin.close()
    assert process.returncode == 0


def test_ctrl_c_ends_it_while_it_waits_for_a_line(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.main", "sql", "--db", pets(root), "--jsonl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write('{"id": 1, "sql": "SELECT 1"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["rows"] == [[1]]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read().startswith("mtsql: interrupted")


def test_requests_come_from_a_file_too(root: Path, answer: Answer) -> None:
    lines = b'{"id": 1, "sql": "SELECT 1"}\n{"id": 2, "sql": "SELECT \xff"}\n'
    code, out, err = answer(lines, "--db", pets(root))
    assert json.loads(out)["rows"] == [[1]]
    assert (code, err.count(b"\n")) == (2, 1)
    assert b"line 2: not JSON" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--db", "nosuch.sqlite", "SELECT 1"], "--db nosuch.sqlite: no such file"),
        (["--db", "pets", "SELECT 1"], "--db pets: is a folder, not a file"),
        (["--db", "pipe", "SELECT 1"], "--db pipe: is a pipe, not a file"),
        (["--db", "/dev/null", "SELECT 1"], "--db /dev/null: is a device or a socket, not a file"),
        (["--db-root", "pipe", "--jsonl"], "--db-root pipe: not a folder"),
        (["--db-root", "nosuch", "--jsonl"], "--db-root nosuch: no such folder"),
        (["--db", "nosuch://host/db", "SELECT 1"], "--db: not a SQLAlchemy URL"),
        (["--db", "mysql+nosuch://host/db", "SELECT 1"], "--db: not a SQLAlchemy URL"),
        (["--db", "oracle://host/db", "SELECT 1"], "--db: its driver 'oracledb' is not installed"),
        (["SELECT 1"], "name a database: --db FILE_OR_URL"),
        (["--db-root", ".", "SELECT 1"], "give --db FILE_OR_URL and a query"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(root)
    os.mkfifo("pipe")
    assert main(["sql", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "line 3: not JSON"),
        ("[" * 100_000, "line 3: not JSON"),
        ('{"id": 1}', "line 3: give an object"),
        ('{"id": 1, "sql": "SELECT 1", "dbs": "pets"}', "line 3: unknown key 'dbs'; give 'id'"),
        ('{"id": 1, "sql": "SELECT 1", "db": 7}', "line 3: 'db' is 7; write"),
        ('{"id": 1, "sql": "SELECT 1"}', "line 3: name a 'db'"),
        ('{"id": 1, "sql": "SELECT 1", "db": null}', "line 3: name a 'db'"),
    ],
)
def test_a_line_that_is_no_request_is_named(
    root: Path, bad: str, message: str, answer: Answer
) -> None:
    good = '{"id": 1, "sql": "SELECT 1", "db": "pets"}'
    code, out, err = answer(f"{good}\n \n{bad}\n{good}\n".encode(), "--db-root", str(root))
    assert code == 2
    [_what_duckdb_lacks, mistake] = err.decode().splitlines()
    assert message in mistake
    assert json.loads(out)["rows"] == [[1]]


def test_blank_lines_and_null_are_nothing(root: Path, answer: Answer) -> None:
    lines = b'\n{"id": 1, "sql": "SELECT 1", "db": null}\n\n'
    code, out, err = answer(lines, "--db", pets(root))
    assert (code, err) == (0, b"")
    assert json.loads(out)["rows"] == [[1]]


def test_answers_are_utf8_wherever_they_go(root: Path) -> None:
    # More lines than are read ahead: a writer that failed would leave the rest waiting.
    lines = "".join(json.dumps({"id": n, "sql": f"SELECT 'é', {n}"}) + "\n" for n in range(300))
    half = '{"id": "\\ud800", "sql": "SELECT \'\\u00e9\'"}\n'
    done = jsonl(lines + half, "--db", pets(root), encoding="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [one["rows"] for one in answers[:300]] == [[["é", n]] for n in range(300)]
    assert (answers[300]["id"], answers[300]["rows"]) == ("\ud800", [["é"]])


def test_a_writer_that_fails_ends_it(root: Path) -> None:
    """Though the caller holds its end of the pipe open, and more lines wait than are read ahead."""

    def write(line: bytes) -> None:
        raise ZeroDivisionError(line)

    ours, theirs = os.pipe()
    os.write(theirs, b'{"id": 1, "sql": "SELECT 1"}\n' * 600)
    try:
        with pytest.raises(ZeroDivisionError):
            answer_lines({"pets": Path(pets(root))}, "pets", ours, QueryLimits(), write)
    finally:
        os.close(theirs)


def test_a_database_with_changes_beside_it_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(pets(root)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO pet VALUES (4, 'Eve')")
        writer.commit()
        assert main(["sql", "--db", pets(root), "SELECT count(*) FROM pet"]) == 2
    writer.close()  # which brings the changes into the file
    err = capsys.readouterr().err
    assert "pets.sqlite: has changes that are not in the file yet, but in pets.sqlite-wal" in err
    assert err.count("\n") == 1
    assert main(["sql", "--db", pets(root), "SELECT count(*) FROM pet"]) == 0
    assert " 4 " in capsys.readouterr().out


def test_a_path_may_have_any_bytes(root: Path) -> None:
    name = os.fsencode(root) + b"/p\xff?#%41."
    os.rename(pets(root), name + b"sqlite")  # noqa: PTH104 - bytes
    words = [sys.executable, "-m", "recipes.main", "sql", "--db"]
    done = subprocess.run(
        [*words, name + b"sqlite", "SELECT count(*) FROM pet"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b" 3 " in done.stdout
    os.rename(root / "shops" / "shops.duckdb", name + b"duckdb")  # noqa: PTH104 - bytes
    done = subprocess.run([*words, name + b"duckdb", "SELECT 1"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"cannot be opened: DuckDB opens no path that is not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_file_that_another_writes_to_is_named_as_such(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shops = root / "shops" / "shops.duckdb"
    # Another process: in this one, the lock would end with the first look at the file.
    program = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, shops], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert main(["sql", "--db", str(shops), "SELECT 1"]) == 1
        assert (
            "'shops' cannot be opened: it is open for writing elsewhere" in capsys.readouterr().err
        )
        # `play` says the same words; it reads the schema first, so that it ends at the door.
        assert main(["play", "--db", str(shops), "--question", "How many?"]) == 2
        writer.communicate()
    assert (
        "shops.duckdb: cannot be read as a DuckDB database: it is open for writing elsewhere"
        in (capsys.readouterr().err)
    )


@pytest.mark.parametrize("command", [["sql"], ["play", "--question", "How many?"]])
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.txt", b"some notes\n", "it is text, not a database"),
        ("x.db", bytes(8) + b"DUCK" + bytes(4084), "it is a DuckDB database: let its name end in"),
        ("x.sqlite", b"", "it is empty (0 bytes): fetch or copy it again"),
        ("x.duckdb", b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
    ],
)
def test_what_is_no_database_is_named_at_the_door(
    command: list[str],
    name: str,
    content: bytes,
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_bytes(content)
    words = [*command, "--db", str(tmp_path / name)]
    assert main([*words, "SELECT 1"] if command == ["sql"] else words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mtsql: error: --db {tmp_path / name}: cannot be read as a")
    assert reason in line


def test_a_database_of_a_folder_that_cannot_be_opened_costs_no_other(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("hollow", "__MACOSX"):
        (root / name).mkdir()
        (root / name / f"{name}.sqlite").touch()
    words = ["sql", "--db-root", str(root), "--db", pets(root)]
    assert main([*words, "SELECT count(*) FROM pet"]) == 0
    printed = capsys.readouterr()
    assert " 3 " in printed.out
    assert "left out, of --db-root: hollow cannot be read as an SQLite database: it is empty" in (
        printed.err
    )
    assert "MACOSX" not in printed.err
