"""What a finished trajectory is worth: pure functions, so that saved ones can be scored again."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from mtsql.config import RewardConfig
from mtsql.protocol import ActionName, ToolCall
from mtsql.trajectory import Ending, Step, Trajectory


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


def score(trajectory: Trajectory, config: RewardConfig) -> Reward | None:
    """Judge a trajectory; None is unscored (our fault, or a gold that fails), 0 is wrong.

    The outcome is `ex * EX + em * EM` of the last proposal, 0 without one. An execution verdict is
    right if "pass" stands for a result that matches gold and "fail" for one that does not; see
    `verdict_rewards` for what counts.

    Source: MTSQL-R1 (arXiv 2510.12831), reward of outcome and process; here the verdict is compared
    with gold, and its reward stays with its step.
    """
    outcome = outcome_reward(trajectory, config)
    if outcome is None:
        return None
    steps = [reward or 0.0 for reward in verdict_rewards(trajectory, config)]
    if steps:
        steps[-1] += outcome
    return Reward(
        total=fsum(steps) if steps else outcome, outcome=outcome, step_rewards=tuple(steps)
    )


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


def verdict_rewards(trajectory: Trajectory, config: RewardConfig) -> tuple[float | None, ...]:
    """For each step the process reward of its execution verdict; None: the step has none.

    A right verdict earns `config.verify` and a wrong one costs as much, so that a guess gains
    nothing and a wrong verdict differs from no verdict in the tokens' rewards as well. Doubting a
    suspicious result (empty, all NULL, zero) that turns out right is no mistake: it has none. Only
    the first verdict on a proposal counts, and only after its execution; a call without a verdict
    is never taken for "pass".
    """
    rewards: list[float | None] = []
    executed: dict[int, Step] = {}
    judged: set[int] = set()
    for step in trajectory.steps:
        rewards.append(None)
        if step.proposal is None or not isinstance(step.action, ToolCall):
            continue
        if step.action.name is ActionName.EXECUTE and step.status is not None:
            executed[step.proposal] = step
        verdict = step.action.verdict
        if (
            step.action.name is not ActionName.VERIFY
            or step.action.target != "execution"
            or verdict is None
            or step.proposal not in executed
            or step.proposal in judged
        ):
            continue
        judged.add(step.proposal)
        if step.proposal >= len(trajectory.judgements):
            continue
        truth = trajectory.judgements[step.proposal].ex
        if truth is None:
            continue
        if (verdict == "pass") == truth:
            rewards[-1] = config.verify
        elif not (truth and executed[step.proposal].is_suspicious):
            rewards[-1] = -config.verify
    return tuple(rewards)


def ability_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """What the policy does, as shares of the trajectories without an infrastructure fault.

    Two shares have a narrower base: `corrected_to_right` is of the corrected trajectories
    whose first proposal is wrong, `verdict_right` of the verdicts that count. Both are
    left out where their base is empty, and all shares are without a played trajectory.
    """
    played = [t for t in trajectories if t.ending is not Ending.INFRA_FAULT]
    metrics = {
        f"ending_{ending.value}": float(sum(t.ending is ending for t in trajectories))
        for ending in Ending
    }
    if not played:
        return metrics
    repairs = [t for t in played if _is_corrected(t) and t.judgements[0].ex is False]
    verdicts = [
        reward
        for t in played
        for reward in verdict_rewards(t, RewardConfig(verify=1.0))
        if reward is not None
    ]
    shares = {
        "executed": [any(s.calls(ActionName.EXECUTE) for s in t.steps) for t in played],
        "corrected": [_is_corrected(t) for t in played],
        "corrected_to_right": [t.judgements[-1].ex is True for t in repairs],
        "broken_by_correction": [
            _is_corrected(t) and t.judgements[0].ex is True and t.judgements[-1].ex is False
            for t in played
        ],
        "verified": [any(_is_verdict(s) for s in t.steps) for t in played],
        "verdict_right": [reward > 0 for reward in verdicts],
        "verdict_missing": [any(_lacks_verdict(s) for s in t.steps) for t in played],
        "memory_verified": [any(_is_verify(s, "memory") for s in t.steps) for t in played],
        "blind_answer": [_is_blind(t) for t in played],
        "first_right": [bool(t.judgements) and t.judgements[0].ex is True for t in played],
        "right": [bool(t.judgements) and t.judgements[-1].ex is True for t in played],
    }
    for name, flags in shares.items():
        if flags:
            metrics[name] = sum(flags) / len(flags)
    metrics["mean_steps"] = sum(len(t.steps) for t in played) / len(played)
    return metrics


def _is_verify(step: Step, target: str) -> bool:
    return (
        isinstance(step.action, ToolCall)
        and step.action.name is ActionName.VERIFY
        and step.action.target == target
    )


def _is_verdict(step: Step) -> bool:
    return (
        _is_verify(step, "execution")
        and isinstance(step.action, ToolCall)
        and step.action.verdict is not None
    )


def _lacks_verdict(step: Step) -> bool:
    return _is_verify(step, "execution") and not _is_verdict(step)


def _is_corrected(trajectory: Trajectory) -> bool:
    """It replaced its first proposal by a different one at some time."""
    first = trajectory.proposals[:1]
    return any(s.calls(ActionName.CORRECT) for s in trajectory.steps) and any(
        (sql,) != first for sql in trajectory.proposals
    )


def _is_blind(trajectory: Trajectory) -> bool:
    """It answered with a proposal that it never executed."""
    last = len(trajectory.proposals) - 1
    seen = any(
        s.calls(ActionName.EXECUTE) and s.status is not None and s.proposal == last
        for s in trajectory.steps
    )
    return trajectory.ending is Ending.ANSWERED and last >= 0 and not seen
