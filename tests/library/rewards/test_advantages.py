"""Advantages as whole lists."""

import time

import numpy as np
import pytest

from mtsql.rewards.advantages import grpo, grpo_steps, grpo_togo, token_advantages


def close(values):
    return pytest.approx(values, abs=1e-5)


def test_grpo_compares_within_the_group():
    # mean 0.5, spread 0.5: right (1 - 0.5) / 0.5 = 1, wrong (0 - 0.5) / 0.5 = -1
    assert grpo([1.0, 0.0, 0.0, 1.0]) == close([1.0, -1.0, -1.0, 1.0])


def test_grpo_uses_the_population_spread():
    # mean 1, squared deviations 1 1 0 0, population spread sqrt(2 / 4) = 0.70711
    expected = [1.414212, -1.414212, 0.0, 0.0]
    assert grpo([2.0, 0.0, 1.0, 1.0]) == close(expected)


def test_equal_rewards_and_a_group_of_one_teach_nothing():
    assert grpo([2.0, 2.0, 2.0]) == [0.0, 0.0, 0.0]
    assert grpo([2.0]) == [0.0]
    assert grpo_steps([2.0], [[None, 0.1, None]]) == [[0.0, 0.0, 0.0]]
    equal = grpo_steps([2.0, 2.0], [[None, 0.1, None], [None, 0.1, None]])
    assert equal == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_process_reward_stays_with_its_step():
    # outcomes 2 0: advantages 1 -1; verdicts 0.1 -0.1: mean 0
    steps = grpo_steps([2.0, 0.0], [[None, 0.1, None], [None, -0.1]])
    assert steps[0] == close([1.0, 1.1, 1.0])
    assert steps[1] == close([-1.0, -1.1])


def test_process_rewards_are_compared_over_all_steps_of_the_group():
    # verdicts 0.1 0.1 -0.1 0.1, mean 0.05: 0.05 0.05 -0.15 0.05; all outcomes are equal
    steps = grpo_steps([2.0, 2.0, 2.0], [[0.1, None, 0.1, None], [-0.1, None], [None, 0.1, None]])
    assert steps[0] == close([0.05, 0.0, 0.05, 0.0])
    assert steps[1] == close([-0.15, 0.0])
    assert steps[2] == close([0.0, 0.05, 0.0])


def test_a_small_process_reward_stays_small_when_outcomes_hardly_differ():
    # Divided by a spread of its own, or by that of equal outcomes, 0.1 would outweigh the outcome.
    steps = grpo_steps([2.0, 2.0], [[0.1, None], [-0.1, None]])
    assert steps == [[pytest.approx(0.1), 0.0], [pytest.approx(-0.1), 0.0]]


def test_a_step_answers_for_the_process_rewards_still_to_come():
    # sums to the end 0.9 0.1 0 and 0.4 0; means 0.65 0.05 0; outcomes are equal
    steps = grpo_togo([2.0, 2.0], [[0.8, 0.1, None], [0.4, None]])
    assert steps[0] == close([0.25, 0.05, 0.0])
    assert steps[1] == close([-0.25, -0.05])


def test_to_go_compares_a_step_that_earns_nothing_with_those_that_earn():
    # outcomes 2 0: 1 -1; proposals of F1 1 and 0 at weight 0.8: 0.4 -0.4
    steps = grpo_togo([2.0, 0.0], [[0.8, None], [None, None]])
    assert steps == [close([1.4, 1.0]), close([-1.4, -1.0])]
    assert grpo_togo([2.0], [[0.8, None]]) == [[0.0, 0.0]]


def test_a_mistake_made_on_purpose_gains_nothing_in_the_default_mode():
    # Both answer rightly; one proposes a wrong query first, says so, and is paid twice.
    mask = [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    staged = [0, 0, 0, 0, 0.1, 0, 0, 0, 0, 0, 0.1, 0, 2.0]
    direct_mask = [1, 0, 1, 0, 1, 0, 1]
    direct = [0, 0, 0, 0, 0.1, 0, 2.0]
    advantages = token_advantages([staged, direct], [mask, direct_mask], ["a", "a"], "grpo_steps")
    assert advantages == [close([0.0] * 13), close([0.0] * 7)]


def test_tokens_of_a_step_share_its_advantage_and_observations_get_none():
    mask = [0, 1, 1, 0, 1, 0, 1, 1]
    good = [0, 0, 0, 0, 0.1, 0, 0, 2.0]
    bad = [0, 0, 0, 0, -0.1, 0, 0, 0]
    advantages = token_advantages([good, bad], [mask, mask], ["a", "a"], "grpo_steps")
    assert advantages[0] == close([0, 1, 1, 0, 1.1, 0, 1, 1])
    assert advantages[1] == close([0, -1, -1, 0, -1.1, 0, -1, -1])


def test_the_scalar_mode_sums_all_rewards():
    # sums 2.1 and -0.1: mean 1, spread 1.1
    mask = [1, 0, 1, 0, 1]
    rewards = [[0, 0, 0.1, 0, 2.0], [0, 0, -0.1, 0, 0]]
    advantages = token_advantages(rewards, [mask, mask], ["a", "a"], "grpo")
    assert advantages[0] == close([1, 0, 1, 0, 1])
    assert advantages[1] == close([-1, 0, -1, 0, -1])


def test_groups_do_not_mix_and_rows_may_come_in_any_order():
    mask = [1, 0]
    rewards = [[2.0, 0], [5.0, 0], [0, 0], [3.0, 0]]
    advantages = token_advantages(rewards, [mask] * 4, ["a", "b", "a", "b"], "grpo_steps")
    expected = [[1, 0], [1, 0], [-1, 0], [-1, 0]]
    for row, want in zip(advantages, expected, strict=True):
        assert row == close(want)


@pytest.mark.parametrize("mode", ["grpo", "grpo_steps", "grpo_togo"])
def test_padding_rows_count_in_no_group(mode):
    rewards = [[0, 2.0], [0, 0], [0, 0]]
    masks = [[1, 1], [0, 0], [1, 1]]
    advantages = token_advantages(rewards, masks, ["a", "a", "a"], mode)
    assert advantages[1] == [0.0, 0.0]
    assert advantages[0] == close([1, 1])
    assert advantages[2] == close([-1, -1])


@pytest.mark.parametrize("mode", ["grpo", "grpo_steps", "grpo_togo"])
def test_a_group_of_one_gets_zeros(mode):
    assert token_advantages([[0.1, 0, 2.0]], [[1, 0, 1]], ["a"], mode) == [[0.0, 0.0, 0.0]]


def test_rows_may_differ_in_length_and_be_arrays():
    rewards = [np.array([0.0, 2.0], dtype=np.float32), [0.0, 0.0, 0.0]]
    masks = [np.array([1, 1], dtype=np.int64), [1, 0, 1]]
    advantages = token_advantages(rewards, masks, ["a", "a"], "grpo_steps")
    assert advantages[0] == close([1, 1])
    assert advantages[1] == close([-1, 0, -1])


def test_misplaced_rewards_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="row 1: a reward lies on a token that does not end"):
        token_advantages([[0, 1.0], [1.0, 0]], [[1, 1], [1, 1]], ["a", "a"], "grpo")
    with pytest.raises(ValueError, match="row 0: a reward lies on a token"):
        token_advantages([[0, 1.0]], [[1, 0]], ["a"], "grpo")
    with pytest.raises(ValueError, match="row 0: 1 rewards for 2 mask entries"):
        token_advantages([[1.0]], [[1, 1]], ["a"], "grpo")
    with pytest.raises(ValueError, match="rows differ"):
        token_advantages([[1.0]], [[1]], [], "grpo")
    with pytest.raises(ValueError, match="known: grpo, grpo_steps, grpo_togo"):
        token_advantages([[1.0]], [[1]], ["a"], "gae")
    for mode in (grpo_steps, grpo_togo):
        with pytest.raises(ValueError, match="2 outcomes, but steps of 1"):
            mode([1.0, 2.0], [[None]])


def test_a_whole_batch_takes_milliseconds():
    # 32 groups of 8 rows with 400 tokens: 40 steps of 6 tokens, each with an observation of 4
    masks = [([1] * 6 + [0] * 4) * 40 for _ in range(256)]
    rewards = [[0.0] * 400 for _ in range(256)]
    for row, tokens in enumerate(rewards):
        tokens[395] = float(row % 3)
        tokens[205] = 0.1
    groups = [str(row // 8) for row in range(256)]
    timings = []
    for _ in range(3):
        started = time.perf_counter()
        token_advantages(rewards, masks, groups, "grpo_steps")
        timings.append(time.perf_counter() - started)
    # Measured: about 30 ms on a 2-core machine; the bound leaves room for a loaded one.
    assert min(timings) < 0.5
