"""The command's side of a run, without starting a heavy stage."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.run.checks import check_model
from actors.run.folder import open_run
from actors.stages.__main__ import explain_os_error
from actors.stages.context import load_context
from actors.stages.evaluation import scores_by_split
from actors.stages.work import work_of
from envs.prompts import prompt_version
from helpers.places import ROOT
from mtsql.config.run import RunConfig
from mtsql.errors import ConfigError, DataError, MachineError, ModelError, UserError
from mtsql.evaluation.scores import ScoredTurn
from mtsql.runs.folder import RunFolder, write_evaluation
from mtsql.runs.metrics import Tail
from mtsql.runs.records import Evaluation
from mtsql.runs.stages import stage_named, stages_of
from mtsql.runs.summary import summarise_run, write_summary


def recipe(folder: Path, **changes: Any) -> RunConfig:
    plain: dict[str, Any] = {"name": "hand", "run_dir": folder, "model": {"tiny": {}}}
    plain |= {"environment": {"max_prompt_tokens": 500, "max_response_tokens": 500}}
    return RunConfig.model_validate(plain | changes)


def one_line(error: UserError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_a_run_is_made_and_reopened(tmp_path: Path) -> None:
    config = recipe(tmp_path / "deep" / "run")
    run = open_run(config, "cpu", restart=False)
    folder = run.path
    assert folder == tmp_path / "deep" / "run"
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "stages",
        "logs",
        "metrics",
        "trajectories",
        "evaluation",
    }
    context = load_context(run)
    assert (context.config, context.device, context.run) == (config, "cpu", run)
    (folder / "stages" / "data.json").write_text('{"wall_s": 1}')
    note = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert note["prompt"] == prompt_version(config.environment.prompt)
    assert open_run(config, "cpu", restart=False) == run
    assert (folder / "stages" / "data.json").exists()


def test_another_recipe_is_refused_with_key_old_and_new(tmp_path: Path) -> None:
    open_run(recipe(tmp_path / "run"), "cpu", restart=False)
    kept = tmp_path / "run" / "stages" / "data.json"
    kept.write_text('{"wall_s": 1}')
    other = recipe(tmp_path / "run", rl={"learning_rate": 0.5})
    with pytest.raises(ConfigError) as caught:
        open_run(other, "cpu", restart=False)
    text = one_line(caught.value)
    assert "(rl.learning_rate was 1e-06, is 0.5)" in text
    assert "--restart" in text
    assert kept.exists()
    with pytest.raises(ConfigError, match=r"\(rl was \{.*\}, is None\)"):
        open_run(recipe(tmp_path / "run", rl=None), "cpu", restart=False)

    open_run(other, "cpu", restart=True)
    assert not kept.exists()
    assert load_context(RunFolder(tmp_path / "run")).config == other


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, restart: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is not empty and holds no run") as caught:
        open_run(recipe(tmp_path), "cpu", restart=restart)
    one_line(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_seen_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_500_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MachineError, match=r"1\.5 GB free on that disk, a run needs 2"):
        open_run(recipe(tmp_path / "run"), "cpu", restart=False)
    assert list(tmp_path.iterdir()) == []


def test_the_stages_that_a_recipe_asks_for(tmp_path: Path) -> None:
    def names(config: RunConfig) -> list[str]:
        return [stage.name for stage in stages_of(config)]

    whole = names(recipe(tmp_path))
    assert whole == ["data", "warm_start", "evaluate_warm_start", "rl", "evaluate_rl"]
    assert names(recipe(tmp_path, rl=None)) == whole[:3]
    ready = recipe(tmp_path, model={"path": "a/model"}, warm_start=None)
    assert names(ready) == ["data", *whole[2:]]
    # Each has a function, and its name leads back to it.
    for stage in [*stages_of(recipe(tmp_path, selftaught={"rounds": 12})), stage_named("evaluate")]:
        assert callable(work_of(stage))
        assert stage_named(stage.name) == stage
    for name in ("round_1_nothing", "round_1_rl", "round_0_sample", "sample", ""):
        with pytest.raises(ValueError, match="no stage is called"):
            stage_named(name)


def test_a_tail_gives_whole_new_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    tail = Tail(path)
    assert list(tail.lines()) == []
    with path.open("a") as file:
        file.write('{"step": 2}\n{"step": 3}\n{"st')
    assert list(tail.lines()) == [{"step": 2}, {"step": 3}]
    assert list(tail.lines()) == []
    with path.open("a") as file:
        file.write('ep": 4}\n')
    assert list(tail.lines()) == [{"step": 4}]

    missing = Tail(tmp_path / "later.jsonl")
    assert list(missing.lines()) == []
    (tmp_path / "later.jsonl").write_text('{"step": 1}\n')
    assert list(missing.lines()) == [{"step": 1}]


HANGS_IN_ITS_CLEANUP = """
import subprocess, time
from actors.run.processes import adopt_orphans, kill_as_interrupt
adopt_orphans()
child = subprocess.Popen(["sleep", "300"])
with kill_as_interrupt(within_s=0.5):
    try:
        print(child.pid, flush=True)
        time.sleep(300)
    finally:
        time.sleep(300)
"""


def test_a_cleanup_that_hangs_does_not_keep_a_killed_stage_alive() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGS_IN_ITS_CLEANUP], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.terminate()
        assert process.wait(timeout=60) == 130
        assert not child.is_running()


LEAVES_A_GRANDCHILD = """
import subprocess, sys, time
from actors.run.processes import owned_processes
with owned_processes():
    # The shell ends at once; its sleep, in a session of its own, is left without a parent.
    subprocess.run(["sh", "-c", "setsid sleep 300 >/dev/null & echo $!"], check=True)
    print("ready", flush=True)
    {then}
"""


@contextmanager
def leaver(then: str) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """The program, and the sleep that it leaves behind."""
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES_A_GRANDCHILD.format(then=then)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            sleeper = psutil.Process(int(process.stdout.readline()))
            try:
                assert process.stdout.readline() == "ready\n"
                yield process, sleeper
            finally:
                with suppress(psutil.NoSuchProcess):
                    sleeper.kill()
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
@pytest.mark.parametrize("sign", [None, signal.SIGINT, signal.SIGTERM])
def test_what_descendants_leave_behind_is_ended(sign: signal.Signals | None) -> None:
    with leaver("pass" if sign is None else "time.sleep(60)") as (process, sleeper):
        if sign is not None:
            process.send_signal(sign)
        assert (process.wait(timeout=20) == 0) == (sign is None)
        assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE


def test_a_child_that_ignores_a_polite_end_is_killed() -> None:
    program = (
        "import subprocess, time\nfrom actors.run import processes\nprocesses.GRACE_S = 0.2\n"
        "stubborn = 'trap \"\" TERM; echo up; while :; do sleep 1; done'\n"
        "child = subprocess.Popen(['sh', '-c', stubborn], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "processes.end_processes()\n"
        "print(child.wait(5))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in ("-9", "0"), done.stderr
    assert time.monotonic() - started < 30


def test_a_full_disk_and_a_taken_port_in_words() -> None:
    full = explain_os_error(
        OSError(errno.ENOSPC, "No space left on device", "rl/model.safetensors")
    )
    assert isinstance(full, MachineError)
    assert one_line(full) == (
        "no space left on the disk while writing rl/model.safetensors: "
        "free some, or set run_dir to another disk"
    )
    nameless = explain_os_error(OSError(errno.ENOSPC, "No space left on device"))
    assert "on the disk: free some" in str(nameless)
    assert "no free port" in str(explain_os_error(OSError(errno.EADDRINUSE, "in use")))
    assert explain_os_error(OSError(errno.ENOENT, "no such file")) is None


def test_a_model_folder_is_looked_at_before_anything_starts(tmp_path: Path) -> None:
    def complaint() -> str:
        with pytest.raises(ModelError) as caught:
            check_model(tmp_path, "model.path")
        text = one_line(caught.value)
        assert text.startswith(f"model.path {tmp_path}: ")
        return text

    assert "no config.json there" in complaint()
    (tmp_path / "config.json").write_text("{}")
    assert "names no model_type" in complaint()
    (tmp_path / "config.json").write_text("{")
    assert "names no model_type" in complaint()
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    assert "qwen3 without weights" in complaint()
    (tmp_path / "model.safetensors").touch()
    assert "qwen3 without tokenizer" in complaint()
    (tmp_path / "tokenizer.json").touch()
    check_model(tmp_path, "model.path")


def turn(
    dialogue: str, index: int, ex: bool | None, split: str, *, seen: float | None = None
) -> ScoredTurn:
    return ScoredTurn(
        dialogue_id=dialogue,
        turn_index=index,
        hardness="easy",
        ex=ex,
        em=False,
        status="ok",
        split=split,
        seen=seen,
    )


def evaluation(run: RunFolder, policy: str, history: str, verdicts: list[bool | None]) -> None:
    """Two dialogues of two turns: `a` in test, all seen in training, `b` in test_ood, unseen."""
    places = [("a", 0, "test"), ("a", 1, "test"), ("b", 0, "test_ood"), ("b", 1, "test_ood")]
    turns = tuple(
        turn(dialogue, index, ex, split, seen=float(split == "test"))
        for (dialogue, index, split), ex in zip(places, verdicts, strict=True)
    )
    write_evaluation(
        run.evaluation,
        Evaluation.model_validate(
            {
                "policy": policy,
                "history": history,
                "elapsed_s": 1.0,
                "sampled_tokens": 10,
                "abilities": {},
                "turns": turns,
                **scores_by_split(turns, ("test", "test_ood"), 100),
            }
        ),
    )


def test_the_summary_of_a_hand_made_run(tmp_path: Path) -> None:
    run = open_run(recipe(tmp_path / "run", seed=7), "cpu", restart=False)
    run.stage_end("data").write_text('{"wall_s": 1.5}')
    run.stage_end("rl").write_text('{"wall_s": 60}')
    evaluation(run, "warm_start", "gold", [True, False, False, False])
    part = summarise_run(run)
    assert part.warm_start is not None
    assert part.warm_start.ex == 1 / 4
    assert part.gain is None
    assert part.rl is None
    assert not {"gain", "rl", "rounds", "rl_steps"} & part.model_dump().keys()

    evaluation(run, "rl", "gold", [True, True, True, False])
    evaluation(run, "warm_start", "predicted", [True, False, True, False])
    evaluation(run, "rl", "predicted", [True, False, True, None])
    run.metrics("rl").write_text(
        '{"step": 1, "logprob_diff": 0.002, "num_dropped": 1.0}\n'
        '{"step": 2, "logprob_diff": null, "num_dropped": 0.0}\n'
        '{"step": 2, "logprob_diff": 0.5, "num_dropped": 2.0}\n'
    )
    written = write_summary(run)
    assert run.read_summary() == written
    summary = json.loads(run.summary.read_text(encoding="utf-8"))
    assert (summary["name"], summary["seed"], summary["device"]) == ("hand", 7, "cpu")
    assert summary["wall_s"] == {"data": 1.5, "rl": 60}
    assert summary["turns"] == 4
    # Gold: 1 of 4 before, 3 of 4 after; dialogue a is whole after, b is not.
    assert summary["rl"]["ex"] == summary["rl"]["qm"] == 3 / 4
    assert summary["rl"]["im"] == 1 / 2
    assert summary["rl"]["em"] == 0
    assert summary["rl"]["splits"]["test_ood"]["ex"] == 1 / 2
    assert summary["rl"]["by_seen"] == {
        "none": {"ex": 1 / 2, "turns": 2},
        "below half": {"ex": None, "turns": 0},
        "half or more": {"ex": None, "turns": 0},
        "all": {"ex": 1.0, "turns": 2},
    }
    # Each dialogue gains 1 of its 2 turns, so every bootstrap sample does too.
    gain = {"ex": 2 / 4, "ci95": [0.5, 0.5], "turns": 4}
    assert {key: summary["gain"][key] for key in gain} == gain
    assert summary["gain"]["splits"]["test_ood"]["ex"] == 1 / 2
    # Predicted: the turn without a verdict is in no share; nothing else has changed.
    assert summary["predicted"]["rl"]["ex"] == 2 / 3
    gain = {"ex": 0.0, "ci95": [0.0, 0.0], "turns": 3}
    assert {key: summary["predicted"]["gain"][key] for key in gain} == gain
    # The second step was played twice, once before and once after a restart.
    assert summary["rl_steps"] == 2
    assert summary["logprob_diff"] == 0.002
    assert summary["num_dropped"] == 3


def test_the_recipe_says_how_many_samples_every_interval_has(tmp_path: Path) -> None:
    # Of dialogues "a" (all right) and "b" (all wrong) one sample is right in 0, 1 or 2 of 2: with a
    # single sample, both ends of every interval are that sample's share.
    turns = [turn("a", 0, True, "test"), turn("b", 0, False, "test")]
    scores = scores_by_split(turns, ("test",), 1)
    for one in (scores["all"], scores["splits"]["test"]):
        assert one.ex.question_match.ci95 is not None
        low, high = one.ex.question_match.ci95
        assert low == high


@pytest.mark.parametrize("text", ["{", "[]", '{"wall_s": "x"}'])
def test_a_broken_file_of_a_run_is_named_with_a_fix(tmp_path: Path, text: str) -> None:
    run = open_run(recipe(tmp_path / "run"), "cpu", restart=False)
    run.stage_end("data").write_text(text)
    with pytest.raises(DataError, match=r"stages/data\.json: .*; remove it and run again"):
        summarise_run(run)
    run.note.write_text(text)
    with pytest.raises(DataError, match=r"run\.json: .*"):
        summarise_run(run)
    run.note.unlink()
    with pytest.raises(DataError, match=r"holds no run \(run\.json\)"):
        summarise_run(run)
