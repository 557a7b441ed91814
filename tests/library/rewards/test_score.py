"""What trajectories are worth, in numbers that can be redone by hand."""

from dataclasses import replace

import pytest

from helpers.steps import (
    LOOSE,
    RIGHT,
    WRONG,
    answered,
    corrected,
    executed,
    looked,
    proposed,
    scored,
    trajectory_of,
    verified,
)
from mtsql.config.reward import RewardConfig
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ParseFailure
from mtsql.rewards.score import outcome_reward, parts_of, score
from mtsql.rewards.verdicts import verdict_rewards
from mtsql.trajectory.records import Ending, Fault, FaultKind, Step
from mtsql.trajectory.reward import Reward

CONFIG = RewardConfig(ex=1.0, em=1.0, verify=0.1)
LOST = Fault(kind=FaultKind.SQL_POOL, message="worker lost")


def steps_of(*steps, judgements=(RIGHT,), config=CONFIG):
    reward = score(trajectory_of(*steps, judgements=judgements), config)
    assert reward is not None
    return list(reward.step_rewards)


def test_the_outcome_lies_on_the_last_step_and_a_right_verdict_on_its_own():
    reward = score(trajectory_of(proposed(), executed(), verified("pass"), answered()), CONFIG)
    assert reward is not None
    assert reward.outcome == 2.0
    assert reward.step_rewards == (0.0, 0.0, 0.1, 2.0)
    assert reward.total == pytest.approx(2.1)


def test_ex_and_em_are_weighed_apart():
    config = RewardConfig(ex=0.7, em=0.3)
    judgements = (RIGHT, LOOSE, WRONG, Judgement(ex=False, em=True, status="ok"))
    assert [
        outcome_reward(trajectory_of(proposed(), answered(), judgements=(one,)), config)
        for one in judgements
    ] == pytest.approx([1.0, 0.7, 0.0, 0.3])


def test_the_last_proposal_is_scored_and_a_wrong_first_try_costs_nothing():
    steps = (proposed(0), executed(0), corrected(1), answered(1))
    assert steps_of(*steps, judgements=(WRONG, RIGHT)) == [0.0, 0.0, 0.0, 2.0]
    assert steps_of(*steps, judgements=(RIGHT, WRONG)) == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("verdict", "judgement", "reward"),
    [("pass", RIGHT, 0.1), ("fail", WRONG, 0.1), ("pass", WRONG, -0.1), ("fail", RIGHT, -0.1)],
)
def test_a_verdict_is_right_if_it_says_what_gold_says(verdict, judgement, reward):
    trajectory = trajectory_of(
        proposed(), executed(), verified(verdict), answered(), judgements=(judgement,)
    )
    assert verdict_rewards(trajectory, CONFIG) == (None, None, reward, None)


def test_a_missing_verdict_is_none_and_never_pass():
    assert steps_of(proposed(), executed(), answered()) == [0.0, 0.0, 2.0]
    assert steps_of(proposed(), executed(), verified(None), answered()) == [0.0, 0.0, 0.0, 2.0]


def test_repeating_a_verdict_or_taking_it_back_pays_nothing():
    repeated = steps_of(proposed(), executed(), verified("pass"), verified("pass"), answered())
    assert repeated == [0.0, 0.0, 0.1, 0.0, 2.0]
    changed = steps_of(proposed(), executed(), verified("fail"), verified("pass"), answered())
    assert changed == [0.0, 0.0, -0.1, 0.0, 2.0]


def test_a_verdict_belongs_to_the_proposal_it_follows():
    steps = (
        proposed(0),
        executed(0),
        verified("fail", 0),
        corrected(1),
        executed(1),
        verified("pass", 1),
        answered(1),
    )
    each = steps_of(*steps, judgements=(WRONG, RIGHT), config=RewardConfig(verdicts="each"))
    assert each == [0.0, 0.0, 0.1, 0.0, 0.0, 0.1, 2.0]
    # By default the two share what one right verdict pays.
    shared = steps_of(*steps, judgements=(WRONG, RIGHT))
    assert shared == [0.0, 0.0, 0.05, 0.0, 0.0, 0.05, 2.0]


def test_a_verdict_without_a_result_scores_nothing_and_spares_the_later_one():
    assert steps_of(proposed(), verified("pass"), answered()) == [0.0, 0.0, 2.0]
    blind_first = steps_of(proposed(), verified("fail"), executed(), verified("pass"), answered())
    assert blind_first == [0.0, 0.0, 0.0, 0.1, 2.0]
    other = steps_of(
        proposed(0),
        executed(0),
        corrected(1),
        verified("pass", 1),
        answered(1),
        judgements=(WRONG, RIGHT),
    )
    assert other == [0.0, 0.0, 0.0, 0.0, 2.0]


def test_doubting_a_suspicious_result_is_not_punished():
    steps = proposed(), executed(result_class="empty")
    assert steps_of(*steps, verified("fail"), answered()) == [0.0, 0.0, 0.0, 2.0]
    assert steps_of(*steps, verified("pass"), answered()) == [0.0, 0.0, 0.1, 2.0]
    doubted = steps_of(*steps, verified("fail"), answered(), judgements=(WRONG,))
    assert doubted == [0.0, 0.0, 0.1, 0.0]


def test_a_memory_verdict_is_not_an_execution_verdict():
    memory = steps_of(proposed(), executed(), verified("pass", target="memory"), answered())
    assert memory == [0.0, 0.0, 0.0, 2.0]


def test_text_never_changes_a_reward():
    plain = trajectory_of(proposed(), executed(), verified("fail"), answered(), judgements=(WRONG,))
    loud = replace(
        plain,
        steps=tuple(
            replace(step, message="no rows [] syntax error", observation="no such column pass")
            for step in plain.steps
        ),
    )
    assert score(loud, CONFIG) == score(plain, CONFIG)


def test_nothing_proposed_is_zero():
    failure = Step(message="?", action=ParseFailure(reason="?"), observation=None, proposal=None)
    reward = score(trajectory_of(failure, judgements=(), ending=Ending.MALFORMED), CONFIG)
    assert reward is not None
    assert (reward.total, reward.step_rewards) == (0.0, (0.0,))
    no_steps = score(trajectory_of(judgements=(), ending=Ending.MAX_TOKENS), CONFIG)
    assert no_steps is not None
    assert (no_steps.total, no_steps.step_rewards) == (0.0, ())


@pytest.mark.parametrize("ending", [Ending.MAX_STEPS, Ending.MAX_TOKENS, Ending.MALFORMED])
def test_a_truncated_turn_is_scored_by_its_proposal(ending):
    reward = score(trajectory_of(proposed(), executed(), ending=ending), CONFIG)
    assert reward is not None
    assert reward.step_rewards == (0.0, 2.0)


def test_a_verdict_on_the_last_step_shares_it_with_the_outcome():
    reward = score(
        trajectory_of(proposed(), executed(), verified("pass"), ending=Ending.MAX_STEPS), CONFIG
    )
    assert reward is not None
    assert reward.outcome == 2.0
    assert reward.step_rewards == pytest.approx((0.0, 0.0, 2.1))


def test_our_faults_and_failing_gold_are_unscored():
    fault = replace(trajectory_of(proposed()), ending=Ending.INFRA_FAULT, judgements=(), fault=LOST)
    assert score(fault, CONFIG) is None
    unjudged = Judgement(ex=None, em=None, status="gold_failed")
    assert score(trajectory_of(proposed(), answered(), judgements=(unjudged,)), CONFIG) is None


def test_a_part_without_a_weight_needs_no_verdict():
    # exact match cannot judge every gold; then only execution may count
    no_em = trajectory_of(
        proposed(), answered(), judgements=(Judgement(ex=True, em=None, status="ok"),)
    )
    assert score(no_em, RewardConfig(unreadable_em="drop")) is None
    assert outcome_reward(no_em, RewardConfig(ex=1.0, em=0.0, unreadable_em="drop")) == 1.0


def test_where_em_cannot_read_gold_ex_speaks_for_it():
    def outcome(ex: bool | None, config: RewardConfig = CONFIG) -> float | None:
        judgement = Judgement(ex=ex, em=None, status="ok")
        return outcome_reward(trajectory_of(proposed(), judgements=(judgement,)), config)

    # as for a turn that EM can read: 1 for EX and 1 for EM, or nothing
    assert (outcome(True), outcome(False), outcome(None)) == (2.0, 0.0, None)
    assert outcome(True, RewardConfig(ex=0.0, em=0.5)) == 0.5
    trajectory = trajectory_of(
        proposed(), answered(), judgements=(Judgement(ex=True, em=None, status="ok"),)
    )
    parts = parts_of(trajectory, CONFIG)
    assert parts is not None
    assert (parts["ex"], parts["em"]) == (1.0, 1.0)


def test_a_match_of_nothing_with_nothing_may_pay_nothing():
    empty = Judgement(ex=True, em=False, status="ok", is_empty=True)
    steps = (proposed(), executed(result_class="empty"), verified("pass"), answered())
    assert steps_of(*steps, judgements=(empty,)) == pytest.approx([0.0, 0.0, 0.1, 1.0])
    # the rule makes the proposal wrong, and so is the verdict that passed it
    config = RewardConfig(ex=1.0, em=1.0, verify=0.1, empty_is_wrong=True)
    assert steps_of(*steps, judgements=(empty,), config=config) == pytest.approx(
        [0.0, 0.0, -0.1, 0.0]
    )


R1 = RewardConfig(preset="mtsql_r1")


def test_the_example_of_the_preset():
    steps = (
        proposed(0),
        executed(0),
        verified("fail", 0),
        corrected(1),
        executed(1),
        verified("pass", 1),
        looked(1),
        verified("pass", 1, target="memory"),
        answered(1),
    )
    trajectory = trajectory_of(*steps, judgements=(WRONG, RIGHT), f1s=(0.8, 1.0))
    reward = scored(trajectory, R1)
    expected = [0.64, 0, 0.05, 0.16, 0, 0.05, 0, 0.1, 2]
    assert list(reward.step_rewards) == pytest.approx(expected)
    assert (reward.total, reward.outcome) == (pytest.approx(3.0), 2.0)
    parts = parts_of(trajectory, R1)
    assert parts is not None
    wanted = {"ex": 1, "em": 1, "verify": 0.1, "coherence": 0.1, "generation": 0.8}
    assert {name: parts[name] for name in wanted} == pytest.approx(wanted)


def test_the_presets_range_is_zero_to_three():
    assert scored(trajectory_of(proposed(), answered(), f1s=(1.0,)), R1).total == pytest.approx(2.8)
    agreed = trajectory_of(proposed(), executed(), verified("pass"), answered(), f1s=(1.0,))
    assert scored(agreed, R1).total == pytest.approx(2.9)
    wrong = trajectory_of(proposed(), answered(), judgements=(WRONG,), f1s=(0.0,))
    assert scored(wrong, R1).total == 0.0


def test_keys_beside_a_preset_win():
    assert (R1.verify, R1.coherence, R1.generation, R1.verdicts) == (0.1, 0.1, 0.8, "mean")
    changed = RewardConfig.model_validate({"preset": "mtsql_r1", "generation": 0.5})
    assert (changed.generation, changed.coherence) == (0.5, 0.1)
    assert RewardConfig.model_validate(changed.model_dump()) == changed


def test_the_defaults_pay_verdicts_on_execution_only():
    assert RewardConfig() == RewardConfig(ex=1.0, em=1.0, verify=0.1)
    steps = (proposed(), executed(), verified("pass"), looked(), verified("pass", target="memory"))
    reward = scored(trajectory_of(*steps, answered(), f1s=(1.0,)), RewardConfig())
    assert reward.step_rewards == (0.0, 0.0, 0.1, 0.0, 0.0, 2.0)


def test_the_scalar_baseline_puts_all_on_the_last_step():
    trajectory = trajectory_of(proposed(), executed(), verified("pass"), answered(), f1s=(1.0,))
    spread = scored(trajectory, R1)
    whole = scored(trajectory, R1.model_copy(update={"attribution": "last"}))
    assert list(spread.step_rewards) == pytest.approx([0.8, 0, 0.1, 2])
    assert whole.step_rewards == (0.0, 0.0, 0.0, spread.total)
    assert (whole.total, whole.outcome) == (spread.total, 2.0)


def test_each_kind_is_kept_apart_and_judged_differs_from_not_judged():
    steps = (proposed(0), executed(0), verified("pass", 0), answered(0))
    reward = scored(trajectory_of(*steps, f1s=(0.0,), judgements=(WRONG,)), R1)
    assert reward.parts["verify"] == (None, None, -0.1, None)
    assert reward.parts["coherence"] == (None, None, None, None)
    assert reward.parts["generation"] == (0.0, None, None, None)


def test_parts_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"parts differ in length, or there are none: \[1, 2\]"):
        Reward(outcome=0.0, parts={"verify": (None,), "generation": (None, None)})
    with pytest.raises(ValueError, match=r"or there are none: \[\]"):
        Reward(outcome=0.0, parts={})


def test_what_is_unscored_has_no_parts():
    fault = replace(trajectory_of(proposed()), ending=Ending.INFRA_FAULT, judgements=(), fault=LOST)
    assert parts_of(fault, R1) is None
    nothing = parts_of(trajectory_of(judgements=(), ending=Ending.MAX_TOKENS), R1)
    assert nothing is not None
    assert nothing["ex"] == 0.0
