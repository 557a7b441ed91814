"""What a user can get wrong: the command says it in one line, exits with 2, leaves nothing."""

import errno
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from actors.run import command as run
from actors.run.stage import StageFailed
from actors.stages.__main__ import explain_os_error
from helpers.places import ROOT
from mtsql.data.embedded import generate
from mtsql.runs.records import Failure
from recipes.main import main

DEMO = str(ROOT / "recipes" / "demo_cpu.yaml")
COMMAND = [sys.executable, "-m", "recipes.main"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    line: str
    stdout: str


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, with the bytes of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refuse(folder: Path, *words: str) -> Refusal:
    """Call the command in a folder; it must refuse in one line and leave the folder as it was.

    In this process, to be quick: only for what is refused before a stage starts.
    """
    before = contents(folder)
    out, error = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(error):
        code = main(words)
    return checked(code, out.getvalue(), error.getvalue(), folder, before)


def refuse_apart(folder: Path, *words: str, command: Sequence[str] = COMMAND) -> Refusal:
    """The same in a process of its own."""
    before = contents(folder)
    done = subprocess.run(
        [*command, *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return checked(done.returncode, done.stdout, done.stderr, folder, before)


def checked(
    code: int, stdout: str, stderr: str, folder: Path, before: dict[str, bytes | None]
) -> Refusal:
    lines = stderr.splitlines()
    assert code == 2, stderr
    assert len(lines) == 1, stderr
    assert lines[0].startswith("mtsql: error: ")
    assert contents(folder) == before
    return Refusal(line=lines[0], stdout=stdout)


def write_source(folder: Path, dialogues: str) -> None:
    """A SParC release with one database, without rows."""
    database = folder / "database" / "shop"
    database.mkdir(parents=True)
    with closing(sqlite3.connect(database / "shop.sqlite")) as connection:
        connection.execute("CREATE TABLE item (name TEXT)")
        connection.commit()
    (folder / "train.json").write_text(dialogues, encoding="utf-8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset."""
    folder = tmp_path_factory.mktemp("prepared") / "set"
    sizes = {f"num_{split}": 3 for split in ("train", "valid", "test", "test_ood")}
    generate(folder, seed=1, **sizes)
    return folder


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["rl.num_stepz=3"], ["demo_cpu.yaml", "'rl.num_stepz'", "did you mean 'num_steps'"]),
        (["environment.dialect=foo"], ["demo_cpu.yaml", "'environment.dialect'", "'actions'"]),
        (["model.tiny=null"], ["demo_cpu.yaml", "'model'", "exactly one", "model.path"]),
        (["data.source=sparc"], ["demo_cpu.yaml", "set data.source_dir"]),
        (
            ["data.source=sparc", "data.source_dir=none"],
            ["data.source_dir none", "name the"],
        ),
        (["data.source=sparc", "data.folder=none"], ["data.folder none", "mtsql data prepare"]),
        (["evaluation.splits=[tset]"], ["evaluation.splits", "'tset'", "test_ood"]),
        (["run_dir=/dev/null/run"], ["/dev/null/run", "choose a path"]),
        (["run_dir=/dev/null"], ["run_dir /dev/null", "is a file", "set name="]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and "=" in value[0] else "",
)
def test_a_mistake_in_a_key(overrides: list[str], parts: list[str], tmp_path: Path) -> None:
    line = refuse(tmp_path, "train", DEMO, *overrides).line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name: [unclosed", "not readable as YAML"),
        (b"name: demo\n\tmodel: 1\n", "not readable as YAML"),
        (b"- name\n", "not readable as YAML"),
        (b"\xff\xfe", "not readable as YAML"),
        (b"", "key 'name'"),
    ],
)
def test_a_recipe_that_is_none(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(text)
    line = refuse(tmp_path, "train", "mine.yaml").line
    assert f"mine.yaml: {message}" in line


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    assert (
        "mine.yaml: no such recipe; `ls recipes/*.yaml`"
        in refuse(tmp_path, "train", "mine.yaml").line
    )


@pytest.mark.parametrize("flags", [[], ["--restart"]])
def test_a_folder_of_someone_else_is_left_alone(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    line = refuse(tmp_path, "train", DEMO, "run_dir=mine", *flags).line
    assert "mine is not empty and holds no run" in line


@pytest.mark.parametrize("note", ["{", "[]", "{}", '{"recipe": {"name": "demo"}}'])
def test_a_broken_note_of_a_run_is_named(note: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(note)
    line = refuse(tmp_path, "train", DEMO, "run_dir=run").line
    assert "run/run.json" in line
    assert "--restart" in line


@pytest.mark.parametrize("restart", [[], ["--restart"]])
def test_a_database_that_is_gone(restart: list[str], prepared: Path, tmp_path: Path) -> None:
    manifest = json.loads((prepared / "dataset.json").read_text(encoding="utf-8"))
    db_id, entry = next(iter(manifest["databases"].items()))
    hidden = tmp_path / "hidden.sqlite"
    (prepared / entry["path"]).rename(hidden)
    try:
        words = ["run_dir=runs/new", f"data.folder={prepared}", *restart]
        line = refuse_apart(tmp_path, "train", DEMO, *words).line
    finally:
        hidden.rename(prepared / entry["path"])
    assert f"dataset.json, key databases.{db_id}: no database file at " in line
    assert "prepare again" in line


def test_an_edited_dialogue_file_is_named_with_its_line(prepared: Path, tmp_path: Path) -> None:
    train = prepared / "train.jsonl"
    whole = train.read_bytes()
    try:
        train.write_bytes(whole.replace(b'"dialogue_id"', b'"dialog_id"', 1))
        line = refuse(tmp_path, "train", DEMO, "run_dir=new", f"data.folder={prepared}").line
    finally:
        train.write_bytes(whole)
    assert f"{train}, line 1: key " in line


@pytest.mark.parametrize(
    ("dialogues", "parts"),
    [
        ("[{", ["train.json"]),
        ("{}", ["train.json"]),
        ('[{"database_id": "shop"}]', ["train.json", "interaction"]),
        (
            '[{"database_id": "shop", "interaction": [{"utterance": "All?"}]}]',
            ["train.json", "query"],
        ),
        (
            '[{"database_id": "gone", "interaction": [{"utterance": "All", "query": "SELECT 1"}]}]',
            ["missing_database", "gone"],
        ),
    ],
)
def test_a_malformed_release(dialogues: str, parts: list[str], tmp_path: Path) -> None:
    write_source(tmp_path / "sparc", dialogues)
    words = ["data", "prepare", "sparc", "--source", "sparc", "--out", "out"]
    line = refuse(tmp_path, *words).line
    for part in parts:
        assert part in line


def test_a_malformed_release_leaves_no_run_behind(tmp_path: Path) -> None:
    write_source(tmp_path / "sparc", "[{")
    words = ["run_dir=runs/new", "data.source=sparc", "data.source_dir=."]
    assert "sparc/train.json" in refuse_apart(tmp_path, "train", DEMO, *words).line


def make_model(folder: Path, *, without: str = "") -> None:
    folder.mkdir()
    files = {
        "config.json": '{"model_type": "qwen3"}',
        "tokenizer.json": "{}",
        "model.safetensors": "",
    }
    for name, text in files.items():
        if name != without:
            (folder / name).write_text(text)


@pytest.mark.parametrize("without", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_path_that_is_no_model(without: str, prepared: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "model", without=without)
    part = without.partition(".")[2]
    words = [DEMO, "run_dir=new", f"data.folder={prepared}"]
    line = refuse(tmp_path, "train", *words, "model.tiny=null", "model.path=model").line
    assert "model.path model: " in line
    assert f".{part}" in line
    line = refuse(tmp_path, "eval", *words, "--model", "model").line
    assert f"--model {tmp_path / 'model'}: " in line


def test_a_name_on_the_hub_is_known_as_one(prepared: Path, tmp_path: Path) -> None:
    words = [DEMO, "run_dir=new", f"data.folder={prepared}"]
    fetch = "`mtsql model fetch Qwen/Qwen3-0.6B` brings it to where this name finds it"
    line = refuse(tmp_path, "eval", *words, "--model", "Qwen/Qwen3-0.6B").line
    assert "--model Qwen/Qwen3-0.6B: no such folder; it looks like a name on the Hugging" in line
    assert line.endswith(fetch)
    line = refuse(tmp_path, "train", *words, "model.tiny=null", "model.path=Qwen/Qwen3-0.6B").line
    assert line.endswith(fetch)
    (tmp_path / "models").mkdir()  # so this is a path, in which a letter is wrong
    assert "model fetch" not in refuse(tmp_path, "eval", *words, "--model", "models/qwen").line


@pytest.mark.parametrize(
    ("files", "model", "parts"),
    [
        (
            {"m.gguf": "GGUF"},
            "m.gguf",
            ["is a GGUF file", "m.gguf --out DIR` makes a folder of it"],
        ),
        ({"m/m.gguf": "GGUF"}, "m", ["holds GGUF files", "model import FILE.gguf --out DIR"]),
        ({"m/model.safetensors": ""}, "m", ["no config.json there, only weights", "model fetch"]),
        (
            {"m/adapter_config.json": '{"base_model_name_or_path": "Qwen/Qwen3-4B"}'},
            "m",
            ["a LoRA adapter of Qwen/Qwen3-4B", "merge_and_unload"],
        ),
        ({"m/qwen/config.json": "{}"}, "m", ["no config.json there, but in ", "m/qwen: give that"]),
        (
            {"m/snapshots/1a2b/config.json": "{}", "m/refs/main": "1a2b"},
            "m",
            ["m/snapshots/1a2b: give that folder"],
        ),
        ({"m/a/config.json": "{}", "m/b/config.json": "{}"}, "m", ["(a, b): give one of them"]),
        ({"m/config.json": "{}"}, "m/config.json", ["is a file; give the folder", "/m"]),
        (
            {
                "m/config.json": '{"model_type": "qwen3"}',
                "m/tokenizer.json": "{}",
                "m/model.safetensors": "version https://git-lfs.github.com/spec/v1",
            },
            "m",
            ["model.safetensors is a pointer of Git LFS", "git lfs pull"],
        ),
    ],
)
def test_what_is_given_in_place_of_a_model(
    files: dict[str, str], model: str, parts: list[str], tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    line = refuse(tmp_path, "eval", DEMO, "--model", model).line
    for part in parts:
        assert part in line


def test_a_configuration_of_something_else_is_no_model(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    for text in ("{", "[]", '{"name": "my-app"}'):
        (tmp_path / "model" / "config.json").write_text(text)
        line = refuse(tmp_path, "eval", DEMO, "--model", "model").line
        assert "config.json names no model_type" in line


@pytest.mark.slow
def test_a_model_that_does_not_load_leaves_nothing_behind(prepared: Path, tmp_path: Path) -> None:
    # It has all files, and every one is empty: found when the tokenizer is tried.
    make_model(tmp_path / "model")
    words = ["run_dir=runs/new", f"data.folder={prepared}", "model.tiny=null", "model.path=model"]
    refused = refuse_apart(tmp_path, "train", DEMO, *words)
    assert "model.path 'model': no Hugging Face model there" in refused.line
    # Before any work.
    assert "data: " not in refused.stdout


@pytest.mark.slow
def test_a_chat_template_that_cannot_serve_is_refused_before_any_work(
    prepared: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="the core install holds no tokenizers")
    from helpers.chat_templates import (  # noqa: PLC0415 - as above
        CHATML,
        CHATML_ROLES,
        tokenizer_with,
    )

    make_model(tmp_path / "model")
    template = CHATML_ROLES.replace("<|im_end|>", "###")
    tokenizer_with(template, CHATML, "<|im_end|>").save_pretrained(tmp_path / "model")
    lack = "its chat template does not end a message with a special token: give a chat model"
    words = [DEMO, f"data.folder={prepared}", "run_dir=runs/new"]
    refused = refuse(tmp_path, "train", *words, "model.tiny=null", "model.path=model")
    assert f"model: {lack}" in refused.line
    assert not refused.stdout
    refused = refuse(tmp_path, "eval", *words, "--model", "model")
    assert lack in refused.line


def test_evaluating_before_training_says_what_to_do(prepared: Path, tmp_path: Path) -> None:
    line = refuse(tmp_path, "eval", DEMO, "run_dir=none", f"data.folder={prepared}").line
    assert "none/rl/model" in line
    assert "`mtsql train`" in line
    make_model(tmp_path / "model")
    words = ["eval", DEMO, "--model", "model"]
    assert "no prepared data; run `mtsql train`" in refuse(tmp_path, *words).line
    words += [f"data.folder={prepared}", "--split", "tset"]
    assert "no split 'tset'" in refuse(tmp_path, *words).line


def test_a_folder_that_is_no_run_gets_no_report(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert "photos: holds no run" in refuse(tmp_path, "report", "photos").line


STAND_IN = """\
#!/bin/sh
# Called as `-m actors.stages STAGE FOLDER`; adds one byte to a database as a stage ends.
if [ "$3" = {stage} ]; then printf x >> {database}; exit {code}; fi
"""


@pytest.mark.parametrize(
    ("words", "stage", "code", "lost"),
    [
        (["train"], "warm_start", 0, "warm start does not count, nor what it saved: add --restart"),
        (["train"], "warm_start", 1, "warm start does not count, nor what it saved: add --restart"),
        (["eval", "--model", "model", "--out", "scores"], "evaluate", 0, "evaluate does not count"),
    ],
)
def test_a_database_that_changes_during_a_stage(
    words: list[str], stage: str, code: int, lost: str, prepared: Path, tmp_path: Path
) -> None:
    make_model(tmp_path / "model")
    database = min((prepared / "databases").rglob("*.sqlite"))
    whole = database.read_bytes()
    stand_in = tmp_path / "stage"
    stand_in.write_text(STAND_IN.format(stage=stage, database=database, code=code))
    stand_in.chmod(0o755)
    # Only the program that runs a stage is another one.
    program = (
        f"import sys; sys.executable = {str(stand_in)!r}; "
        "from recipes.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command, *options = words
    overrides = [f"data.folder={prepared}", "run_dir=new"]
    try:
        line = refuse_apart(
            tmp_path, command, DEMO, *overrides, *options, command=[sys.executable, "-c", program]
        ).line
    finally:
        database.write_bytes(whole)
    assert f"{database} changed since preparation (sha256)" in line
    assert line.endswith(f"; {lost}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_too_small_for_a_run_is_refused_at_the_door(small_disk: Path) -> None:
    line = refuse(small_disk, "train", DEMO, "run_dir=runs/new").line
    assert "runs/new: 0.0 GB free on that disk, a run needs 2" in line
    assert "set run_dir=" in line


def test_a_disk_that_fills_while_a_dataset_is_made(small_disk: Path) -> None:
    line = refuse(small_disk, "data", "generate", "--out", "set").line
    assert "no space left" in line
    assert "make free space" in line


@pytest.mark.slow
def test_a_disk_that_fills_during_a_stage(small_disk: Path) -> None:
    # Only the check at the door is lowered: the stage's process meets the full disk by itself.
    program = (
        "import sys, actors.run.checks; actors.run.checks.MIN_FREE_GB = 0; "
        "from recipes.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program]
    line = refuse_apart(small_disk, "train", DEMO, "run_dir=runs/new", command=command).line
    assert "no space left" in line
    assert "run_dir" in line


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        (errno.ENOSPC, ["no space left", "/data/file", "set run_dir"]),
        (errno.EADDRINUSE, ["no free port", "try again"]),
    ],
)
def test_what_a_stage_says_of_the_machine(number: int, parts: list[str]) -> None:
    known = explain_os_error(OSError(number, os.strerror(number), "/data/file"))
    assert known is not None
    for part in parts:
        assert part in str(known)
    assert explain_os_error(FileNotFoundError(errno.ENOENT, "no such file", "x")) is None


def test_a_stage_that_breaks_by_itself_names_its_log_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        failure = Failure(
            kind="refusal",
            reason="ValueError: boom",
            place="actors/a.py:3 (f)",
            actor="rank 1 of 2",
            resumable=False,
        )
        raise StageFailed(failure, title="warm start", log=Path("a.log"))

    monkeypatch.setattr(run, "train", broken)
    assert main(["train", DEMO]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "mtsql: error: warm start failed (refusal): ValueError: boom (at actors/a.py:3 (f), in "
        "rank 1 of 2); the whole log is a.log; the same command would meet it again: change what "
        "the reason names, in the recipe, data or model"
    )
