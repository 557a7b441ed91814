"""What a policy can do and does, counted over finished trajectories."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from mtsql.config.reward import RewardConfig
from mtsql.protocol import ActionName, ToolCall, VerifyTarget
from mtsql.query.match import ClauseMatch
from mtsql.query.same import first_uses
from mtsql.rewards.verdicts import execution_values, memory_values
from mtsql.trajectory.records import Ending, Step, Trajectory, calls_of


def ability_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Shares of the trajectories without an infrastructure fault, and means over them.

    Some have a narrower base, and are left out where it is empty:

        corrected_to_right    corrected trajectories whose first proposal is wrong
        verdict_right         execution verdicts that count; gold is the measure
        memory_verdict_right  memory verdicts that count; the measured coherence is
        parse_rate            all proposals: one query that can be read
        first_f1, final_f1    trajectories whose gold can be read: clause F1 of their proposal
        improvement           those of them that were corrected: final F1 minus first F1
        coherence             as final_f1, with values
    """
    played = [t for t in trajectories if t.ending is not Ending.INFRA_FAULT]
    metrics = {
        f"ending_{ending.value}": float(sum(t.ending is ending for t in trajectories))
        for ending in Ending
    }
    if not played:
        return metrics
    for name, flags in _shares(played).items():
        if flags:
            metrics[name] = sum(flags) / len(flags)
    for name, numbers in _numbers(played).items():
        if numbers:
            metrics[name] = fmean(numbers)
    metrics["mean_steps"] = sum(len(t.steps) for t in played) / len(played)
    return metrics


def _shares(played: Sequence[Trajectory]) -> dict[str, list[bool]]:
    repairs = [t for t in played if _is_corrected(t) and t.judgements[0].ex is False]
    by_gold = RewardConfig()
    verdicts = [one for t in played for one in execution_values(t, by_gold) if one is not None]
    of_memory = [one for t in played for one in memory_values(t, by_gold) if one is not None]
    return {
        "executed": [any(s.calls(ActionName.EXECUTE) for s in t.steps) for t in played],
        "corrected": [_is_corrected(t) for t in played],
        "corrected_to_right": [t.judgements[-1].ex is True for t in repairs],
        "broken_by_correction": [
            _is_corrected(t) and t.judgements[0].ex is True and t.judgements[-1].ex is False
            for t in played
        ],
        "verified": [any(_is_verdict(s) for s in t.steps) for t in played],
        "verdict_right": [value > 0 for value in verdicts],
        "verdict_missing": [any(_lacks_verdict(s) for s in t.steps) for t in played],
        "memory_verified": [any(_verifies(s, "memory") for s in t.steps) for t in played],
        "memory_verdict_right": [value > 0 for value in of_memory],
        "parse_rate": [match.is_parsed for t in played for match in t.matches],
        "blind_answer": [_is_blind(t) for t in played],
        "first_right": [bool(t.judgements) and t.judgements[0].ex is True for t in played],
        "right": [bool(t.judgements) and t.judgements[-1].ex is True for t in played],
        "mended": [
            bool(t.judgements) and t.judgements[0].ex is False and t.judgements[-1].ex is True
            for t in played
        ],
    }


def _numbers(played: Sequence[Trajectory]) -> dict[str, list[float]]:
    ends = [(t, t.matches[0], t.matches[-1]) for t in played if t.matches]
    return {
        "first_f1": _known(first for _, first, _ in ends),
        "final_f1": _known(last for _, _, last in ends),
        "improvement": [
            last.f1 - first.f1
            for t, first, last in ends
            if len(set(first_uses(t.proposals))) > 1
            and first.f1 is not None
            and last.f1 is not None
        ],
        "coherence": [last.coherence for _, _, last in ends if last.coherence is not None],
    }


def _known(matches: Iterable[ClauseMatch]) -> list[float]:
    return [match.f1 for match in matches if match.f1 is not None]


def _verifies(step: Step, target: VerifyTarget) -> list[ToolCall]:
    return [
        call for call in calls_of(step) if call.name is ActionName.VERIFY and call.target == target
    ]


def _is_verdict(step: Step) -> bool:
    return any(call.verdict is not None for call in _verifies(step, "execution"))


def _lacks_verdict(step: Step) -> bool:
    """A verdict was called for, by the observation before or by the call itself, and not given."""
    return step.lacks_verdict or any(call.verdict is None for call in _verifies(step, "execution"))


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
