"""The command line as its user meets it."""

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.documents import commands
from helpers.places import ROOT
from mtsql.errors import DataError
from recipes.commands import doctor, evaluate, selftaught, shared, train
from recipes.main import main, parse

DEMO = str(ROOT / "recipes" / "demo_cpu.yaml")
HELP = [[], ["data"], ["bench"], *commands()]


@pytest.mark.parametrize("words", HELP, ids=lambda words: " ".join(words) or "mtsql")
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: mtsql", *words]))


def test_help_imports_only_the_standard_library() -> None:
    program = (
        "import sys, recipes.main\n"
        "recipes.main.build_parser().format_help()\n"
        "own = {'mtsql', 'recipes'}\n"
        "roots = {name.partition('.')[0] for name in sys.modules} - own\n"
        "names = sorted(roots & set(sys.argv[1:]))\n"
        "print(names)"
    )
    heavy = [*doctor.CORE, *doctor.STACK, "vllm", "envs", "actors"]
    done = subprocess.run(
        [sys.executable, "-c", program, *heavy],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nothing.yaml"], "nothing.yaml: no such recipe"),
        (["train", DEMO, "rl.num_step=3"], "unknown key 'rl.num_step'; did you mean 'num_steps'?"),
        (["train", DEMO, "environment.dialect=mine"], "environment.dialect"),
        (["eval", DEMO, "name=/"], "key 'name'"),
        (["report", "nothing"], "nothing: no such run folder"),
        (["rescore", "nothing"], "nothing: holds no run"),
        (["data", "stats", "nothing"], "nothing"),
        (["export", "nothing", "--format", "messages", "--out", "out"], "nothing: holds no run"),
        (["data", "prepare", "sparc", "--source", "nothing", "--out", "out"], "nothing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == 1, told.err
    assert lines[0].startswith("mtsql: error: ")
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["trai"], ["doctor", "x"], ["train", DEMO, "--restrat"]])
def test_a_misused_command_exits_with_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "mtsql: error:" in capsys.readouterr().err


def test_overrides_may_stand_before_and_after_options() -> None:
    parsed = parse(["train", "r.yaml", "a=1", "--restart", "b.c=2"])
    assert parsed.overrides == ["a=1", "b.c=2"]
    assert parsed.restart
    assert parse(["train", "r.yaml", "--restart", "a=1"]).overrides == ["a=1"]


def failing(error: BaseException):
    def run(arguments: object) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("two\nlines"), 2, "mtsql: error: two lines"),
        (KeyboardInterrupt(), 130, "mtsql: interrupted\n"),
        (
            OSError(errno.ENOSPC, "no space", "/nowhere/file"),
            2,
            "mtsql: error: /nowhere/file: no space left",
        ),
        (OSError(errno.EACCES, "denied", "/nowhere"), 2, "mtsql: error: /nowhere: denied; choose"),
    ],
)
def test_how_a_command_ends(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "run", failing(error))
    assert main(["doctor"]) == code
    text = capsys.readouterr().err
    assert text.startswith(message)
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", DEMO], "mtsql: interrupted; the same command goes on from what is saved\n"),
        (
            ["selftaught", DEMO, "--restart"],
            "mtsql: interrupted; the command without --restart goes on from what is saved\n",
        ),
        (["eval", DEMO], "mtsql: interrupted\n"),  # it keeps nothing of what it has not finished
    ],
)
def test_only_a_run_goes_on_after_an_interrupt(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in (train, selftaught, evaluate):
        monkeypatch.setattr(command, "run", failing(KeyboardInterrupt()))
    assert main(words) == 130
    assert capsys.readouterr().err == message


def test_a_closed_output_is_one_line() -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m recipes.main doctor >&-'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mtsql: error: standard output is closed")
    assert done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "run", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = (
        "import sys; from recipes import main; from recipes.commands import doctor; "
        "doctor.run = lambda _: print('x' * 1_000_000) or 0; sys.exit(main.main(['doctor']))"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"{sys.executable}" -c "{program}" | head -c 1'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")


def test_a_core_install_is_told_what_training_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared, "STACK", ("torch_that_is_not_there",))
    assert main(["train", DEMO]) == 2
    assert "not installed: torch_that_is_not_there; run `make env`" in capsys.readouterr().err


def test_generate_and_stats_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [f"--num-{split}=3" for split in ("train", "valid", "test", "test-ood")]
    assert main(["data", "generate", "--out", str(tmp_path / "set"), "--seed", "3", *sizes]) == 0
    made = capsys.readouterr().out
    assert main(["data", "stats", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out == made
    assert "seed 3" in made


def test_report_prints_the_table_and_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = {
        "name": "demo",
        "device": "cpu",
        "rl": {"ex": 0.5, "em": 0.25, "qm": 0.5, "im": 0.125, "im_em": 0.1, "splits": {}},
        "turns": 300,
        "seed": 1,
        "wall_s": {"rl": 1.0},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "12.5" in out
    assert (tmp_path / "report.html").is_file()


def test_doctor_names_what_is_missing_and_the_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "CORE", ("package-that-is-not-there",))
    assert doctor.print_findings(tmp_path) == 1
    out = capsys.readouterr().out
    assert "package-that-is-not-there" in out
    assert "Fix: make env" in out


def test_doctor_measures_the_machine(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in doctor.findings(tmp_path)}
    assert found["Python"].found.startswith(f"3.{sys.version_info.minor}.")
    assert float(found["cores"].found) > 0
    assert found["device"].found.split()[0].rstrip(":") in ("cpu", "gpu")
    assert found["duckdb"].problem == ""


def test_an_interrupt_leaves_at_once_with_one_line(tmp_path: Path) -> None:
    big = ["data", "generate", "--out", str(tmp_path / "set"), "--num-train", "2000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.main", *big], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        give_up_s = time.monotonic() + 60
        while not list(tmp_path.glob(".*/**/*.sqlite")):  # in the folder where the set is made
            assert process.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert text.splitlines() == ["mtsql: interrupted"]
    assert list(tmp_path.iterdir()) == []
