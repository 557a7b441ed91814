"""`mtsql prm`: labels of a run's trajectories, a bench of pairs, and mistakes in one line."""

import json
from pathlib import Path

import pytest

from actors.run.folder import note_of
from helpers.runs import COMMAND, call
from helpers.steps import RIGHT, WRONG, answered, proposed, trajectory_of
from mtsql.config.run import RunConfig
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.files import write_record
from mtsql.prm.bench import StepPair
from mtsql.runs.folder import PRMFolder, RunFolder
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.store import write_trajectories
from mtsql.trajectory.tokens import TokenSequence
from recipes.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two right and two wrong trajectories, and the recipe of its reward model."""
    folder = tmp_path_factory.mktemp("prm")
    generate(
        folder / "data",
        seed=3,
        num_train=6,
        num_valid=1,
        num_test=1,
        num_test_unseen_db=1,
        num_test_ood=1,
    )
    recipe = {
        "name": "prm",
        "run_dir": str(folder / "run"),
        "data": {"folder": str(folder / "data")},
        "model": {"tiny": {"max_position": 12000}},
        "sql": {"num_workers": 1},
        "machine": {"device": "cpu"},
    }
    (folder / "without.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    (folder / "recipe.yaml").write_text(json.dumps({**recipe, "prm": {}}), encoding="utf-8")
    own = RunFolder(folder / "run")
    own.make()
    write_record(own.note, note_of(RunConfig.model_validate(recipe), "cpu"))
    [dialogue, *_] = load_dataset(folder / "data").split("train")
    rows = [
        attempt_of(dialogue.turns[0], dialogue.dialogue_id, dialogue.db_id, at) for at in "rrww"
    ]
    write_trajectories(own.trajectories / "rl-step-00001.parquet", rows)
    return folder


def attempt_of(turn, dialogue_id: str, db_id: str, kind: str) -> Attempt:
    judged = RIGHT if kind == "r" else WRONG
    trajectory = trajectory_of(
        proposed(0), answered(0), judgements=(judged,), proposals=[turn.gold_sql], f1s=(1.0,)
    )
    return Attempt(
        trajectory=trajectory,
        tokens=TokenSequence(
            prompt_ids=(1, 2),
            response_ids=(7, 4, 9 if kind == "r" else 8),
            response_mask=(1, 0, 1),
            step_ends=(0, 2),
        ),
        reward=None,
        label=Label(policy="rl", split="train", history_mode="gold"),
        group="g",
        dialogue_id=dialogue_id,
        turn_index=0,
        db_id=db_id,
        hardness=turn.hardness,
        question=turn.question,
        gold_sql=turn.gold_sql,
    )


def test_labels_are_made_once_and_counted(run: Path) -> None:
    # In processes of their own: the command ends all that descends from it.
    words = [*COMMAND, "prm", "label", str(run / "recipe.yaml")]
    first = call(words)
    assert first.returncode == 0, first.stderr
    assert "8 steps of 4 trajectories, 2 right" in first.stdout
    folder = PRMFolder(run / "run" / "prm")
    assert [path.name for path in folder.labels.iterdir()] == ["trajectories-rl-step-00001.parquet"]
    facts = json.loads(folder.label_facts.read_text(encoding="utf-8"))
    assert facts["counted"] == {"rule": 8, "outcome": 0, "rollouts": 0, "groups": 0}
    again = call(words)
    assert again.returncode == 0, again.stderr
    assert "done before, kept" in again.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["label", "without.yaml"], "has no section 'prm'"),
        (["label", "recipe.yaml", "run_dir=nowhere"], "nowhere: holds no run"),
        (["label", "recipe.yaml", "prm.digest=false"], "did you mean 'digests'"),
        (["train", "recipe.yaml", "prm.base=nowhere"], "prm.base nowhere"),
        (["score", "recipe.yaml", "--trajectories", "nowhere"], "nowhere: no such file"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], reason: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    action, recipe, *others = words
    assert main(["prm", action, str(run / recipe), *others]) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert told.count("\n") == 1


def test_the_bench_holds_certified_pairs_and_its_audit_finds_what_is_planted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs.jsonl"
    words = ["prm", "bench", "--data", str(run / "data"), "--out", str(out), "--audit", "5"]
    assert main([*words, "sql.num_workers=1"]) == 0
    printed = capsys.readouterr().out
    pairs = [
        StepPair.model_validate_json(line) for line in out.read_text(encoding="utf-8").splitlines()
    ]
    golds = {
        turn.turn_id: turn.gold_sql
        for dialogue in load_dataset(run / "data").split("train")
        for turn in dialogue.turns
    }
    assert len(pairs) > 5
    assert f"{len(pairs)} pairs of {len(golds)} turns" in printed
    assert "audit: 5 of 5 pairs that were turned round are found" in printed
    assert all(pair.right == golds[pair.turn_id] != pair.wrong for pair in pairs)
    # The same seed writes the same file.
    first = out.read_bytes()
    assert main([*words, "sql.num_workers=1"]) == 0
    assert out.read_bytes() == first
