"""Credit relative to the group, and how it is spread over steps and tokens.

Axes: G trajectories of a group, S steps of one (ragged), B trajectories of a batch, T tokens.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate, zip_longest
from statistics import fmean, pstdev

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-6
"""Keeps a group without spread finite: its advantages are 0."""


def grpo(rewards_G: Sequence[float]) -> list[float]:
    """Reward minus group mean, over the population spread (DeepSeekMath, section 4.1.2).

    A group of one has nothing to be compared with: 0.
    """
    mean, spread = fmean(rewards_G), pstdev(rewards_G)
    return [(reward - mean) / (spread + EPSILON) for reward in rewards_G]


def grpo_steps(
    outcomes_G: Sequence[float], process_G_S: Sequence[Sequence[float | None]]
) -> list[list[float]]:
    """One advantage for each step: the trajectory's outcome, plus the step's own process reward.

    Every step gets `grpo(outcomes)`. A step with a process reward gets, besides, that reward minus
    the mean of all process rewards in the group. This part is not divided by a spread: it keeps
    the weight that the reward gave it (0.1 against about 1 for the outcome), also in a group whose
    outcomes or verdicts hardly differ.

    Args:
        outcomes_G: outcome reward of each trajectory.
        process_G_S: process reward of each step; None: the step has none.

    Example: outcomes 2 0; process [-, 0.1, -] and [-, -0.1]; their mean is 0
        [1, 1.1, 1] and [-1, -1.1]
    """
    if len(outcomes_G) != len(process_G_S):
        raise ValueError(
            f"{len(outcomes_G)} outcomes, but steps of {len(process_G_S)} trajectories"
        )
    if len(outcomes_G) == 1:
        return [[0.0 for _ in steps] for steps in process_G_S]
    given = [reward for steps in process_G_S for reward in steps if reward is not None]
    baseline = fmean(given) if given else 0.0
    return [
        [outcome if reward is None else outcome + reward - baseline for reward in steps]
        for outcome, steps in zip(grpo(outcomes_G), process_G_S, strict=True)
    ]


def grpo_togo(
    outcomes_G: Sequence[float], process_G_S: Sequence[Sequence[float | None]]
) -> list[list[float]]:
    """One advantage for each step: the trajectory's outcome, plus process rewards still to come.

    Every step gets `grpo(outcomes)`, plus the sum of the process rewards from this step to the end,
    minus the mean of the same sum, from the step of the same number, over the group (0 for those
    that have ended). So rewards of several kinds and sizes go together, a step that earns nothing
    is compared with those that earn something, and none answers for what was earned before it.

    Example: outcomes 2 2; process [0.8, 0.1, -] and [0.4, -]
        sums to the end  0.9 0.1 0.0   0.4 0.0   means 0.65 0.05 0.0
        advantages       0.25 0.05 0.0   -0.25 -0.05
    """
    if len(outcomes_G) != len(process_G_S):
        raise ValueError(
            f"{len(outcomes_G)} outcomes, but steps of {len(process_G_S)} trajectories"
        )
    sums_G_S = [
        list(accumulate(reward or 0.0 for reward in reversed(steps)))[::-1] for steps in process_G_S
    ]
    means_S = [fmean(sums_G) for sums_G in zip_longest(*sums_G_S, fillvalue=0.0)]
    return [
        [outcome + rest - mean for rest, mean in zip(sums_S, means_S, strict=False)]
        for outcome, sums_S in zip(grpo(outcomes_G), sums_G_S, strict=True)
    ]


def token_advantages(
    token_rewards_B_T: Sequence[Sequence[float]],
    masks_B_T: Sequence[Sequence[int]],
    groups_B: Sequence[str],
    mode: str,
) -> list[list[float]]:
    """Advantages of a batch, from what a trainer knows: rewards on tokens, masks, group names.

    A step is a run of ones in the mask; an observation always lies between two steps. A reward
    lies on the last token of its step. On the last step it is the outcome reward (with the process
    reward of that very step, if any), on earlier steps a process reward, where 0 means none. Mode
    `grpo` gives each trajectory the one advantage of its summed rewards.

    A row whose mask is all zero is padding: it counts in no group and gets zeros.

    Example: one row of a group, outcome advantage 1, verdict 0.1 against a group mean of 0
        mask        0  1  1  0  1  0  1  1
        rewards     0  0  0  0  0.1 0 0  2
        advantages  0  1  1  0  1.1 0 1  1

    Raises:
        ValueError: lengths differ, an unknown mode, or a reward on a token that ends no step.
    """
    if mode not in MODES:
        raise ValueError(f"advantage mode {mode!r}; known: {', '.join(MODES)}")
    if not len(token_rewards_B_T) == len(masks_B_T) == len(groups_B):
        raise ValueError(
            f"rows differ: {len(token_rewards_B_T)} rewards, {len(masks_B_T)} masks, "
            f"{len(groups_B)} groups"
        )
    masks = [np.asarray(mask, dtype=np.int8) for mask in masks_B_T]
    advantages = [np.zeros(len(mask)) for mask in masks]
    runs = [_runs(mask) for mask in masks]
    members: defaultdict[str, list[int]] = defaultdict(list)
    rewards: dict[int, NDArray[np.float64]] = {}
    for row, (starts, ends) in enumerate(runs):
        if starts.size:
            members[groups_B[row]].append(row)
            rewards[row] = _step_rewards(row, token_rewards_B_T[row], len(masks[row]), ends)
    for rows in members.values():
        step_advantages_G_S = MODES[mode]([rewards[row].tolist() for row in rows])
        for row, steps in zip(rows, step_advantages_G_S, strict=True):
            for start, end, advantage in zip(*runs[row], steps, strict=True):
                advantages[row][start:end] = advantage
    return [row.tolist() for row in advantages]


def _runs(mask: NDArray[np.int8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Starts and (exclusive) ends of the runs of ones."""
    edges = np.diff(mask, prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def _step_rewards(
    row: int, token_rewards_T: Sequence[float], num_tokens: int, ends_S: NDArray[np.intp]
) -> NDArray[np.float64]:
    rewards_T = np.asarray(token_rewards_T, dtype=np.float64)
    if len(rewards_T) != num_tokens:
        raise ValueError(f"row {row}: {len(rewards_T)} rewards for {num_tokens} mask entries")
    rewards_S = rewards_T[ends_S - 1]
    if np.count_nonzero(rewards_T) != np.count_nonzero(rewards_S):
        raise ValueError(f"row {row}: a reward lies on a token that does not end a step")
    return rewards_S


def _whole(rewards_G_S: list[list[float]]) -> list[list[float]]:
    advantages = grpo([sum(steps) for steps in rewards_G_S])
    return [
        [advantage] * len(steps) for advantage, steps in zip(advantages, rewards_G_S, strict=True)
    ]


def _by_step(rewards_G_S: list[list[float]]) -> list[list[float]]:
    return grpo_steps(*_split(rewards_G_S))


def _to_go(rewards_G_S: list[list[float]]) -> list[list[float]]:
    return grpo_togo(*_split(rewards_G_S))


def _split(
    rewards_G_S: list[list[float]],
) -> tuple[list[float], list[list[float | None]]]:
    """Outcomes, and the process rewards before the last step."""
    outcomes = [steps[-1] for steps in rewards_G_S]
    return outcomes, [[*(reward or None for reward in steps[:-1]), None] for steps in rewards_G_S]


MODES: dict[str, Callable[[list[list[float]]], list[list[float]]]] = {
    "grpo": _whole,
    "grpo_steps": _by_step,
    "grpo_togo": _to_go,
}
