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
