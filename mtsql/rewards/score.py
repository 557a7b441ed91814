"""What a finished trajectory is worth: pure functions, so that saved ones can be scored again."""

from dataclasses import dataclass
from math import fsum

from mtsql.config.reward import RewardConfig
from mtsql.rewards.generation import generation_rewards
from mtsql.rewards.verdicts import memory_rewards, verdict_rewards
from mtsql.trajectory.records import Ending, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The outcome reward of a trajectory and its process rewards, on the steps that earn them.

    Example: propose, execute, verify(execution, pass), answer; EX and EM hold, weights 1, 1, 0.1
        outcome       2.0
        step_rewards  0.0  0.0  0.1  2.0
        total         2.1
    """

    total: float
    """The sum of the step rewards."""
    outcome: float
    step_rewards: tuple[float, ...]
    """One for each step: process rewards, and the outcome on the last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The sums that make a reward, weights included."""

    ex: float
    em: float
    verify: float
    coherence: float
    generation: float


def score(trajectory: Trajectory, config: RewardConfig) -> Reward | None:
    """Judge a trajectory; None is unscored (our fault, or a gold that fails), 0 is wrong.

    The outcome is `ex * EX + em * EM` of the last proposal, 0 without one. What the steps earn
    besides, `verify * V + coherence * C + generation * G`, is in `mtsql.rewards.verdicts`.

    Example: the preset mtsql_r1 on a later turn; the first proposal drops a condition (F1 0.8)
        propose  execute  fail  correct  execute  pass  memory  pass  answer
        0.64     0        0.05  0.16     0        0.05  0       0.1   2      total 3.0

    Source: MTSQL-R1 (arXiv 2510.12831), reward of outcome and process; here verdicts are compared
    with gold, and each reward stays with its step unless `attribution` is `last`.
    """
    outcome = outcome_reward(trajectory, config)
    if outcome is None:
        return None
    process = (
        verdict_rewards(trajectory, config),
        memory_rewards(trajectory, config),
        generation_rewards(trajectory, config),
    )
    steps = [fsum(one or 0.0 for one in earned) for earned in zip(*process, strict=True)]
    if steps:
        steps[-1] += outcome
    total = fsum(steps) if steps else outcome
    if config.attribution == "last" and steps:
        steps = [0.0] * (len(steps) - 1) + [total]
    return Reward(total=total, outcome=outcome, step_rewards=tuple(steps))


def outcome_reward(trajectory: Trajectory, config: RewardConfig) -> float | None:
    """`ex * EX + em * EM` of the last proposal; None if a part that has a weight is unjudged."""
    if trajectory.ending is Ending.INFRA_FAULT:
        return None
    if not trajectory.proposals:
        return 0.0
    last = trajectory.judgements[-1]
    parts = [(config.ex, last.ex), (config.em, last.em)]
    if any(weight and part is None for weight, part in parts):
        return None
    return fsum(weight for weight, part in parts if part)


def parts_of(trajectory: Trajectory, config: RewardConfig) -> Parts | None:
    """What a reward is made of; None where `score` gives None."""
    if outcome_reward(trajectory, config) is None:
        return None
    last = trajectory.judgements[-1] if trajectory.judgements else None
    return Parts(
        ex=config.ex if last and last.ex else 0.0,
        em=config.em if last and last.em else 0.0,
        verify=fsum(one or 0.0 for one in verdict_rewards(trajectory, config)),
        coherence=fsum(one or 0.0 for one in memory_rewards(trajectory, config)),
        generation=fsum(one or 0.0 for one in generation_rewards(trajectory, config)),
    )
