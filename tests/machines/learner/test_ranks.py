"""The trainer's ranks: the one that fails first says why, also when it is killed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.learner.job import SftJob
from actors.learner.sft_rows import SFTRow, write_rows
from actors.run.machine import process_environment
from helpers.places import ROOT
from mtsql.config.learning import FineTuneConfig
from mtsql.config.run import RunConfig
from mtsql.runs.folder import FineTuneFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("verl") is None, reason="needs verl and vLLM: `make env`"),
]

PROGRAM = """
import sys
from pathlib import Path
from actors.failures import Failed
from actors.learner import sft
from actors.learner.job import SftJob
try:
    sft.train(SftJob.model_validate_json(Path(sys.argv[1]).read_text()))
except Failed as error:
    Path(sys.argv[2]).write_text(error.failure.model_dump_json())
"""
KILLS_RANK_1 = """
import os, signal
if os.environ.get("RANK") == "1":
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""As sitecustomize.py it runs in every Python process before anything else."""


def failure_of_ranks(folder: Path, num_ranks: int, *, places: list[Path]) -> dict[str, Any]:
    """What a training from a folder without a model leaves."""
    plain = {"name": "hand", "model": {"path": str(folder)}, "warm_start": None}
    plain |= {"machine": {"device": "cpu", "gpus_per_node": num_ranks}, "rl": None}
    config = RunConfig.model_validate(plain)
    fine_tune = FineTuneConfig(num_steps=1, validation_share=0, num_ranks=num_ranks)
    here = FineTuneFolder(folder)
    ids, mask = np.arange(4, dtype=np.int32), np.array([0, 1, 1, 1], dtype=np.int8)
    rows = [
        SFTRow(dialogue_id=str(n), db_id="shop", input_ids=ids, loss_mask=mask) for n in range(4)
    ]
    write_rows(rows, here, fine_tune, seed=1)
    job = SftJob(
        base=folder / "nothing",
        rows=here.rows,
        validation=None,
        out=here.checkpoints,
        device="cpu",
        fine_tune=fine_tune.model_copy(update={"batch_size": 4}),
        recipe=config,
    )
    note, result = folder / "given.json", folder / "failure.json"
    note.write_text(job.model_dump_json())
    path = os.pathsep.join(str(place) for place in (*places, ROOT))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(note), str(result)],
        env=process_environment(config, "cpu") | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert result.is_file(), done.stderr[-3000:]
    return json.loads(result.read_text())


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_rank_that_fails_says_why_and_which_it_is(tmp_path: Path, num_ranks: int) -> None:
    failure = failure_of_ranks(tmp_path, num_ranks, places=[])
    assert failure["actor"] in [f"rank {rank} of {num_ranks}" for rank in range(num_ranks)]
    assert failure["place"].startswith("actors/learner/")
    assert str(tmp_path / "nothing") in failure["reason"]


def test_a_rank_that_is_killed_has_a_record_too(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(KILLS_RANK_1)
    failure = failure_of_ranks(tmp_path, 2, places=[tmp_path / "first"])
    assert (failure["kind"], failure["actor"]) == ("killed", "rank 1 of 2")
    assert failure["reason"].startswith("ended by SIGKILL")
    assert failure["resumable"]
