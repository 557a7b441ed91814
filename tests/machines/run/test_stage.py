"""A stage's failure is a record, whoever met it: the stage, a rank, Ray; or nobody, when killed."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors import log
from actors.failures import Failed, death_of, failure_of
from actors.run.folder import open_run
from actors.run.stage import StageFailed, run_stage
from helpers.places import ROOT
from mtsql.config.run import RunConfig
from mtsql.errors import DataError, MachineError, UserError
from mtsql.runs.folder import RunFolder
from mtsql.runs.records import Failure
from mtsql.runs.stages import stage_named

PROGRAM = """
import os, signal, sys
from mtsql.errors import DataError, MachineError
from actors.stages import __main__ as stage
def work(*_):
    print("begins", flush=True)
    {work}
stage.run_here_or_there = work
sys.exit(stage.main())
"""
STAND_IN = '#!/bin/sh\nexec {python} {program} "$3" "$4"\n'
"""Called as `-m actors.stages STAGE FOLDER`; only the work of the stage is another one."""


@pytest.fixture
def fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Any, RunFolder]]:
    """Run a data stage that does the given statement: what the command raises, and the folder."""
    plain = {"name": "hand", "run_dir": tmp_path / "run", "model": {"tiny": {}}}
    plain |= {"environment": {"max_prompt_tokens": 500, "max_response_tokens": 500}}
    config = RunConfig.model_validate(plain)
    program, stand_in = tmp_path / "stage.py", tmp_path / "stand_in"
    stand_in.write_text(STAND_IN.format(python=sys.executable, program=program))
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(work: str) -> tuple[Any, RunFolder]:
        program.write_text(PROGRAM.format(work=work))
        folder = open_run(config, "cpu", restart=False)
        with pytest.raises((StageFailed, UserError)) as caught:
            run_stage(stage_named("data"), config, "cpu", folder, Console(quiet=True))
        assert "\n" not in str(caught.value)
        return caught.value, folder

    return run


def test_a_stage_that_raises_says_why_where_and_that_resuming_does_not_help(fail) -> None:
    error, run = fail('raise ValueError("optim.lr is\\nnegative")')
    assert isinstance(error, StageFailed)
    failure = run.read_failure("data")
    assert failure == error.failure
    assert (failure.kind, failure.resumable) == ("refusal", False)
    assert failure.reason == "ValueError: optim.lr is negative"
    assert failure.place.startswith("actors/stages/__main__.py:")
    text = str(error)
    assert "data failed (refusal): ValueError: optim.lr is negative (at actors/stages/" in text
    assert f"the whole log is {run.stage_log('data')}" in text
    assert text.endswith("would meet it again: change what the reason names, in the recipe, data "
                         "or model")  # fmt: skip
    # The whole traceback stands in the log only.
    assert "Traceback" in run.stage_log("data").read_text()
    # The record goes when the stage starts again.
    error, _ = fail('raise ConnectionError("gone")')
    assert str(error).startswith("data failed (fault): ConnectionError: gone (at ")
    assert str(error).endswith("; the same command resumes")


def test_a_killed_stage_names_the_signal_and_the_last_line_of_its_log(fail) -> None:
    error, run = fail("os.kill(os.getpid(), signal.SIGKILL)")
    failure = run.read_failure("data")
    assert (failure.kind, failure.resumable, failure.place) == ("killed", True, None)
    assert failure.reason.startswith("ended by SIGKILL, as the kernel does when memory runs out")
    assert failure.reason.endswith("; the last line of its log: begins")
    assert str(error).endswith("; the same command resumes")
    error, _ = fail("os.kill(os.getpid(), signal.SIGSEGV)")
    assert "data failed (killed): ended by SIGSEGV; the last line" in str(error)
    error, _ = fail("os._exit(7)")
    assert "data failed (fault): ended with exit code 7 and no word; the last line" in str(error)


def test_a_users_mistake_and_the_machines_stay_what_they_are(fail) -> None:
    error, run = fail('raise DataError("train.jsonl, line 3: key; prepare again")')
    assert type(error) is UserError
    assert str(error) == "train.jsonl, line 3: key; prepare again"
    assert run.read_failure("data").kind == "user"
    error, run = fail('raise OSError(28, "No space left on device", "a.bin")')
    assert type(error) is MachineError
    assert "no space left on the disk while writing a.bin" in str(error)
    assert (run.read_failure("data").kind, run.read_failure("data").resumable) == ("machine", True)


def test_known_words_of_a_library_say_what_to_change() -> None:
    bucket = "Weight embed is too large. Please increase rollout.update_weights_bucket_megabytes(64"
    failure = failure_of(AssertionError(bucket))
    assert (failure.kind, failure.resumable) == ("refusal", False)
    assert failure.change is not None
    assert "smaller vocabulary" in failure.change
    # A RuntimeError may be helped by a new start, but not this one.
    memory = failure_of(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert (memory.kind, memory.resumable) == ("fault", False)
    assert "rl.max_batch_tokens" in (memory.change or "")
    assert failure_of(RuntimeError("NCCL error")).resumable
    assert "smaller vocabulary" in str(StageFailed(failure, title="rl", log=Path("rl.log")))


def test_a_template_or_weights_that_will_not_do_are_met_again() -> None:
    jinja2 = pytest.importorskip("jinja2", reason="the core install holds no templates")
    failure = failure_of(jinja2.TemplateError("Conversation roles must alternate"))
    assert (failure.kind, failure.resumable) == ("refusal", False)
    assert failure.reason == "TemplateError: Conversation roles must alternate"
    safetensors = pytest.importorskip("safetensors", reason="the core install holds no weights")
    assert not failure_of(safetensors.SafetensorError("header too large")).resumable


def test_a_recorded_failure_passes_on_as_it_is() -> None:
    rank = death_of(-signal.SIGBUS, actor="rank 1 of 2")
    assert rank == Failure(
        kind="killed", reason="ended by SIGBUS", actor="rank 1 of 2", resumable=True
    )
    assert failure_of(Failed(rank)) == rank
    assert str(Failed(rank)) == "ended by SIGBUS"


def test_what_ray_wraps_is_unwrapped() -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="the core install holds no ray")
    path = ROOT / "actors" / "learner" / "trainer.py"
    inner = exceptions.RayTaskError(
        "f", f'ray::WorkerDict.fit() (pid=2, ip=x)\n  File "{path}", line 7, in step\n'
        "ValueError: low", ValueError("low"), "ray::WorkerDict", 2, "x",
    )  # fmt: skip
    outer = exceptions.RayTaskError(
        "g", f"ray::TaskRunner.run() (pid=1, ip=x)\n{inner}", inner, "ray::TaskRunner", 1, "x"
    )
    for error in (outer, outer.as_instanceof_cause()):
        failure = failure_of(error)
        assert (failure.kind, failure.reason) == ("refusal", "ValueError: low")
        assert failure.place == "actors/learner/trainer.py:7 (step)"
        assert failure.actor == "Ray actor WorkerDict.fit"
    mistake = exceptions.RayTaskError("f", "ray::Pool.name() ...", DataError("a: b"), "p", 1, "x")
    assert (failure_of(mistake).kind, failure_of(mistake).reason) == ("user", "a: b")


def test_what_a_stage_logs_and_what_it_prints_are_two_files(fail, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with log.written_to(run.log, "info"):
        fail('raise ValueError("low")')
    lines = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    said = [(line["message"], line["stage"], line.get("kind")) for line in lines]
    assert said == [
        ("stage starts", None, None),
        ("stage process failed", "data", "refusal"),
        ("stage failed", None, "refusal"),
    ]
    assert lines[1]["exception"].endswith("ValueError: low")
    assert run.stage_log("data").read_text().startswith("begins")
    assert "begins" not in run.log.read_text()
