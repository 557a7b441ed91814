"""The small run on a GPU: the same stages, with verl's and vLLM's own GPU back ends."""

import json
from pathlib import Path

import pytest

from helpers.runs import COMMAND, DEMO, SMALL_RUN, STAGES, call
from mtsql.trajectory.store import read_trajectories

pytestmark = [pytest.mark.gpu, pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="the core install holds no torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU that torch can use")
    folder = tmp_path_factory.mktemp("gpu") / "run"
    overrides = [f"run_dir={folder}", *SMALL_RUN, "machine.device=gpu"]
    done = call((*COMMAND, "train", str(DEMO), *overrides))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return folder


def test_every_stage_ran_on_the_gpu(folder: Path) -> None:
    note = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert note["device"] == "gpu"
    assert sorted(path.stem for path in (folder / "stages").glob("*.json")) == sorted(STAGES)


def test_policy_and_learner_agree_on_the_gpu(folder: Path) -> None:
    lines = (folder / "metrics" / "rl.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    assert [step["step"] for step in steps] == [1, 2]
    assert all(0 <= step["logprob_diff"] < 0.02 for step in steps)
    rows = read_trajectories(folder / "trajectories" / "rl-step-*.parquet")
    assert len(rows) == 2 * 8  # 4 turns in groups of 2, twice
