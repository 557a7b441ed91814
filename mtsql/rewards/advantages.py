"""Credit relative to the group, for each step, from typed rewards.

Axes: G trajectories of a group, S steps of one (ragged).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from math import fsum
from statistics import fmean, pstdev

from mtsql.trajectory.reward import Reward

EPSILON = 1e-6
"""Keeps the advantages of a group that hardly differs finite."""
EQUAL = 1e-9
"""Rewards no further apart are equal: the same weights may have been added in another order."""


def step_advantages(group: Sequence[Reward], mode: str) -> list[list[float]]:
    """One advantage for each step of each trajectory of a group; `mode` is one of MODES.

    A group of one has nothing to be compared with and gets zeros; so does one of equal rewards,
    and they are exactly 0. With `attribution: last` a trajectory is one number, its total, so
    every mode is `grpo`.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"advantage mode {mode!r}; known: {', '.join(MODES)}")
    if len(group) == 1:
        return [[0.0] * group[0].num_steps]
    is_one_number = any(reward.attribution == "last" for reward in group)
    return (grpo if is_one_number else MODES[mode])(group)


def grpo(group: Sequence[Reward]) -> list[list[float]]:
    """Every step gets its trajectory's total, relative to the group.

    Example: totals 2.1 and -0.1
        [1, 1, 1] and [-1, -1]
    """
    totals_G = relative([reward.total for reward in group])
    return [[total] * reward.num_steps for total, reward in zip(totals_G, group, strict=True)]


def grpo_steps(group: Sequence[Reward]) -> list[list[float]]:
    """Every step gets its trajectory's outcome relative to the group, and its own process rewards.

    A step that earned a process reward, 0 included, gets besides that reward minus the mean of all
    rewards of its kind in the group: verdicts are compared with verdicts, proposals with proposals.
    This part is not divided by a spread: it keeps the weight that the reward gave it (0.1 against
    about 1 for the outcome), also in a group whose outcomes or verdicts hardly differ.

    Example: outcomes 2 0; verify [-, 0.1, -] and [-, -0.1]; the mean is 0
        [1, 1.1, 1] and [-1, -1.1]
    """
    kinds = [_centred([reward.parts[kind] for reward in group]) for kind in group[0].parts]
    outcomes_G = relative([reward.outcome for reward in group])
    return [
        [fsum([outcome, *earned]) for earned in zip(*parts_S, strict=True)]
        for outcome, *parts_S in zip(outcomes_G, *kinds, strict=True)
    ]


def grpo_togo(group: Sequence[Reward]) -> list[list[float]]:
    """Every step gets its trajectory's outcome relative to the group, and what was still to come.

    To come is the sum of the process rewards from this step to the end, minus the mean of the same
    sum, from the step of the same number, over the group (0 for those that have ended). So rewards
    of several kinds and sizes go together, a step that earns nothing is compared with those that
    earn something, and none answers for what was earned before it.

    Example: outcomes 2 2; process [0.8, 0.1, -] and [0.4, -]
        sums to the end  0.9 0.1 0.0   0.4 0.0   means 0.65 0.05 0.0
        advantages       0.25 0.05 0.0   -0.25 -0.05
    """
    sums_S_G = zip_longest(*(_to_come(reward) for reward in group), fillvalue=0.0)
    rests_S_G = [_centred([sums_G])[0] for sums_G in sums_S_G]
    return [
        [fsum([outcome, rests_G[row]]) for rests_G in rests_S_G[: reward.num_steps]]
        for row, (outcome, reward) in enumerate(
            zip(relative([reward.outcome for reward in group]), group, strict=True)
        )
    ]


MODES: Mapping[str, Callable[[Sequence[Reward]], list[list[float]]]] = {
    "grpo": grpo,
    "grpo_steps": grpo_steps,
    "grpo_togo": grpo_togo,
}


def relative(rewards_G: Sequence[float]) -> list[float]:
    """Reward minus group mean, over the population spread (DeepSeekMath, section 4.1.2)."""
    if _are_equal(rewards_G):
        return [0.0] * len(rewards_G)
    mean, spread = fmean(rewards_G), pstdev(rewards_G)
    return [(reward - mean) / (spread + EPSILON) for reward in rewards_G]


def _to_come(reward: Reward) -> list[float]:
    return [
        fsum(one or 0.0 for part in reward.parts.values() for one in part[step:])
        for step in range(reward.num_steps)
    ]


def _centred(rows: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """Each number minus the mean of all that are given; 0 where none is."""
    given = [one for row in rows for one in row if one is not None]
    if _are_equal(given):
        return [[0.0] * len(row) for row in rows]
    mean = fmean(given)
    return [[0.0 if one is None else one - mean for one in row] for row in rows]


def _are_equal(numbers: Sequence[float]) -> bool:
    return not numbers or max(numbers) - min(numbers) <= EQUAL
