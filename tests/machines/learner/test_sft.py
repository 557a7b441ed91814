"""A real fine-tuning with adapters, on trees of trajectories: killed, resumed, its checkpoints
played, the best published.

Full parameters, on a row for each trajectory, are learned in the end-to-end test.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from helpers.places import ROOT

pytest.importorskip("torch", reason="the core install holds no torch")

import torch

from actors.learner.sft_dataset import TokenDataset
from actors.learner.sft_rows import stored_rows, validation_dialogues
from actors.rollout.codec import load_tokenizer
from actors.run.machine import process_environment
from mtsql.config.run import RunConfig
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.trajectory.store import read_trajectories

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("verl") is None, reason="needs verl and vLLM: `make env`"),
]

RECIPE = {
    "name": "sft",
    "model": {
        "tiny": {
            "vocab_size": 700,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 2,
            "num_kv_heads": 1,
            "intermediate_size": 64,
            "max_position": 1024,
        }
    },
    "environment": {
        "prompt": "compact",
        "max_steps": 2,
        "max_prompt_tokens": 600,
        "max_response_tokens": 96,
        "max_step_tokens": 32,
    },
    "sql": {"num_workers": 1},
    "warm_start": {
        "trajectories_per_turn": 1,
        "num_steps": 12,
        "tree_tokens": 320,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "save_every": 6,
        "lora_rank": 4,
        "lora_alpha": 8,
        "validation_share": 0.3,
        "num_validation_dialogues": 2,
    },
    "machine": {"device": "cpu", "learner_threads": 1},
}
PROGRAM = """
import json, sys
from pathlib import Path
from mtsql.config.run import RunConfig
from actors.stages.checkpoints import fine_tune
from actors.stages.scripted_rows import prepare_rows
from mtsql.runs.folder import WarmStartFolder
config, path = RunConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2])
folder = WarmStartFolder(path)
if not folder.base.exists():
    prepare_rows(config, config.warm_start, folder)
def tell(*words):
    with (path / "told.jsonl").open("a") as file:
        print(json.dumps(words), file=file)
fine_tune(config, config.warm_start, "cpu", folder.base, folder, path / "metrics.jsonl",
          progress=tell)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    folder: Path
    config: RunConfig


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("sft")
    data = folder / "data"
    generate(data, seed=1, num_train=10, num_valid=2, num_test=1, num_test_ood=1)
    config = RunConfig.model_validate({**RECIPE, "data": {"folder": data}})
    log = folder / "log.txt"

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", PROGRAM, config.model_dump_json(), str(folder)],
                cwd=folder,
                env={**process_environment(config, "cpu"), "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    give_up_s = time.monotonic() + 300
    first = start()
    while not (folder / "checkpoints" / "latest_checkpointed_iteration.txt").exists():
        assert first.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < give_up_s, log.read_text()[-3000:]
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (folder / "model").exists()
    (folder / "told.jsonl").unlink(missing_ok=True)
    second = start()
    try:
        second.wait(timeout=300)
    finally:
        if second.poll() is None:
            os.killpg(second.pid, signal.SIGKILL)
    assert second.returncode == 0, log.read_text()[-3000:]
    return Tuned(folder=folder, config=config)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_killed_training_goes_on_from_its_checkpoint(tuned: Tuned) -> None:
    # What the second call told: the first had saved step 6.
    told = lines_of(tuned.folder / "told.jsonl")
    steps = [(done, total) for _, done, total, unit in told if unit == "steps"]
    assert steps == [(step, 12) for step in range(7, 13)]
    rows = lines_of(tuned.folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < rows[0]["loss"]
    # Warmed up in two steps, then down a cosine.
    rates = [row["lr"] for row in rows]
    assert rates[1] == max(rates) == pytest.approx(1e-2)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_every_checkpoint_is_measured_and_the_best_is_kept(tuned: Tuned) -> None:
    note = json.loads((tuned.folder / "checkpoints.json").read_text(encoding="utf-8"))
    checkpoints = note["checkpoints"]
    assert [one["step"] for one in checkpoints] == [6, 12]
    valid = load_dataset(tuned.folder / "data").split("valid")
    num_turns = sum(len(dialogue.turns) for dialogue in valid)
    for one in checkpoints:
        assert one["num_judged"] == num_turns
        assert one["ex"] == one["num_right"] / num_turns
    ranked = sorted(checkpoints, key=lambda one: (-one["ex"], one["val_loss"], one["step"]))
    assert note["chosen"] == ranked[0]["step"]
    rows = {row["step"]: row for row in lines_of(tuned.folder / "metrics.jsonl")}
    assert [step for step in rows if "val_loss" in rows[step]] == [6, 12]
    for one in checkpoints:
        row = rows[one["step"]]
        assert (row["val_loss"], row["valid_ex"]) == (one["val_loss"], one["ex"])
    # Neither the other export nor the optimizer's state is left.
    assert not (tuned.folder / "checkpoints").exists()


@pytest.mark.filterwarnings("ignore")
def test_the_published_folder_is_a_complete_model_with_the_adapters_in_it(tuned: Tuned) -> None:
    auto = pytest.importorskip("transformers").AutoModelForCausalLM
    model, info = auto.from_pretrained(tuned.folder / "model", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert len(load_tokenizer(tuned.folder / "model")) == len(load_tokenizer(tuned.folder / "base"))
    base = auto.from_pretrained(tuned.folder / "base").state_dict()
    changed = {name for name, weight in model.state_dict().items() if not weight.equal(base[name])}
    # Linear layers all, and nothing else: embeddings (tied to the output) and norms stay.
    assert changed == {name for name in base if "_proj." in name}
    # The loss that verl measured with adapters, on trees, is that of the trajectories one by one.
    total, num_tokens = 0.0, 0
    trajectories = read_trajectories(tuned.folder / "scripted.parquet")
    held_out = validation_dialogues(
        (one.dialogue_id for one in trajectories), 0.3, seed=tuned.config.seed
    )
    rows = stored_rows(one for one in trajectories if one.dialogue_id in held_out)
    assert 1 < len(TokenDataset(str(tuned.folder / "validation.parquet"))) < len(rows)
    for row in rows:
        ids = torch.from_numpy(row.input_ids.astype("int64"))
        learned = torch.from_numpy(row.loss_mask).bool()
        with torch.no_grad():
            log_probs = model(ids[None]).logits[0].log_softmax(-1)
        picked = log_probs[:-1].gather(1, ids[1:, None])[:, 0][learned[1:]]
        total, num_tokens = total - picked.sum().item(), num_tokens + len(picked)
    note = json.loads((tuned.folder / "checkpoints.json").read_text(encoding="utf-8"))
    (chosen,) = (one for one in note["checkpoints"] if one["step"] == note["chosen"])
    assert total / num_tokens == pytest.approx(chosen["val_loss"], rel=1e-5)
