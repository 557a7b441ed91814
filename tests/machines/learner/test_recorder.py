"""What a step's trajectories add up to, with numbers to redo by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from mtsql.dialogue import TurnSpec

pytest.importorskip("ray", reason="the core install holds no Ray")

from actors.learner.recorder import SPEC, step_facts, token_advantages
from helpers.messages import ANSWER, EXECUTE, propose
from helpers.shops import ALL, FIRST, IN_PARIS, SECOND
from mtsql.chains.chain import Query
from mtsql.config.reward import RewardConfig
from mtsql.evaluation.records import Judgement
from mtsql.protocol import parse_action
from mtsql.rewards.advantages import MODES
from mtsql.rewards.score import score
from mtsql.sql.records import ResultClass
from mtsql.trajectory.attempt import Attempt, Label, attempt_at
from mtsql.trajectory.records import Ending, Fault, FaultKind, Step, Trajectory
from mtsql.trajectory.store import read_trajectories, write_trajectories
from mtsql.trajectory.tokens import TokenSequence


def step(message: str, *, proposal: int | None, result_class: ResultClass | None = None) -> Step:
    return Step(
        message=message,
        action=parse_action(message),
        observation=None,
        proposal=proposal,
        result_class=result_class,
    )


def played(
    spec: TurnSpec,
    *steps: Step,
    ending: Ending = Ending.ANSWERED,
    fault: Fault | None = None,
    proposals: tuple[str, ...] = (),
    verdicts: tuple[tuple[bool, bool], ...] = (),
    mask: tuple[int, ...],
) -> Attempt:
    trajectory = Trajectory(
        turn_id=spec.turn.turn_id,
        steps=steps,
        ending=ending,
        fault=fault,
        proposals=tuple(Query(sql) for sql in proposals),
        judgements=tuple(Judgement(ex=ex, em=em, status="ok", message="") for ex, em in verdicts),
    )
    tokens = TokenSequence(
        prompt_ids=(1, 2),
        response_ids=tuple(range(len(mask))),
        response_mask=mask,
        logprobs=tuple(-0.5 * one for one in mask),
        step_ends=(len(mask) - 1,) if mask else (),
    )
    return attempt_at(
        spec,
        trajectory=trajectory,
        tokens=tokens,
        reward=score(trajectory, RewardConfig()),
        label=Label(policy="rl", split="train", history_mode="gold", rl_step=4),
        group="g",
    )


RIGHT = played(
    FIRST,
    step(propose(IN_PARIS), proposal=0),
    step(EXECUTE, proposal=0, result_class=ResultClass.OK),
    step(ANSWER, proposal=0),
    proposals=(IN_PARIS,),
    verdicts=((True, True),),
    mask=(1, 1, 0, 1, 0, 1),
)
WRONG = played(
    FIRST,
    step(propose(ALL), proposal=0),
    step(ANSWER, proposal=0),
    proposals=(ALL,),
    verdicts=((False, False),),
    mask=(1, 0, 1, 1),
)
SAME_ROWS = played(
    SECOND,
    step(propose("SELECT 2"), proposal=0),
    step(ANSWER, proposal=0),
    proposals=("SELECT 2",),
    verdicts=((True, False),),
    mask=(1, 1),
)
SILENT = played(
    SECOND,
    step("hm", proposal=None),
    step("hm", proposal=None),
    ending=Ending.MALFORMED,
    mask=(1, 0, 0, 1),
)
FAULT = played(
    SECOND,
    ending=Ending.INFRA_FAULT,
    fault=Fault(kind=FaultKind.SQL_POOL, message="worker lost"),
    mask=(),
)


def test_the_facts_of_five_trajectories() -> None:
    facts = step_facts([RIGHT, WRONG, SAME_ROWS, SILENT, FAULT])
    metrics = facts.metrics
    assert metrics["num_trajectories"] == 5
    assert metrics["num_dropped"] == 1
    # The other four: EX holds in two, EM in one; rewards 2, 0, 1, 0.
    assert metrics["ex"] == 2 / 4
    assert metrics["em"] == 1 / 4
    assert metrics["reward"] == (2 + 0 + 1 + 0) / 4
    assert metrics["response_tokens"] == (6 + 4 + 2 + 4) / 4
    assert metrics["sampled_tokens"] == (4 + 3 + 2 + 2) / 4
    assert metrics["ability/executed"] == 1 / 4
    assert metrics["ability/blind_answer"] == 2 / 4
    assert metrics["ability/corrected"] == 0
    assert not any("ending" in name for name in metrics)
    assert facts.endings == {
        "answered": 3,
        "max_steps": 0,
        "max_tokens": 0,
        "malformed": 1,
        "infra_fault": 1,
    }
    assert facts.faults == {
        "model_server": 0,
        "environment_timeout": 0,
        "sql_pool": 1,
        "judging": 0,
        "scorer": 0,
    }
    assert facts.successes == (
        ("hand-0/0", 1.0),
        ("hand-0/0", 0.0),
        ("hand-0/1", 1.0),
        ("hand-0/1", 0.0),
    )


@pytest.mark.parametrize("rows", [[], [FAULT]], ids=["none", "a fault"])
def test_a_step_without_a_verdict_has_facts_too(rows: list[Attempt]) -> None:
    facts = step_facts(rows)
    assert facts.successes == ()
    assert facts.metrics["num_dropped"] == len(rows)
    assert (facts.metrics["reward"], facts.metrics["ex"]) == (0.0, 0.0)


def test_a_stored_row_holds_everything(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "a.parquet", [RIGHT])
    (row,) = read_trajectories(tmp_path / "a.parquet")
    assert row.trajectory == RIGHT.trajectory
    assert (row.dialogue_id, row.turn_index, row.db_id) == ("hand-0", 0, "shops")
    assert (row.hardness, row.gold_sql) == ("easy", IN_PARIS)
    assert row.question == "show all shops in Paris"
    assert row.label == Label(policy="rl", split="train", history_mode="gold", rl_step=4)
    assert row.group == "g"
    assert row.reward is not None
    assert row.reward.step_rewards == (0.0, 0.0, 2.0)
    assert (row.tokens.prompt_ids, row.tokens.response_ids) == ((1, 2), (0, 1, 2, 3, 4, 5))
    assert row.tokens.response_mask == (1, 1, 0, 1, 0, 1)
    assert row.tokens.step_ends == (5,)
    assert row.tokens.logprobs == (-0.5, -0.5, 0.0, -0.5, 0.0, -0.5)


def test_a_fault_is_stored_without_a_reward(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "a.parquet", [FAULT])
    (row,) = read_trajectories(tmp_path / "a.parquet")
    assert row.reward is None
    assert row.tokens.response_ids == ()


def row(ex: bool, *, mask: tuple[int, ...], ends: tuple[int, ...], group: str) -> Attempt:
    steps = (step(propose(ALL), proposal=0), step(ANSWER, proposal=0))
    one = played(FIRST, *steps, proposals=(ALL,), verdicts=((ex, ex),), mask=mask)
    return replace(one, group=group, tokens=replace(one.tokens, step_ends=ends))


ROWS = {
    "a_0_0": row(True, mask=(1, 1, 0, 1), ends=(1, 3), group="a"),
    "b_0_0": row(True, mask=(1, 0, 1), ends=(0, 2), group="b"),
    "a_1_0": row(False, mask=(1, 0, 0, 1), ends=(0, 3), group="a"),
    "a_2_0": row(True, mask=(1, 0, 1), ends=(0, 2), group="a"),
    "a_3_0": FAULT,
}


@pytest.mark.parametrize("mode", sorted({*MODES} - {"anchors"}))
def test_tokens_of_a_step_share_its_advantage_and_groups_do_not_mix(mode: str) -> None:
    # Of the group a the trainer has two: outcomes 2 and 0, so 1 and -1; b stands alone.
    found = token_advantages(ROWS, ["a_1_0", "b_0_0", "a_0_0"], mode)
    expected = [[-1, 0, 0, -1], [0, 0, 0], [1, 1, 0, 1]]
    assert found == [pytest.approx(row, abs=1e-5) for row in expected]


def test_steps_from_the_same_place_are_known_by_what_was_played() -> None:
    # Both propose the same and see the same, so their second steps are compared once more.
    found = token_advantages(ROWS, ["a_1_0", "b_0_0", "a_0_0"], "anchors")
    expected = [[-1, 0, 0, -2], [0, 0, 0], [1, 1, 0, 2]]
    assert found == [pytest.approx(row, abs=1e-5) for row in expected]


def test_what_the_trainer_has_no_row_for_counts_in_no_group() -> None:
    # outcomes 2 0 2: mean 4/3, spread 0.9428, so 0.7071 and -1.4142
    found = token_advantages(ROWS, ["a_0_0", "a_1_0", "a_2_0"], "grpo")
    assert found[0] == pytest.approx([0.7071, 0.7071, 0, 0.7071], abs=1e-4)
    assert found[1] == pytest.approx([-1.4142, 0, 0, -1.4142], abs=1e-4)
    assert token_advantages(ROWS, ["a_0_0", "a_2_0"], "grpo") == [[0.0] * 4, [0.0] * 3]
    assert token_advantages(ROWS, [], "grpo") == []


def test_a_turn_survives_its_way_through_a_column() -> None:
    assert SPEC.validate_json(SPEC.dump_json(SECOND)) == SECOND
