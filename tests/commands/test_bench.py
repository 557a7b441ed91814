"""The benchmarks run and count; what they measure on this machine is not asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.places import ROOT

pytest.importorskip("ray")

from mtsql.config.model import TinyModelConfig
from mtsql.data.embedded import generate
from recipes.main import main

DEMO = str(ROOT / "recipes" / "demo_cpu.yaml")

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def test_the_sql_bench_gives_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sql", "--runs", "1", "--seconds", "0.5", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["num_failed"] == 0
    rates = ["uncached_per_s", "cached_per_s", "runaway_per_s"]
    for name in [*rates, "uncached_p50_ms", "uncached_p99_ms", "runaway_p99_ms", "recovery_ms"]:
        assert figures[name] > 0
    assert figures["uncached_p50_ms"] <= figures["uncached_p99_ms"]
    assert figures["extra_processes"] == 0


def test_the_environment_bench_gives_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "env", "--runs", "1", "--dialogues", "3", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["num_wrong"] == 0
    for load in ("one", "many", "ray"):
        assert 0 < figures[f"{load}_step_ms"] <= figures[f"{load}_turn_ms"]
        assert figures[f"{load}_execute_ms"] > 0
        assert figures[f"{load}_step_p99_ms"] > 0
    assert figures["ray_steps_per_s"] > 0
    assert figures["crowd_mb"] > 0


def test_the_selection_bench_gives_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--items", "40", "--samples", "5", "--runs", "1"]
    assert main(["bench", "selection", *sizes, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["num_samples"] == 200
    assert 0 < figures["num_kept"] <= figures["num_valid"] < 200
    assert 0 < figures["num_solved"] < 40
    for name in ("wall_s", "cpu_s", "peak_mb"):
        assert figures[name] > 0


def test_the_cocte_bench_gives_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "cocte", "--queries", "20", "--runs", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["num_different"] == 0
    assert figures["num_chains"] > 5
    assert figures["mean_views"] >= 2
    assert figures["cost_ratio"] > figures["cost_ratio_kept"] > 0


@pytest.mark.slow
def test_the_sampling_bench_gives_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    create = pytest.importorskip("actors.tiny_model").create
    sizes = {"num_train": 4, "num_valid": 1, "num_test": 1, "num_test_ood": 1}
    generate(tmp_path / "data", seed=1, **sizes)
    tiny = TinyModelConfig(vocab_size=600, hidden_size=64, num_layers=1, num_heads=2)
    create(tmp_path / "model", ["show the names of all shops"], tiny, seed=1)
    words = ["bench", "sampling", DEMO, f"run_dir={tmp_path}", "machine.learner_threads=1"]
    words += ["environment.max_prompt_tokens=800", "model.tiny.max_position=2048"]
    words += ["--model", str(tmp_path / "model"), "--runs", "1", "--json"]

    def call(num_items: int) -> subprocess.CompletedProcess[str]:
        # In a process of its own: the command ends every descendant that it has.
        return subprocess.run(
            [sys.executable, "-m", "recipes.main", *words, "--items", str(num_items)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    refused = call(400)
    assert refused.returncode == 2
    assert "training turns; 1 runs of 400 items take 404" in refused.stderr
    done = call(2)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    # Two items with 20 samples each; an untrained model writes at least one message.
    assert figures["requests"] >= 40
    assert figures["tokens"] >= figures["requests"]
    ratio = figures["ours_s"] / figures["offline_s"]
    assert figures["times_offline"] == pytest.approx(ratio, rel=0.01)
    for name in ("offline_unseeded_s", "ours_start_s", "offline_start_s", "trajectories_per_s"):
        assert figures[name] > 0
