"""Self-taught rounds through the command: killed while sampling, resumed, and one more asked for.

    first call    data, warm start, evaluation, round 1: killed at its first file of samples
    second call   resumes in the round's sampling and ends the round
    third call    --rounds 2: a second round behind the first, which stays as it is

The policy learns a handful of turns by heart, so that its samples are right at times.
"""

import json
import signal
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from helpers.places import ROOT
from helpers.runs import COMMAND, LIMIT_S, SMALL_MODEL, call, environment
from mtsql.config.load import load_config
from mtsql.selftaught.records import read_selection
from mtsql.trajectory.store import read_trajectories

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("verl") is None, reason="needs verl and vLLM: `make env`"),
]

RECIPE = ROOT / "recipes" / "selftaught_demo_cpu.yaml"
OVERRIDES = [
    *SMALL_MODEL,
    "data.num_train_dialogues=20",
    "data.num_valid_dialogues=2",
    "data.num_test_dialogues=1",
    "data.num_test_unseen_db_dialogues=1",
    "data.num_test_ood_dialogues=1",
    "warm_start.scripts={execute: 0.5}",
    "warm_start.trajectories_per_turn=2",
    "warm_start.corrections_per_turn=0",
    "warm_start.num_steps=120",
    "selftaught.rounds=1",
    "selftaught.samples_per_item=4",
    "selftaught.max_items=24",
    "selftaught.items_per_file=6",
    "selftaught.fine_tune.num_ranks=1",
    "selftaught.fine_tune.batch_size=4",
    "selftaught.fine_tune.num_epochs=1",
    "selftaught.fine_tune.num_validation_dialogues=0",
    "evaluation.splits=[test]",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    folder: Path
    first_files: dict[str, int]
    """Files of samples that the killed call left, with the times of their last change."""
    resumed: str
    """What the resumed call printed."""
    extended: str
    before: dict[str, int]
    """Files of the first round when it was done."""


def times(folder: Path) -> dict[str, int]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def printed(words: list[str]) -> str:
    done = call(words)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def kill_in_sampling(words: list[str], samples: Path, log: Path) -> dict[str, int]:
    """End the command without a word once a file of samples is there; the files that it leaves."""
    with log.open("w") as output:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=output, stderr=output)
    give_up_s = time.monotonic() + LIMIT_S
    try:
        while not list(samples.glob("*.parquet")):
            assert process.poll() is None, f"ended early: {log.read_text()}"
            assert time.monotonic() < give_up_s, f"no samples in {LIMIT_S} s; see {log}"
            time.sleep(0.01)
        descendants = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # The stage and its engine notice by themselves.
    _, left = psutil.wait_procs(descendants, timeout=60)
    for one in left:
        one.kill()
    assert left == []
    return times(samples)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("selftaught")
    folder = home / "run"
    words = [*COMMAND, "selftaught", str(RECIPE), f"run_dir={folder}", *OVERRIDES]
    first = folder / "rounds" / "1"
    files = kill_in_sampling(words, first / "samples", home / "killed.log")
    resumed = printed(words)
    before = times(first)
    extended = printed([*words, "--rounds", "2"])
    return Run(folder=folder, first_files=files, resumed=resumed, extended=extended, before=before)


def test_a_killed_round_keeps_its_files_of_samples(run: Run) -> None:
    assert run.first_files
    after = times(run.folder / "rounds" / "1" / "samples")
    assert {name: after[name] for name in run.first_files} == run.first_files
    assert "warm start: done before, kept" in run.resumed
    # 24 items, 6 in each file, 4 samples of each.
    assert len(after) == 4
    rows = read_trajectories(run.folder / "rounds" / "1" / "samples" / "*.parquet")
    assert len(rows) == 96
    assert {row.label.policy for row in rows} == {"round_1"}


def test_only_right_samples_of_solved_items_are_learned(run: Run) -> None:
    selection = read_selection(run.folder / "rounds" / "1" / "selection.json")
    kept = read_trajectories(run.folder / "rounds" / "1" / "selected.parquet")
    assert selection.figures.funnel.num_kept == len(kept) > 0
    assert {row.trajectory.turn_id for row in kept} == selection.solved()
    for row in kept:
        final = row.trajectory.judgements[-1]
        assert (final.ex, final.em) == (True, True)


def test_the_second_round_asks_the_unsolved_items_only(run: Run) -> None:
    assert "round 1: sample: done before, kept" in run.extended
    assert times(run.folder / "rounds" / "1") == run.before
    first = read_selection(run.folder / "rounds" / "1" / "selection.json")
    if not (unsolved := {item.turn_id for item in first.items} - first.solved()):
        pytest.fail("the policy solves every item: make it weaker")
    rows = read_trajectories(run.folder / "rounds" / "2" / "samples" / "*.parquet")
    assert {row.trajectory.turn_id for row in rows} == unsolved


def test_the_round_has_a_model_scores_and_a_place_in_the_report(run: Run) -> None:
    transformers = pytest.importorskip("transformers")
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        run.folder / "rounds" / "1" / "model", output_loading_info=True
    )
    assert model.config.model_type == "qwen3"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    checkpoints = json.loads((run.folder / "rounds" / "1" / "checkpoints.json").read_text("utf-8"))
    assert checkpoints["chosen"] == checkpoints["checkpoints"][-1]["step"]
    summary = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))
    first = summary["rounds"][0]
    assert first["coverage"]["num_items"] == 24
    assert first["gold"]["ex"] is not None
    assert first["gold"]["gain"]["turns"] == summary["turns"]
    assert "self-taught rounds" in run.resumed
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Items solved so far, by difficulty" in page


def test_the_recipe_has_no_rl_and_says_so(run: Run) -> None:
    assert load_config(RECIPE).rl is None
    assert not (run.folder / "rl").exists()
