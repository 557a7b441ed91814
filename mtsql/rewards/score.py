"""What a finished trajectory is worth: pure functions, so that saved ones can be scored again."""

from math import fsum

from mtsql.config.reward import RewardConfig
from mtsql.evaluation.records import Judgement
from mtsql.rewards.golds import ex_of
from mtsql.rewards.parts import PARTS
from mtsql.trajectory.records import Ending, Trajectory
from mtsql.trajectory.reward import Reward

SUMS = ("ex", "em", *PARTS)
"""What a total is the sum of."""


def score(trajectory: Trajectory, config: RewardConfig) -> Reward | None:
    """Judge a trajectory; None is unscored (our fault, or a gold that fails), 0 is wrong.

    The outcome is `ex * EX + em * EM` of the last proposal, 0 without one. What the steps earn
    besides, `verify * V + coherence * C + generation * G`, are the parts.

    Example: the preset mtsql_r1 on a later turn; the first proposal drops a condition (F1 0.8)
        propose  execute  fail  correct  execute  pass  memory  pass  answer
        0.64     0        0.05  0.16     0        0.05  0       0.1   2      total 3.0

    Source: MTSQL-R1 (arXiv 2510.12831), reward of outcome and process; here verdicts are compared
    with gold, and each reward stays with its step unless `attribution` is `last`.
    """
    outcome = outcome_reward(trajectory, config)
    if outcome is None:
        return None
    parts = {name: rewards(trajectory, config) for name, rewards in PARTS.items()}
    return Reward(outcome=outcome, parts=parts, attribution=config.attribution)


def outcome_reward(trajectory: Trajectory, config: RewardConfig) -> float | None:
    """`ex * EX + em * EM` of the last proposal; None if a part that has a weight is unjudged.

    Where EM cannot read gold, EX speaks for it, unless `unreadable_em` is `drop`.
    """
    if trajectory.ending is Ending.INFRA_FAULT:
        return None
    if not trajectory.proposals:
        return 0.0
    parts = _outcome_parts(trajectory.judgements[-1], config)
    if any(weight and part is None for weight, part in parts):
        return None
    return fsum(weight for weight, part in parts if part)


def _outcome_parts(
    last: Judgement, config: RewardConfig
) -> tuple[tuple[float, bool | None], tuple[float, bool | None]]:
    """(weight, verdict) of EX and of EM."""
    ex = ex_of(last, config)
    em = ex if last.em is None and config.unreadable_em == "ex" else last.em
    return (config.ex, ex), (config.em, em)


def parts_of(trajectory: Trajectory, config: RewardConfig) -> dict[str, float] | None:
    """The sums that make a reward (SUMS), weights included; None where `score` gives None."""
    reward = score(trajectory, config)
    if reward is None:
        return None
    ex = em = 0.0
    if trajectory.judgements:
        ex, em = (
            weight if part else 0.0
            for weight, part in _outcome_parts(trajectory.judgements[-1], config)
        )
    return {
        "ex": ex,
        "em": em,
        **{name: fsum(one or 0.0 for one in part) for name, part in reward.parts.items()},
    }
