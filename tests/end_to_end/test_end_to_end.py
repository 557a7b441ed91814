"""One small real run through the command: interrupted in RL, resumed, and looked at from all sides.

    first call    data, warm start, evaluation, RL until the first step is saved; then Ctrl-C
    second call   resumes in RL with step 2, evaluates, reports

The policy of this size learns nothing; what is asserted is that every part does its work.
"""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.places import ROOT
from helpers.runs import COMMAND, DEMO, LIMIT_S, SMALL_RUN, STAGES, call, environment
from mtsql.config.load import load_config
from mtsql.config.run import RunConfig
from mtsql.curriculum import Curriculum
from mtsql.data.dataset import load_dataset
from mtsql.rewards.score import score
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.store import read_trajectories

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("verl") is None, reason="needs ray, verl and vLLM: `make env`"),
]

TITLES = [
    "data",
    "warm start",
    "evaluate warm start",
    "reinforcement learning",
    "evaluate RL",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """What Ctrl-C did to the first call."""

    code: int
    end_s: float
    stderr: str
    survivors: tuple[str, ...]
    stages: tuple[str, ...]
    """Those that were done."""
    num_processes: int
    """Descendants when the signal came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    folder: Path
    config: RunConfig
    words: tuple[str, ...]
    interrupted: Interrupted
    resumed_stdout: str


def lines_of(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def interrupt_in_rl(words: tuple[str, ...], folder: Path, log: Path) -> Interrupted:
    """Start the command, and press Ctrl-C once the first RL step is on the disk."""
    errors = log.with_suffix(".err")
    with log.open("w") as output, errors.open("w") as error_output:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment(),
            stdout=output,
            stderr=error_output,
            start_new_session=True,
        )
    give_up_s = time.monotonic() + LIMIT_S
    try:
        while not lines_of(folder / "metrics" / "rl.jsonl"):
            assert process.poll() is None, f"ended early: {errors.read_text()}"
            assert time.monotonic() < give_up_s, f"no RL step in {LIMIT_S} s; see {log}"
            time.sleep(0.05)
        descendants = psutil.Process(process.pid).children(recursive=True)
        signal_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        end_s = time.monotonic() - signal_s
    finally:
        if process.poll() is None:
            for left in [*psutil.Process(process.pid).children(recursive=True), process]:
                left.kill()
    survivors = [one for one in descendants if is_alive(one)]
    names = tuple(f"{one.pid} {one.name()}" for one in survivors)
    for one in survivors:
        one.kill()
    return Interrupted(
        code=process.returncode,
        end_s=end_s,
        stderr=errors.read_text(),
        survivors=names,
        stages=tuple(sorted(path.stem for path in (folder / "stages").glob("*.json"))),
        num_processes=len(descendants),
    )


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("end_to_end")
    folder = home / "run"
    overrides = [f"run_dir={folder}", *SMALL_RUN]
    # A copy, so that someone who edits the demo meanwhile does not make it another recipe.
    recipe = home / DEMO.name
    shutil.copyfile(DEMO, recipe)
    words = (*COMMAND, "train", str(recipe), *overrides)
    interrupted = interrupt_in_rl(words, folder, home / "first.log")
    resumed = call(words)
    assert resumed.returncode == 0, f"{resumed.stdout}\n{resumed.stderr}"
    return Run(
        folder=folder,
        config=load_config(recipe, overrides),
        words=words,
        interrupted=interrupted,
        resumed_stdout=resumed.stdout,
    )


def test_ctrl_c_ends_everything_in_time(run: Run) -> None:
    ended = run.interrupted
    assert ended.code == 130
    assert ended.end_s < 15
    assert ended.survivors == ()
    # The stage, Ray's own processes, learner and rollout: it was in the middle of RL.
    assert ended.num_processes > 5
    assert ended.stderr.splitlines() == [
        "mtsql: interrupted; the same command goes on from what is saved"
    ]


def test_the_same_command_resumes(run: Run) -> None:
    assert run.interrupted.stages == ("data", "evaluate_warm_start", "warm_start")
    for title in TITLES[:3]:
        assert f"{title}: done before, kept" in run.resumed_stdout
    for title in TITLES[3:]:
        assert f"{title}: done before" not in run.resumed_stdout
    # The first call played step 1, the second step 2 only.
    assert [line["step"] for line in lines_of(run.folder / "metrics" / "rl.jsonl")] == [1, 2]
    assert "step   2/2" in run.resumed_stdout
    assert "step   1/2" not in run.resumed_stdout


def test_policy_and_learner_agree(run: Run) -> None:
    # Each call measures its first step; in the second the learner comes out of a checkpoint.
    differences = [line["logprob_diff"] for line in lines_of(run.folder / "metrics" / "rl.jsonl")]
    assert len(differences) == 2
    assert all(0 <= difference < 0.02 for difference in differences), differences


def test_the_warm_start_learns_something(run: Run) -> None:
    lines = lines_of(run.folder / "metrics" / "warm_start.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_summary_has_what_it_promises(run: Run) -> None:
    summary = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))
    dataset = load_dataset(run.folder / "data")
    num_turns = sum(
        len(dialogue.turns)
        for name in ("test", "test_unseen_db", "test_ood")
        for dialogue in dataset.split(name)
    )
    for policy in ("warm_start", "rl"):
        for metric in ("ex", "em", "qm", "im"):
            assert 0 <= summary[policy][metric] <= 1
            assert 0 <= summary["predicted"][policy][metric] <= 1
    gain = summary["rl"]["ex"] - summary["warm_start"]["ex"]
    assert summary["gain"]["ex"] == pytest.approx(gain)
    low, high = summary["gain"]["ci95"]
    assert low <= summary["gain"]["ex"] <= high
    assert summary["turns"] == num_turns
    assert summary["seed"] == run.config.seed
    assert sorted(summary["wall_s"]) == sorted(STAGES)
    assert all(seconds > 0 for seconds in summary["wall_s"].values())


def test_the_report_needs_nothing_from_outside(run: Run) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in page
    for attribute in ('src="http', 'href="http', "src='http", "@import"):
        assert attribute not in page
    assert str(run.folder / "report.html") in run.resumed_stdout.replace("\n", "")


def test_every_rl_trajectory_is_stored_whole(run: Run) -> None:
    assert run.config.rl is not None
    for number, line in enumerate(lines_of(run.folder / "metrics" / "rl.jsonl"), start=1):
        rows = read_trajectories(run.folder / "trajectories" / f"rl-step-{number:05d}.parquet")
        # 4 turns in groups of 2
        assert len(rows) == 8 == line["num_trajectories"]
        assert {row.label.rl_step for row in rows} == {number}
        groups = [row.group for row in rows]
        assert sorted(groups.count(group) for group in set(groups)) == [2, 2, 2, 2]
        for row in rows:
            check_tokens(row, run.config)
        scored = [row.reward.total for row in rows if row.reward is not None]
        assert line["reward"] == pytest.approx(sum(scored) / len(scored))


def check_tokens(row: Attempt, config: RunConfig) -> None:
    """Every step ends on a token of the policy, and the policy's tokens are those of the steps."""
    assert len(row.tokens.step_ends) == len(row.trajectory.steps)
    assert len(row.tokens.prompt_ids) <= config.environment.max_prompt_tokens
    assert len(row.tokens.response_ids) <= config.environment.max_response_tokens
    assert set(row.tokens.response_mask) <= {0, 1}
    if row.tokens.response_mask:
        assert row.tokens.response_mask[0] == 1


def test_stored_trajectories_score_as_they_were_rewarded(run: Run) -> None:
    rows = read_trajectories(run.folder / "trajectories" / "*.parquet")
    assert {row.label.policy for row in rows} == {"warm_start", "rl"}
    assert {row.label.history_mode for row in rows} == {"gold", "predicted"}
    for row in rows:
        assert score(row.trajectory, run.config.reward) == row.reward


def test_the_curriculum_goes_on_where_it_was(run: Run) -> None:
    torch = pytest.importorskip("torch")  # late: the fast tests must not pay for it
    assert run.config.rl is not None
    states = []
    for step in (1, 2):
        path = run.folder / "rl" / "checkpoints" / f"global_step_{step}" / "data.pt"
        states.append(find_state(torch.load(path, weights_only=False)))
    facts = lines_of(run.folder / "metrics" / "rl.jsonl")
    scored = [line["num_trajectories"] - line["num_dropped"] for line in facts]
    # A step's attempts count fully, those before it 0.8 times: 8, then 0.8 * 8 + 8 = 14.4.
    assert sum(states[0]["attempts"]) == pytest.approx(scored[0])
    assert sum(states[1]["attempts"]) == pytest.approx(0.8 * scored[0] + scored[1])
    assert [sum(state["draws"]) for state in states] == [4, 8]
    turns = [
        (turn.turn_id, turn.hardness)
        for dialogue in load_dataset(run.folder / "data").split("train")
        for turn in dialogue.turns
    ]
    restored = Curriculum(turns, run.config.rl.curriculum, seed=99)
    restored.load_state_dict(states[1])
    assert restored.state_dict() == states[1]


def find_state(tree: Any) -> dict[str, Any]:
    """The curriculum's part of a data loader's state, however deep torchdata keeps it."""
    found = list(find_states(tree))
    assert found, f"no curriculum in {tree}"
    return found[0]


def find_states(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if {"rng", "queues", "draws"} <= set(tree):
            yield tree
        for value in tree.values():
            yield from find_states(value)


def test_a_finished_run_is_kept_and_answers_at_once(run: Run) -> None:
    before = (run.folder / "rl" / "model" / "config.json").stat().st_mtime_ns
    started_s = time.monotonic()
    done = call(run.words, 60)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started_s < 30
    for title in TITLES:
        assert f"{title}: done before, kept" in done.stdout
    assert (run.folder / "rl" / "model" / "config.json").stat().st_mtime_ns == before


def test_another_recipe_does_not_touch_a_finished_run(run: Run) -> None:
    done = call((*run.words, "rl.num_steps=3"), 60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{run.folder} holds a run of another recipe (rl.num_steps was 2, is 3)" in line
    assert "--restart" in line
    assert (run.folder / "summary.json").is_file()


def test_evaluating_again_gives_the_same_verdicts(run: Run, tmp_path: Path) -> None:
    recipe, *overrides = run.words[len(COMMAND) + 1 :]
    words = ["eval", recipe, *overrides, "--policy", "warm_start", "--history", "gold"]
    done = call((*COMMAND, *words, "--out", str(tmp_path / "again")))
    assert done.returncode == 0, done.stderr
    name = "warm_start-gold.json"
    again = json.loads((tmp_path / "again" / name).read_text(encoding="utf-8"))
    first = json.loads((run.folder / "evaluation" / name).read_text(encoding="utf-8"))
    assert again["turns"] == first["turns"]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        name,
        "warm_start-gold.parquet",
    ]
