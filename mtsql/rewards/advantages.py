"""Credit relative to the group, for each step, from typed rewards.

Axes: G trajectories of a group, S steps of one (ragged).
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import zip_longest
from math import fsum
from statistics import fmean, pstdev

from mtsql.query.same import words
from mtsql.trajectory.records import Trajectory
from mtsql.trajectory.reward import Reward

States = Sequence[Hashable]
"""Of one trajectory, for each step: where it stood before the step."""

EPSILON = 1e-6
"""Keeps the advantages of a group that hardly differs finite."""
EQUAL = 1e-9
"""Rewards no further apart are equal: the same weights may have been added in another order."""


def step_advantages(
    group: Sequence[Reward], mode: str, states: Sequence[States] | None = None
) -> list[list[float]]:
    """One advantage for each step of each trajectory of a group; `mode` is one of MODES.

    A group of one has nothing to be compared with and gets zeros; so does one of equal rewards,
    and they are exactly 0. With `attribution: last` a trajectory is one number, its total, so
    every mode is `grpo`.

    Args:
        states: of each trajectory, `states_of`; None: no step starts where another one does, so
            that `anchors` is `grpo_steps`.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"advantage mode {mode!r}; known: {', '.join(MODES)}")
    if len(group) == 1:
        return [[0.0] * group[0].num_steps]
    is_one_number = any(reward.attribution == "last" for reward in group)
    if is_one_number:
        return grpo(group)
    return anchors(group, states or ()) if mode == "anchors" else MODES[mode](group)


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


def anchors(group: Sequence[Reward], states: Sequence[States] = ()) -> list[list[float]]:
    """`grpo_steps`, and where siblings start from the same state, their outcomes compared there.

    Two trajectories that have proposed the same and seen the same result stand at the same place:
    what they do next is all that their outcomes differ by, so it is credited without any model.
    Both parts weigh the same (GiGPO, arXiv 2505.10978, equation 8 with omega 1). The beginning,
    where all stand together, counts once, and so does a trajectory that comes back to a place.

    Example: all propose; the first two the same, and they see the same
        outcomes 2 0 2; places [-, a, a'] [-, a] [-, b]
        grpo_steps  [0.7, 0.7, 0.7] [-1.4, -1.4] [0.7, 0.7]
        at a        2 and 0: 1 and -1
        advantages  [0.7, 1.7, 0.7] [-1.4, -2.4] [0.7, 0.7]
    """
    visitors: dict[Hashable, set[int]] = defaultdict(set)
    for row, places_S in enumerate(states):
        for place in places_S:
            visitors[place].add(row)
    visitors.pop(None, None)
    credit: dict[tuple[Hashable, int], float] = {}
    for place, members in visitors.items():
        here = sorted(members)
        credits_G = relative([group[row].outcome for row in here])
        credit |= {(place, row): one for row, one in zip(here, credits_G, strict=True)}
    return [
        [
            one + credit.get((place, row), 0.0)
            for one, place in zip_longest(steps, states[row] if states else ())
        ]
        for row, steps in enumerate(grpo_steps(group))
    ]


def states_of(trajectory: Trajectory) -> list[Hashable]:
    """For each step what it starts from: the current proposal's words and the last observation.

    None before anything was said. Whoever starts from equal states of the same turn has the same
    choice before them, whatever way they came.
    """
    states: list[Hashable] = []
    proposal, observation = None, None
    for step in trajectory.steps:
        is_begin = proposal is None and observation is None
        said = () if proposal is None else words(trajectory.statements[proposal])
        states.append(None if is_begin else (said, observation))
        proposal, observation = step.proposal, step.observation
    return states


MODES: Mapping[str, Callable[[Sequence[Reward]], list[list[float]]]] = {
    "grpo": grpo,
    "grpo_steps": grpo_steps,
    "grpo_togo": grpo_togo,
    "anchors": anchors,
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
