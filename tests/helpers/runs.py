"""What the tests of whole runs share: a model that trains in seconds, and how users start it."""

import os
import subprocess
import sys
from collections.abc import Sequence

from helpers.places import ROOT

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
