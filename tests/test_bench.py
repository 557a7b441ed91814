"""The benchmarks run and count; what they measure on this machine is not asserted."""

import json

import pytest

pytest.importorskip("ray")

from recipes.cli import main

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
