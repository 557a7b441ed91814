"""Our verdicts beside those of the official evaluator, where a checkout of it is at hand."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.errors import MachineError
from recipes.bench.evaluator import SETTINGS, measure, prepare
from recipes.bench.official import Official, Pair, require_official
from recipes.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout() -> Path:
    name = os.environ.get("MTSQL_OFFICIAL_EVALUATOR")
    if name is None:
        pytest.skip("set MTSQL_OFFICIAL_EVALUATOR to a checkout of taoyds/test-suite-sql-eval")
    folder = Path(name)
    try:
        require_official(folder, python())
    except MachineError as error:
        pytest.skip(f"{error} (here: MTSQL_OFFICIAL_PYTHON)")
    return folder


def python() -> Path:
    return Path(os.environ.get("MTSQL_OFFICIAL_PYTHON", sys.executable))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded dataset, or the prepared one that MTSQL_OFFICIAL_DATA names."""
    if "MTSQL_OFFICIAL_DATA" in os.environ:
        return Path(os.environ["MTSQL_OFFICIAL_DATA"])
    folder = tmp_path_factory.mktemp("official") / "data"
    generate(folder, seed=2, num_train=1, num_valid=1, num_test=20, num_test_ood=10)
    return folder


def test_every_verdict_is_the_official_one(checkout: Path, data: Path, tmp_path: Path) -> None:
    bench = prepare(load_dataset(data), tmp_path, checkout, python(), core=None)
    _, comparison = asyncio.run(measure(bench, num_runs=1, num_pairs=400))
    assert comparison.disagreements == []
    assert set(comparison.tallies) == {*SETTINGS, "em", "suite"}
    for tally in comparison.tallies.values():
        assert tally.num_matches > tally.num_pairs / 10
        assert tally.num_stopped < tally.num_pairs / 10


def test_a_pair_on_which_the_official_script_hangs_stops_nobody(
    checkout: Path, data: Path, tmp_path: Path
) -> None:
    bench = prepare(load_dataset(data), tmp_path, checkout, python(), core=None)
    db_id = min(path.name for path in bench.official.db_root.iterdir())
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT count(*) FROM c"
    pairs = [
        Pair(db_id=db_id, gold="SELECT 1", pred=pred) for pred in ("SELECT 1", endless, "SELECT 2")
    ]
    official = Official(
        checkout=checkout,
        python=python(),
        db_root=bench.official.db_root,
        tables=bench.official.tables,
        timeout_s=5.0,
    )
    answers = official.judge(pairs, "exec")
    assert [answer.get("ex") for answer in answers] == [True, None, False]
    assert answers[1]["error"] == "hangs: no answer in 5 s"


def test_the_bench_gives_every_figure(
    checkout: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--official", str(checkout), "--official-python", str(python()), "--data", str(data)]
    assert main(["bench", "evaluator", *words, "--runs", "1", "--pairs", "60", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["disagreements"] == []
    for name in ("ex", "em", "suite"):
        assert figures[f"{name}_times"] > 0
        assert figures[f"{name}_cpu_times"] > 0


def test_a_folder_without_the_evaluator_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "evaluator", "--official", str(tmp_path)]) == 2
    assert "no evaluation.py; name a checkout" in capsys.readouterr().err
