"""The self-taught rounds as stages of a run: names, order, items, coverage, table and charts."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from actors.run.command import selftaught
from actors.run.folder import open_run
from actors.stages.context import StageContext
from actors.stages.rounds import drawn_items
from mtsql.config.learning import SelfTaughtConfig
from mtsql.config.run import RunConfig
from mtsql.dialogue import TurnSpec
from mtsql.errors import ConfigError, ModelError
from mtsql.report.page import write_report
from mtsql.report.rounds import COLUMNS
from mtsql.report.scores import summary_tables
from mtsql.runs.folder import RunFolder
from mtsql.runs.rounds import is_needless, rounds_of
from mtsql.runs.stages import policy_order, stage_named, stages_of


def recipe(folder: Path, **changes: Any) -> RunConfig:
    plain: dict[str, Any] = {"name": "hand", "run_dir": folder, "model": {"tiny": {}}}
    plain |= {"environment": {"max_prompt_tokens": 500, "max_response_tokens": 500}}
    plain |= {"selftaught": {"rounds": 2}}
    return RunConfig.model_validate(plain | changes)


def write_selection(
    folder: Path, number: int, solved: dict[str, tuple[int, int]], *, kept: int
) -> None:
    """A round's selection.json.

    Args:
        solved: by hardness, items of the round and those it solves.
    """
    num_items = sum(items for items, _ in solved.values())
    num_solved = sum(count for _, count in solved.values())
    behaviour = {
        "num_trajectories": 20 * num_items,
        "mean_steps": 3.5,
        "mean_interactions": 1.5,
        "mean_tokens": 60.0,
        "share_correcting": 0.25,
    }
    figures = {
        "coverage": {"num_items": num_items, "num_solved": num_solved},
        "coverage_by_hardness": {
            name: {"num_items": items, "num_solved": count}
            for name, (items, count) in solved.items()
        },
        "share_valid": 0.5,
        "funnel": {
            "num_samples": 20 * num_items,
            "num_unscored": 0,
            "num_valid": 10 * num_items,
            "num_preferred": 8 * num_items,
            "num_duplicates": 5,
            "num_kept": kept,
        },
        "scored": behaviour,
        "kept": behaviour | {"num_trajectories": kept, "share_correcting": 0.5},
    }
    path = folder / "rounds" / str(number) / "selection.json"
    path.parent.mkdir(parents=True)
    note = {"config": SelfTaughtConfig().selection.model_dump(mode="json"), "items": []}
    path.write_text(json.dumps(note | {"figures": figures}), encoding="utf-8")


def test_the_rounds_stand_between_warm_start_and_rl(tmp_path: Path) -> None:
    stages = stages_of(recipe(tmp_path))
    assert [stage.name for stage in stages] == [
        "data",
        "warm_start",
        "evaluate_warm_start",
        "round_1_sample",
        "round_1_select",
        "round_1_fine_tune",
        "round_1_evaluate",
        "round_2_sample",
        "round_2_select",
        "round_2_fine_tune",
        "round_2_evaluate",
        "rl",
        "evaluate_rl",
    ]
    assert stage_named("round_2_fine_tune").title == "round 2: fine-tune"
    assert stage_named("evaluate_rl").title == "evaluate RL"
    last = stage_named("round_12_evaluate")
    assert (last.round, last.kind.key, last.policy) == (12, "evaluate", "round_12")
    assert stage_named("evaluate_warm_start").round is None
    assert [stage.policy for stage in stages if stage.policy] == [
        "warm_start",
        "round_1",
        "round_2",
        "rl",
    ]
    # What is kept when it is interrupted, and what needs a node with GPUs.
    assert [stage.name for stage in stages if stage.kind.learns] == [
        "warm_start",
        "round_1_sample",
        "round_1_fine_tune",
        "round_2_sample",
        "round_2_fine_tune",
        "rl",
    ]
    assert [s.name for s in stages if not s.kind.needs_gpu_node] == ["data", "rl"]
    assert sorted(["rl", "round_10", "warm_start", "round_2"], key=policy_order) == [
        "warm_start",
        "round_2",
        "round_10",
        "rl",
    ]


def test_each_round_begins_with_the_model_of_the_one_before(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    context = StageContext(config=recipe(tmp_path), device="cpu", run=run)
    warm_start = tmp_path / "warm_start" / "model"
    assert [context.round_model(0), context.rl_base] == [warm_start, warm_start]
    first = run.model("round_1")
    first.mkdir(parents=True)
    assert first == tmp_path / "rounds" / "1" / "model"
    assert context.round_model(0) == warm_start
    # The second round has made none: RL takes the newest there is.
    assert [context.round_model(1), context.rl_base, run.last_round()] == [first, first, 1]
    run.model("round_3").mkdir(parents=True)
    # Of a third round that the recipe does not ask for, nothing is taken.
    assert context.rl_base == first


def test_a_round_that_finds_nothing_new_ends_the_rounds(tmp_path: Path) -> None:
    write_selection(tmp_path, 1, {"easy": (4, 2)}, kept=3)
    write_selection(tmp_path, 2, {"easy": (2, 0)}, kept=0)
    config = recipe(tmp_path, selftaught={"rounds": 3})
    left = [stage for stage in stages_of(config) if not is_needless(RunFolder(tmp_path), stage)]
    assert [stage.name for stage in left if stage.round] == [
        "round_1_sample",
        "round_1_select",
        "round_1_fine_tune",
        "round_1_evaluate",
        "round_2_sample",
        "round_2_select",
    ]
    assert [stage.name for stage in left[-2:]] == ["rl", "evaluate_rl"]


def test_a_run_may_get_more_rounds_until_rl_has_begun(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    open_run(recipe(folder), "cpu", restart=False)
    note = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    open_run(recipe(folder, selftaught={"rounds": 3}), "cpu", restart=False)
    saved = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert saved["recipe"]["selftaught"]["rounds"] == 3
    note["recipe"]["selftaught"]["rounds"] = 3
    assert saved == note
    other = recipe(folder, selftaught={"rounds": 3, "temperature": 0.5})
    with pytest.raises(ConfigError, match=r"selftaught\.temperature was 0\.7, is 0\.5"):
        open_run(other, "cpu", restart=False)
    (folder / "rl").mkdir()
    with pytest.raises(ConfigError, match=r"selftaught\.rounds was 3, is 4"):
        open_run(recipe(folder, selftaught={"rounds": 4}), "cpu", restart=False)


def test_an_embedder_that_is_none_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    taught = {"selection": {"embedder": tmp_path / "nothing"}}
    with pytest.raises(ModelError, match=r"selftaught\.selection\.embedder .*: no config\.json"):
        selftaught(recipe(tmp_path / "run", selftaught=taught))
    assert not (tmp_path / "run").exists()


def test_the_items_are_drawn_once_by_seed_and_keep_their_order() -> None:
    specs: Any = [TurnSpec.__new__(TurnSpec) for _ in range(50)]
    places = {id(spec): number for number, spec in enumerate(specs)}

    def numbers(max_items: int | None, seed: int) -> list[int]:
        taught = SelfTaughtConfig(max_items=max_items)
        return [places[id(spec)] for spec in drawn_items(specs, taught, seed)]

    first = numbers(10, seed=1)
    assert first == sorted(set(first))
    assert len(first) == 10
    assert numbers(10, seed=1) == first
    assert numbers(10, seed=2) != first
    assert numbers(None, seed=1) == numbers(50, seed=1) == numbers(80, seed=1) == list(range(50))


def test_coverage_counts_all_rounds_so_far(tmp_path: Path) -> None:
    # 10 items; the first round solves 4 of them, the second 3 of the 6 that are left.
    write_selection(tmp_path, 1, {"easy": (6, 4), "hard": (4, 0)}, kept=7)
    write_selection(tmp_path, 2, {"easy": (2, 1), "hard": (4, 2)}, kept=5)
    first, second = rounds_of(RunFolder(tmp_path))
    assert first.coverage.share == 0.4
    assert second.coverage.share == 0.7
    assert {name: one.share for name, one in second.coverage_by_hardness.items()} == {
        "easy": 5 / 6,
        "hard": 0.5,
    }
    assert [first.num_learned, second.num_learned] == [7, 12]
    assert [first.num_sampled_items, second.num_sampled_items] == [10, 6]
    assert [first.scored.share_correcting, first.kept.share_correcting] == [0.25, 0.5]


def test_a_round_without_an_item_of_a_hardness_keeps_what_was_solved(tmp_path: Path) -> None:
    write_selection(tmp_path, 1, {"easy": (2, 2), "extra": (1, 0)}, kept=2)
    write_selection(tmp_path, 2, {"extra": (1, 1)}, kept=1)
    second = rounds_of(RunFolder(tmp_path))[1]
    assert {name: one.num_solved for name, one in second.coverage_by_hardness.items()} == {
        "easy": 2,
        "extra": 1,
    }
    assert second.coverage.share == 1.0


def test_table_and_charts_of_the_rounds(tmp_path: Path) -> None:
    write_selection(tmp_path, 1, {"easy": (6, 4), "hard": (4, 0)}, kept=7)
    scores = {"ex": 0.5, "em": 0.4, "qm": 0.5, "im": 0.25, "im_em": 0.2, "splits": {}}
    taught = scores | {"ex": 0.625, "em": 0.5, "qm": 0.625, "im": 0.3, "mended": 0.125}
    gain = {"ex": 0.125, "ci95": [0.05, 0.2], "turns": 8, "splits": {}}
    rounds = [
        one.model_dump(mode="json") | {"gold": taught | {"gain": gain}}
        for one in rounds_of(RunFolder(tmp_path))
    ]
    run = RunFolder(tmp_path)
    facts = {"name": "hand", "device": "cpu", "turns": 8, "seed": 1, "wall_s": {}}
    text = json.dumps(facts | {"warm_start": scores, "rounds": rounds})
    run.summary.write_text(text, encoding="utf-8")
    summary = run.read_summary()
    assert summary is not None
    page = write_report(run).read_text(encoding="utf-8")
    section = page[page.index("Self-taught rounds") :]
    assert "<td>+12.5 (+5.0 to +20.0)</td>" in page
    for cell in ("40.0", "12.5", "4 of 6 solved", "0 of 4 solved"):
        assert f"<td>{cell}</td>" in section
    for title in (
        "Items solved so far, by difficulty",
        "Trajectories learned",
        "Steps of a trajectory",
        "Trajectories that correct themselves",
        "Held-out turns, 0: warm start",
    ):
        assert title in section
    console = Console(width=80, record=True)
    headline, table = summary_tables(summary)
    console.print(headline)
    console.print(table)
    text = console.export_text()
    assert "round 1, gold" in text
    assert "+12.5 (+5.0 to +20.0)" in text
    for name in COLUMNS:  # whole, on a terminal of the usual width
        assert f" {name} " in text
