"""What the tests of whole runs share: a model that trains in seconds, and how users start it."""

import os
import subprocess
import sys
from collections.abc import Sequence

from helpers.places import ROOT

DEMO = ROOT / "recipes" / "demo_cpu.yaml"
COMMAND = [sys.executable, "-m", "recipes.main"]
SMALL_MODEL = [
    "model.tiny.vocab_size=1000",
    "model.tiny.hidden_size=64",
    "model.tiny.num_layers=2",
    "model.tiny.num_heads=2",
    "model.tiny.num_kv_heads=1",
    "model.tiny.intermediate_size=128",
    "warm_start.num_ranks=1",
    "warm_start.batch_size=8",
    "machine.learner_threads=1",
]
SMALL_RUN = [
    *SMALL_MODEL,
    "data.num_train_dialogues=60",
    "data.num_valid_dialogues=3",
    "data.num_test_dialogues=4",
    "data.num_test_unseen_db_dialogues=2",
    "data.num_test_ood_dialogues=3",
    "environment.max_steps=4",
    "environment.max_prompt_tokens=600",
    "environment.max_response_tokens=160",
    "environment.max_step_tokens=48",
    "warm_start.num_steps=20",
    "warm_start.warmup_steps=4",
    "rl.num_steps=2",
    "rl.turns_per_step=4",
    "rl.group_size=2",
    "rl.save_every=1",
    "evaluation.histories=[gold,predicted]",
]
"""The demo with data, a warm start, two RL steps and both evaluations, in a minute or two."""
STAGES = ["data", "warm_start", "evaluate_warm_start", "rl", "evaluate_rl"]
LIMIT_S = 600
"""For one call; each takes a minute or two on two free cores."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def call(words: Sequence[str], limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s,
    )
