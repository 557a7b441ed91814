"""The data stage: what the golds of train are worth, and which turns training leaves out."""

import json
from pathlib import Path

import pytest

from actors.rollout.turns import load_run_data, training_specs
from actors.stages.data import gold_note
from helpers.shops import DIALOGUE, SCHEMA, write_shops
from mtsql.config.run import RunConfig
from mtsql.data.dataset import write_dataset
from mtsql.dialogue import Dialogue, Turn
from mtsql.errors import DataError
from mtsql.files import write_record
from mtsql.runs.folder import RunFolder
from mtsql.runs.summary import gold_line, gold_summary

GOLDS = (
    "SELECT name FROM shop",
    "SELECT name FROM shop WHERE city <> 'Oslo'",  # EM cannot read it
    "SELECT wings FROM shop",
    "SELECT name FROM shop WHERE city = 'value'",  # officially '1': the texts differ, not the rows
    "SELECT name, 'value' FROM shop",
)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    turns = tuple(
        Turn(turn_id=f"x-train-0000/{number}", question="?", gold_sql=sql, hardness=None)
        for number, sql in enumerate(GOLDS)
    )
    write_dataset(
        tmp_path / "data",
        name="hand",
        seed=1,
        splits={
            "train": [Dialogue(dialogue_id="x-train-0000", db_id="shops", turns=turns)],
            "test": [DIALOGUE],
        },
        databases={"shops": write_shops(tmp_path / "shops.sqlite")},
        schemas=[SCHEMA],
        skipped=[],
    )
    (tmp_path / "run").mkdir()
    return recipe(tmp_path)


def recipe(folder: Path, **changes: object) -> RunConfig:
    plain = {"name": "hand", "run_dir": folder / "run", "model": {"path": "m"}}
    return RunConfig.model_validate(plain | {"data": {"folder": folder / "data"}} | changes)


def learned(config: RunConfig) -> list[str]:
    """The turns left, after the stage has written its note."""
    dataset = load_run_data(config)
    write_record(RunFolder(config.folder).golds, gold_note(config, dataset))
    return [spec.turn.turn_id[-1] for spec in training_specs(config, dataset)]


def test_turns_that_no_answer_can_win_are_left_out_and_said(
    config: RunConfig, tmp_path: Path
) -> None:
    assert learned(config) == ["0", "1", "3"]
    note = RunFolder(config.folder).read_golds()
    assert note is not None
    assert note.left_out == {"x-train-0000/2": "gold_fails", "x-train-0000/4": "gold_wrong"}
    assert gold_line(gold_summary(note)) == (
        "golds of 5 training turns: 1 do not run, 2 that EM cannot read, 1 wrong against "
        "themselves, 1 empty; 2 turns left out of training (gold_fails 1, gold_wrong 1)"
    )
    assert learned(recipe(tmp_path, reward={"keep_value_word": True})) == ["0", "1", "3", "4"]
    assert learned(recipe(tmp_path, reward={"unreadable_em": "drop"})) == ["0", "3"]


def test_excluded_turns_are_left_out_too(config: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    lines = [{"dialogue_id": "x-train-0000", "turn": 0}, {"dialogue_id": "hand-0", "turn": 1}]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    data = {"folder": tmp_path / "data", "exclude": path}
    assert learned(recipe(tmp_path, data=data)) == ["1", "3"]
    path.write_text('{"dialogue_id": "x-train-0000", "turn": 9}')
    with pytest.raises(DataError, match=r"out\.jsonl, line 1: .* has no turn 9"):
        learned(recipe(tmp_path, data=data))


def test_a_run_without_a_turn_to_learn_from_ends(config: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    ids = (json.dumps({"dialogue_id": "x-train-0000", "turn": turn}) for turn in range(5))
    path.write_text("\n".join(ids))
    data = {"folder": tmp_path / "data", "exclude": path}
    with pytest.raises(DataError, match=r"no turn of train is left to learn from \(excluded 5\)"):
        learned(recipe(tmp_path, data=data))
