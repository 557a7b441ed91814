"""Saved trajectories scored again: from real turns, through real files."""

import json
from dataclasses import replace

import pytest

from helpers.messages import ANSWER, EXECUTE, correct, judge, propose
from helpers.shops import COUNT_PARIS, SALES_SECOND, write_sales
from helpers.turns import play_messages
from mtsql.config.reward import RewardConfig
from mtsql.errors import ConfigError, DataError
from mtsql.protocol import ActionName, ToolCall, render_action
from mtsql.rewards.rescore import headline
from mtsql.rewards.rescore import rescore as score_again
from mtsql.rewards.score import score
from mtsql.runs.folder import RunFolder
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Fault, FaultKind
from mtsql.trajectory.store import write_trajectories
from mtsql.trajectory.tokens import TokenSequence
from recipes.main import main

LOOK = render_action(ToolCall(name=ActionName.VERIFY, target="memory"))
COHERENT = render_action(ToolCall(name=ActionName.VERIFY, target="memory", verdict="pass"))
ALL_SHOPS = "SELECT count(*) FROM shop"
TURNS = {
    # V 1, C 1, G 0.8 + 0.2
    "mended": (propose(ALL_SHOPS), EXECUTE, judge("fail"), correct(COUNT_PARIS), LOOK, COHERENT),
    # V -1, G 0.8
    "wrong": (propose(ALL_SHOPS), EXECUTE, judge("pass")),
    "lost": (),
}


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    database = write_sales(tmp_path_factory.mktemp("shops") / "shops.sqlite")
    played = {
        name: play_messages(database, *said, ANSWER).trajectory for name, said in TURNS.items()
    }
    lost = replace(
        played["lost"],
        ending=Ending.INFRA_FAULT,
        fault=Fault(kind=FaultKind.SQL_POOL, message="worker lost"),
        judgements=(),
        matches=(),
    )
    return played | {"lost": lost}


def save(folder, trajectories, config, *, is_scored=True):
    rows = [
        Attempt(
            trajectory=trajectory,
            dialogue_id=SALES_SECOND.dialogue_id,
            turn_index=1,
            db_id="shops",
            hardness="easy",
            question=SALES_SECOND.turn.question,
            gold_sql=SALES_SECOND.turn.gold_sql,
            tokens=TokenSequence(),
            label=Label(
                policy="warm_start" if name == "wrong" else "rl",
                split="train",
                history_mode="gold",
            ),
            group="g",
            reward=score(trajectory, config) if is_scored else None,
        )
        for name, trajectory in trajectories.items()
    ]
    write_trajectories(folder / "trajectories" / "rl-step-00001.parquet", rows)
    recipe = {"name": "hand", "model": {"tiny": {}}, "reward": config.model_dump(mode="json")}
    recipe |= {"rl": None, "environment": {"max_prompt_tokens": 500, "max_response_tokens": 500}}
    note = {"recipe": recipe, "device": "cpu", "prompt": "0"}
    (folder / "run.json").write_text(json.dumps(note))
    return folder


def rescore(folder, overrides=()):
    run = RunFolder(folder)
    return score_again(run.read_note().recipe.reward, run.trajectories, overrides)


RECIPES = (
    RewardConfig(),
    RewardConfig(preset="mtsql_r1"),
    RewardConfig(verify=0.3, coherence=0.7, generation=0.1, attribution="last"),
    RewardConfig(preset="mtsql_r1", verdict_table="reference"),
)


@pytest.mark.parametrize("config", RECIPES)
def test_the_same_rewards_give_the_same_numbers(config, trajectories, tmp_path):
    result = rescore(save(tmp_path, trajectories, config))
    assert result.reward == config
    assert (result.num_trajectories, result.num_saved, result.num_differing) == (3, 2, 0)
    assert result.differing == ()
    assert result.means["rl"].saved == result.means["rl"].total


def test_other_rewards_give_their_own_means(trajectories, tmp_path):
    folder = save(tmp_path, trajectories, RewardConfig())
    result = rescore(folder, ["reward.preset=mtsql_r1"])
    assert result.num_differing == 2
    assert result.differing == ("rl-step-00001.parquet: hand-0/1",) * 2
    mended, wrong = result.means["rl"], result.means["warm_start"]
    # 1 + 1 + 0.1 + 0.1 + 0.8
    assert (mended.saved, mended.total) == (pytest.approx(2.1), pytest.approx(3.0))
    parts = tuple(mended.parts[name] for name in ("ex", "em", "verify", "coherence", "generation"))
    assert parts == pytest.approx((1, 1, 0.1, 0.1, 0.8))
    # -0.1 + 0.8 * 0.8
    assert (wrong.saved, wrong.total) == (pytest.approx(-0.1), pytest.approx(0.54))
    assert wrong.num_scored == 1


def test_a_preset_replaces_and_a_key_changes_the_runs_rewards(trajectories, tmp_path):
    folder = save(tmp_path, trajectories, RewardConfig(verify=0.4, em=0.5))
    assert rescore(folder, ["reward.preset=mtsql_r1"]).reward == RewardConfig(preset="mtsql_r1")
    changed = rescore(folder, ["reward.verify=0.2"]).reward
    assert (changed.verify, changed.em) == (0.2, 0.5)
    both = rescore(folder, ["reward.preset=mtsql_r1", "reward.verify=0.2"]).reward
    assert (both.verify, both.generation) == (0.2, 0.8)


def test_what_the_run_did_not_score_is_scored_and_differs_from_nothing(trajectories, tmp_path):
    result = rescore(save(tmp_path, trajectories, RewardConfig(), is_scored=False))
    assert (result.num_saved, result.num_differing) == (0, 0)
    assert result.means["rl"].saved is None
    assert result.means["rl"].total == pytest.approx(2.1)
    assert "3 trajectories, 0 scored by the run" in headline(result)


def test_the_command_prints_a_table_or_json(trajectories, tmp_path, capsys):
    folder = str(save(tmp_path, trajectories, RewardConfig()))
    assert main(["rescore", folder]) == 0
    out = capsys.readouterr().out
    assert "3 trajectories, 2 scored by the run; 0 rewards differ" in out
    assert main(["rescore", folder, "reward.verify=0.2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reward"]["verify"] == 0.2
    assert (found["num_trajectories"], found["num_saved"], found["num_differing"]) == (3, 2, 2)
    assert found["means"]["rl"]["verify"] == pytest.approx(0.2)
    assert main(["rescore", folder, "reward.verify=0.2"]) == 0
    assert "differs: rl-step-00001.parquet: hand-0/1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reward.generate=1", "unknown key 'reward.generate'; did you mean 'generation'?"),
        ("reward.verify=-1", "key 'reward.verify'"),
        ("reward.preset=r1", "key 'reward.preset'"),
        ("rl.num_steps=1", "write reward.KEY=VALUE"),
        ("reward.verify", "write reward.KEY=VALUE"),
        ("reward.verify=[", "overrides: "),
    ],
)
def test_a_mistaken_override_is_one_line(override, message, trajectories, tmp_path):
    folder = save(tmp_path, trajectories, RewardConfig())
    with pytest.raises(ConfigError) as caught:
        rescore(folder, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no run"):
        rescore(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(DataError, match=r"run\.json: key 'recipe': Field required"):
        rescore(tmp_path)


def test_a_run_that_has_played_nothing_is_named(trajectories, tmp_path):
    folder = save(tmp_path, trajectories, RewardConfig())
    (folder / "trajectories" / "rl-step-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"trajectories: no \*\.parquet there"):
        rescore(folder)
