"""Advantages as whole lists, from typed rewards."""

import time
from collections.abc import Mapping

import numpy as np
import pytest

from mtsql.chains.chain import Query
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, Answer, ToolCall
from mtsql.rewards.advantages import MODES, relative, states_of, step_advantages
from mtsql.trajectory.records import Ending, Step, Trajectory
from mtsql.trajectory.reward import Reward

EVERY_MODE = pytest.mark.parametrize("mode", MODES)


def close(values):
    return pytest.approx(values, abs=1e-5)


def earned(outcome, *verify, **others):
    """A trajectory's reward: verdicts by step, and other kinds by name."""
    parts: Mapping[str, tuple[float | None, ...]] = {"verify": verify, **others}
    return Reward(outcome=outcome, parts=parts)


def test_grpo_compares_within_the_group():
    # mean 0.5, spread 0.5: right (1 - 0.5) / 0.5 = 1, wrong (0 - 0.5) / 0.5 = -1
    assert relative([1.0, 0.0, 0.0, 1.0]) == close([1.0, -1.0, -1.0, 1.0])


def test_grpo_uses_the_population_spread():
    # mean 1, squared deviations 1 1 0 0, population spread sqrt(2 / 4) = 0.70711
    expected = [1.414212, -1.414212, 0.0, 0.0]
    assert relative([2.0, 0.0, 1.0, 1.0]) == close(expected)


@EVERY_MODE
def test_equal_rewards_and_a_group_of_one_teach_nothing(mode):
    assert relative([2.0, 2.0, 2.0]) == [0.0, 0.0, 0.0]
    assert relative([2.0]) == [0.0]
    one = earned(2.0, None, 0.1, None)
    assert step_advantages([one], mode) == [[0.0, 0.0, 0.0]]
    assert step_advantages([one, one], mode) == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    two_verdicts = earned(2.0, 0.1, -0.3, None)
    assert step_advantages([two_verdicts], mode) == [[0.0, 0.0, 0.0]]


@EVERY_MODE
@pytest.mark.parametrize("value", [0.1, 0.1 / 3, 2.1, 0.7])
def test_equal_rewards_give_exactly_zero_whatever_their_size(mode, value):
    # Three times 0.7 is 2.0999999999999996: a mean of equal numbers may differ from each of them.
    for size in range(2, 17):
        group = [earned(value, None, value, None, generation=(value, None, None))] * size
        for row in step_advantages(group, mode):
            assert np.array(row, dtype=np.float32).tolist() == [0.0, 0.0, 0.0]


def test_equal_totals_give_exactly_zero_in_whatever_order_they_came_together():
    # 0.1 at once, or as three thirds: sums that differ in the last bit are equal.
    third = 0.1 / 3
    group = [
        earned(0.0, 0.1, None, None),
        earned(0.0, third, third, third),
        earned(0.1, None, None, None),
        earned(0.3, -0.1, None, -0.1),
    ]
    assert step_advantages(group, "grpo") == [[0.0] * 3] * 4


def test_a_process_reward_stays_with_its_step():
    # outcomes 2 0: advantages 1 -1; verdicts 0.1 -0.1: mean 0
    group = [earned(2.0, None, 0.1, None), earned(0.0, None, -0.1)]
    steps = step_advantages(group, "grpo_steps")
    assert steps[0] == close([1.0, 1.1, 1.0])
    assert steps[1] == close([-1.0, -1.1])


def test_process_rewards_are_compared_over_all_steps_of_the_group():
    # verdicts 0.1 0.1 -0.1 0.1, mean 0.05: 0.05 0.05 -0.15 0.05; all outcomes are equal
    group = [
        earned(2.0, 0.1, None, 0.1, None),
        earned(2.0, -0.1, None),
        earned(2.0, None, 0.1, None),
    ]
    steps = step_advantages(group, "grpo_steps")
    assert steps[0] == close([0.05, 0.0, 0.05, 0.0])
    assert steps[1] == close([-0.15, 0.0])
    assert steps[2] == close([0.0, 0.05, 0.0])


def test_a_small_process_reward_stays_small_when_outcomes_hardly_differ():
    # Divided by a spread of its own, or by that of equal outcomes, 0.1 would outweigh the outcome.
    steps = step_advantages([earned(2.0, 0.1, None), earned(2.0, -0.1, None)], "grpo_steps")
    assert steps == [[pytest.approx(0.1), 0.0], [pytest.approx(-0.1), 0.0]]


@pytest.mark.parametrize("mode", ["grpo_steps", "grpo_togo"])
def test_a_verdict_in_the_message_that_answers_is_no_outcome(mode):
    # mtsql_r1 judges and answers in one message: its step has the verdict, and the outcome is apart
    steps = step_advantages([earned(2.0, None, 0.1), earned(2.0, None, -0.1)], mode)
    before = 0.0 if mode == "grpo_steps" else 0.1  # what is to come counts in the first step too
    assert steps == [close([before, 0.1]), close([-before, -0.1])]
    wrong = step_advantages([earned(0.0, None, 0.1), earned(0.0, None, -0.1)], mode)
    assert wrong == steps


def test_what_is_judged_and_earns_nothing_differs_from_what_is_not_judged():
    # verdicts 0.2 and 0.0, mean 0.1
    steps = step_advantages([earned(2.0, 0.2, None), earned(2.0, 0.0, None)], "grpo_steps")
    assert steps == [close([0.1, 0.0]), close([-0.1, 0.0])]
    # nothing but 0.2: it is its own mean
    steps = step_advantages([earned(2.0, 0.2, None), earned(2.0, None, None)], "grpo_steps")
    assert steps == [[0.0, 0.0], [0.0, 0.0]]


def test_each_kind_is_compared_with_its_own_kind():
    # verdicts 0.1 -0.1: mean 0; proposals 0.8 0.4: mean 0.6
    first = earned(2.0, None, 0.1, None, generation=(0.8, None, None))
    second = earned(2.0, None, -0.1, None, generation=(0.4, None, None))
    steps = step_advantages([first, second], "grpo_steps")
    assert steps == [close([0.2, 0.1, 0.0]), close([-0.2, -0.1, 0.0])]


def test_a_step_answers_for_the_process_rewards_still_to_come():
    # sums to the end 0.9 0.1 0 and 0.4 0; means 0.65 0.05 0; outcomes are equal
    group = [
        earned(2.0, None, 0.1, None, generation=(0.8, None, None)),
        earned(2.0, None, None, generation=(0.4, None)),
    ]
    steps = step_advantages(group, "grpo_togo")
    assert steps[0] == close([0.25, 0.05, 0.0])
    assert steps[1] == close([-0.25, -0.05])


def test_to_go_compares_a_step_that_earns_nothing_with_those_that_earn():
    # outcomes 2 0: 1 -1; proposals of F1 1 and 0 at weight 0.8: 0.4 -0.4
    steps = step_advantages([earned(2.0, 0.8, None), earned(0.0, None, None)], "grpo_togo")
    assert steps == [close([1.4, 1.0]), close([-1.4, -1.0])]
    assert step_advantages([earned(2.0, 0.8, None)], "grpo_togo") == [[0.0, 0.0]]


def test_steps_from_the_same_state_are_compared_with_each_other():
    # Outcomes 2 0 2 0: 1 -1 1 -1. At `a` stand the first two, 2 and 0: 1 and -1. At `b` stands the
    # third alone, twice at `c` and with the fourth: 1 and -1, once for each of its steps there.
    group = [earned(outcome, None, None, None, None) for outcome in (2.0, 0.0, 2.0, 0.0)]
    states = [
        (None, "a", "d", "d"),
        (None, "a", "e", "f"),
        (None, "b", "c", "c"),
        (None, "c", 1, 2),
    ]
    assert step_advantages(group, "anchors", states) == [
        close([1.0, 2.0, 1.0, 1.0]),
        close([-1.0, -2.0, -1.0, -1.0]),
        close([1.0, 1.0, 2.0, 2.0]),
        close([-1.0, -2.0, -1.0, -1.0]),
    ]
    # Where all fare alike the place says nothing, and without places nothing is added.
    alike = [(None, "a", "x", "x"), (None, "y", "y", "y"), (None, "a", "z", "z"), (None, 1, 2, 3)]
    steps = step_advantages(group, "grpo_steps")
    assert step_advantages(group, "anchors", alike) == steps
    assert step_advantages(group, "anchors") == steps


def test_a_state_is_the_proposal_and_what_was_seen_last():
    propose, execute = ToolCall(name=ActionName.PROPOSE), ToolCall(name=ActionName.EXECUTE)

    def trajectory(*proposals: str, shown: str) -> Trajectory:
        steps = (
            Step(message="1", action=propose, observation="ok", proposal=0),
            Step(message="2", action=execute, observation=shown, proposal=0),
            Step(message="3", action=Answer(), observation=None, proposal=0),
        )
        judged = Judgement(ex=True, em=True, status="ok", message="")
        return Trajectory(
            turn_id="d/0",
            steps=steps,
            ending=Ending.ANSWERED,
            proposals=tuple(Query(sql) for sql in proposals),
            judgements=(judged,) * len(proposals),
        )

    one = states_of(trajectory("SELECT a FROM t", shown="2 rows"))
    assert one[0] is None
    assert len(set(one)) == 3
    # Blanks and the case of names do not count; another query or another result does.
    assert states_of(trajectory("select A  FROM t", shown="2 rows")) == one
    other = states_of(trajectory("SELECT a FROM t", shown="0 rows"))
    assert other[:2] == one[:2]
    assert other[2] != one[2]
    assert states_of(trajectory("SELECT b FROM t", shown="2 rows"))[1] != one[1]


def test_a_mistake_made_on_purpose_gains_nothing_in_the_default_mode():
    # Both answer rightly; one proposes a wrong query first, says so, and is paid twice.
    staged = earned(2.0, None, None, 0.1, None, None, 0.1, None)
    direct = earned(2.0, None, None, 0.1, None)
    assert step_advantages([staged, direct], "grpo_steps") == [[0.0] * 7, [0.0] * 4]


def test_the_scalar_mode_sums_all_rewards():
    # sums 2.1 and -0.1: mean 1, spread 1.1
    steps = step_advantages([earned(2.0, None, 0.1, None), earned(0.0, None, -0.1)], "grpo")
    assert steps == [close([1, 1, 1]), close([-1, -1])]


@EVERY_MODE
def test_one_number_for_a_trajectory_is_its_total_in_every_mode(mode):
    # attribution: last; totals 2.1 and 1.9, mean 2, spread 0.1
    group = [
        Reward(outcome=2.0, parts={"verify": (None, 0.1, None)}, attribution="last"),
        Reward(outcome=2.0, parts={"verify": (-0.1, None)}, attribution="last"),
    ]
    assert step_advantages(group, mode) == [
        pytest.approx([1.0] * 3, abs=1e-4),
        pytest.approx([-1.0] * 2, abs=1e-4),
    ]


@EVERY_MODE
@pytest.mark.parametrize("outcome", [2.0, 0.0])
def test_a_verdict_on_the_last_step_is_no_outcome(mode, outcome):
    # Running out of steps with a verdict: nothing beside answering after the same verdict.
    answered = earned(outcome, None, None, 0.1, None)
    ran_out = earned(outcome, None, None, 0.1)
    assert step_advantages([answered, ran_out], mode) == [[0.0] * 4, [0.0] * 3]


@EVERY_MODE
def test_a_trajectory_without_steps_has_no_advantages(mode):
    steps = step_advantages([earned(0.0), earned(2.0, None)], mode)
    assert steps == [[], close([1.0])]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="known: grpo, grpo_steps, grpo_togo, anchors"):
        step_advantages([earned(1.0, None)], "gae")


@EVERY_MODE
def test_a_whole_batch_takes_milliseconds(mode):
    # 32 groups of 8 trajectories of 40 steps
    groups = [
        [
            earned(float(row % 3), *(0.1 if step == 20 else None for step in range(40)))
            for row in range(8)
        ]
        for _ in range(32)
    ]
    timings = []
    for _ in range(3):
        started = time.perf_counter()
        for group in groups:
            step_advantages(group, mode)
        timings.append(time.perf_counter() - started)
    # Measured: about 30 ms on a 2-core machine; the bound leaves room for a loaded one.
    assert min(timings) < 0.5
