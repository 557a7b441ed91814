"""What trajectories are worth, in numbers that can be redone by hand."""

from dataclasses import replace

import pytest

from mtsql.config import RewardConfig
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, Answer, ParseFailure, ToolCall, VerifyTarget
from mtsql.rewards import ability_metrics, outcome_reward, score, verdict_rewards
from mtsql.trajectory import Ending, Step, Trajectory

CONFIG = RewardConfig(ex=1.0, em=1.0, verify=0.1)
RIGHT = Judgement(ex=True, em=True, status="ok")
LOOSE = Judgement(ex=True, em=False, status="ok")
WRONG = Judgement(ex=False, em=False, status="ok")


def propose(number=0):
    action = ToolCall(name=ActionName.PROPOSE, sql=f"SELECT {number}")
    return Step(message="", action=action, observation="{}", proposal=number)


def correct(number):
    action = ToolCall(name=ActionName.CORRECT, sql=f"SELECT {number}")
    return Step(message="", action=action, observation="{}", proposal=number)


def execute(number=0, *, is_suspicious=False):
    return Step(
        message="",
        action=ToolCall(name=ActionName.EXECUTE),
        observation="{}",
        proposal=number,
        status="ok",
        is_suspicious=is_suspicious,
    )


def verify(verdict, number=0, target: VerifyTarget = "execution"):
    action = ToolCall(name=ActionName.VERIFY, target=target, verdict=verdict)
    return Step(message="", action=action, observation="{}", proposal=number)


def answer(number=0):
    return Step(message="", action=Answer(), observation=None, proposal=number)


def play(*steps, judgements=(RIGHT,), ending=Ending.ANSWERED):
    return Trajectory(
        turn_id="d/0",
        steps=steps,
        ending=ending,
        proposals=tuple(f"SELECT {number}" for number in range(len(judgements))),
        judgements=tuple(judgements),
    )


def steps_of(*steps, judgements=(RIGHT,)):
    reward = score(play(*steps, judgements=judgements), CONFIG)
    assert reward is not None
    return list(reward.step_rewards)


def test_the_outcome_lies_on_the_last_step_and_a_right_verdict_on_its_own():
    reward = score(play(propose(), execute(), verify("pass"), answer()), CONFIG)
    assert reward is not None
    assert reward.outcome == 2.0
    assert reward.step_rewards == (0.0, 0.0, 0.1, 2.0)
    assert reward.total == pytest.approx(2.1)


def test_ex_and_em_are_weighed_apart():
    config = RewardConfig(ex=0.7, em=0.3)
    judgements = (RIGHT, LOOSE, WRONG, Judgement(ex=False, em=True, status="ok"))
    assert [
        outcome_reward(play(propose(), answer(), judgements=(one,)), config) for one in judgements
    ] == pytest.approx([1.0, 0.7, 0.0, 0.3])


def test_the_last_proposal_is_scored_and_a_wrong_first_try_costs_nothing():
    steps = (propose(0), execute(0), correct(1), answer(1))
    assert steps_of(*steps, judgements=(WRONG, RIGHT)) == [0.0, 0.0, 0.0, 2.0]
    assert steps_of(*steps, judgements=(RIGHT, WRONG)) == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("verdict", "judgement", "reward"),
    [("pass", RIGHT, 0.1), ("fail", WRONG, 0.1), ("pass", WRONG, -0.1), ("fail", RIGHT, -0.1)],
)
def test_a_verdict_is_right_if_it_says_what_gold_says(verdict, judgement, reward):
    trajectory = play(propose(), execute(), verify(verdict), answer(), judgements=(judgement,))
    assert verdict_rewards(trajectory, CONFIG) == (None, None, reward, None)


def test_a_missing_verdict_is_none_and_never_pass():
    assert steps_of(propose(), execute(), answer()) == [0.0, 0.0, 2.0]
    assert steps_of(propose(), execute(), verify(None), answer()) == [0.0, 0.0, 0.0, 2.0]


def test_repeating_a_verdict_or_taking_it_back_pays_nothing():
    repeated = steps_of(propose(), execute(), verify("pass"), verify("pass"), answer())
    assert repeated == [0.0, 0.0, 0.1, 0.0, 2.0]
    changed = steps_of(propose(), execute(), verify("fail"), verify("pass"), answer())
    assert changed == [0.0, 0.0, -0.1, 0.0, 2.0]


def test_a_verdict_belongs_to_the_proposal_it_follows():
    steps = (
        propose(0),
        execute(0),
        verify("fail", 0),
        correct(1),
        execute(1),
        verify("pass", 1),
        answer(1),
    )
    assert steps_of(*steps, judgements=(WRONG, RIGHT)) == [0.0, 0.0, 0.1, 0.0, 0.0, 0.1, 2.0]


def test_a_verdict_without_a_result_scores_nothing_and_spares_the_later_one():
    assert steps_of(propose(), verify("pass"), answer()) == [0.0, 0.0, 2.0]
    blind_first = steps_of(propose(), verify("fail"), execute(), verify("pass"), answer())
    assert blind_first == [0.0, 0.0, 0.0, 0.1, 2.0]
    other = steps_of(
        propose(0), execute(0), correct(1), verify("pass", 1), answer(1), judgements=(WRONG, RIGHT)
    )
    assert other == [0.0, 0.0, 0.0, 0.0, 2.0]


def test_doubting_a_suspicious_result_is_not_punished():
    steps = propose(), execute(is_suspicious=True)
    assert steps_of(*steps, verify("fail"), answer()) == [0.0, 0.0, 0.0, 2.0]
    assert steps_of(*steps, verify("pass"), answer()) == [0.0, 0.0, 0.1, 2.0]
    doubted = steps_of(*steps, verify("fail"), answer(), judgements=(WRONG,))
    assert doubted == [0.0, 0.0, 0.1, 0.0]


def test_a_memory_verdict_is_not_an_execution_verdict():
    memory = steps_of(propose(), execute(), verify("pass", target="memory"), answer())
    assert memory == [0.0, 0.0, 0.0, 2.0]


def test_text_never_changes_a_reward():
    plain = play(propose(), execute(), verify("fail"), answer(), judgements=(WRONG,))
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
    reward = score(play(failure, judgements=(), ending=Ending.MALFORMED), CONFIG)
    assert reward is not None
    assert (reward.total, reward.step_rewards) == (0.0, (0.0,))
    no_steps = score(play(judgements=(), ending=Ending.MAX_TOKENS), CONFIG)
    assert no_steps is not None
    assert (no_steps.total, no_steps.step_rewards) == (0.0, ())


@pytest.mark.parametrize("ending", [Ending.MAX_STEPS, Ending.MAX_TOKENS, Ending.MALFORMED])
def test_a_truncated_turn_is_scored_by_its_proposal(ending):
    reward = score(play(propose(), execute(), ending=ending), CONFIG)
    assert reward is not None
    assert reward.step_rewards == (0.0, 2.0)


def test_a_verdict_on_the_last_step_shares_it_with_the_outcome():
    reward = score(play(propose(), execute(), verify("pass"), ending=Ending.MAX_STEPS), CONFIG)
    assert reward is not None
    assert reward.outcome == 2.0
    assert reward.step_rewards == pytest.approx((0.0, 0.0, 2.1))


def test_our_faults_and_failing_gold_are_unscored():
    fault = replace(play(propose()), ending=Ending.INFRA_FAULT, judgements=(), fault="worker lost")
    assert score(fault, CONFIG) is None
    unjudged = Judgement(ex=None, em=None, status="gold_failed")
    assert score(play(propose(), answer(), judgements=(unjudged,)), CONFIG) is None


def test_a_part_without_a_weight_needs_no_verdict():
    # exact match cannot judge every gold; then only execution may count
    no_em = play(propose(), answer(), judgements=(Judgement(ex=True, em=None, status="ok"),))
    assert score(no_em, CONFIG) is None
    assert outcome_reward(no_em, RewardConfig(ex=1.0, em=0.0)) == 1.0


def test_abilities_are_shares_of_what_was_played():
    trajectories = [
        # executes, sees a wrong result, corrects it
        play(
            propose(0),
            execute(0),
            verify("fail", 0),
            correct(1),
            execute(1),
            answer(1),
            judgements=(WRONG, RIGHT),
        ),
        play(propose(), answer(), judgements=(WRONG,)),  # blind
        play(propose(0), execute(0), correct(1), answer(1), judgements=(RIGHT, WRONG)),
        play(propose(), verify(None, target="memory"), execute(), verify("fail"), answer()),
        play(ending=Ending.INFRA_FAULT, judgements=()),
    ]
    metrics = ability_metrics(trajectories)
    assert metrics == {
        "ending_answered": 4.0,
        "ending_max_steps": 0.0,
        "ending_max_tokens": 0.0,
        "ending_malformed": 0.0,
        "ending_infra_fault": 1.0,
        "executed": 0.75,
        "corrected": 0.5,
        "corrected_to_right": 1.0,
        "broken_by_correction": 0.25,
        "verified": 0.5,
        "verdict_right": 0.5,
        "verdict_missing": 0.0,
        "memory_verified": 0.25,
        "blind_answer": 0.5,  # the second, and the third, whose correction was never run
        "first_right": 0.5,
        "right": 0.5,
        "mean_steps": (6 + 2 + 4 + 5) / 4,
    }


def test_shares_without_a_base_are_left_out():
    metrics = ability_metrics([play(propose(), answer())])
    assert "corrected_to_right" not in metrics
    assert "verdict_right" not in metrics
    assert ability_metrics([]) == {f"ending_{ending}": 0.0 for ending in Ending}
