"""What a policy can do and does, counted over finished trajectories."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from mtsql.config.reward import RewardConfig
from mtsql.protocol import ActionName, ToolCall, VerifyTarget
from mtsql.query.match import ClauseMatch
from mtsql.rewards.verdicts import execution_values, memory_values
from mtsql.trajectory.records import Ending, Step, Trajectory, calls_of


def ability_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Shares of the trajectories without an infrastructure fault, and means over them.

    First is what would have been the answer had nothing been corrected: the first proposal, or in
    a dialect of views the chain as it stood then. Corrected means that other SQL took its place.

    Some have a narrower base, and are left out where it is empty:

        corrected_to_right    corrected trajectories whose first answer is wrong
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
    repairs = [t for t in played if t.is_corrected and _first_ex(t) is False]
    by_gold = RewardConfig()
    verdicts = [one for t in played for one in execution_values(t, by_gold) if one is not None]
    of_memory = [one for t in played for one in memory_values(t, by_gold) if one is not None]
    return {
        "executed": [any(s.calls(ActionName.EXECUTE) for s in t.steps) for t in played],
        "corrected": [t.is_corrected for t in played],
        "corrected_to_right": [t.judgements[-1].ex is True for t in repairs],
        "broken_by_correction": [
            t.is_corrected and _first_ex(t) is True and t.judgements[-1].ex is False for t in played
        ],
        "verified": [any(_is_verdict(s) for s in t.steps) for t in played],
        "verdict_right": [value > 0 for value in verdicts],
        "verdict_missing": [any(_lacks_verdict(s) for s in t.steps) for t in played],
        "memory_verified": [any(_verifies(s, "memory") for s in t.steps) for t in played],
        "memory_verdict_right": [value > 0 for value in of_memory],
        "parse_rate": [match.is_parsed for t in played for match in t.matches],
        "blind_answer": [_is_blind(t) for t in played],
        "first_right": [_first_ex(t) is True for t in played],
        "right": [bool(t.judgements) and t.judgements[-1].ex is True for t in played],
        "mended": [_first_ex(t) is False and t.judgements[-1].ex is True for t in played],
    }


def _numbers(played: Sequence[Trajectory]) -> dict[str, list[float]]:
    ends = [
        (t, t.matches[t.first_answer], t.matches[-1])
        for t in played
        if t.matches and t.first_answer is not None
    ]
    return {
        "first_f1": _known(first for _, first, _ in ends),
        "final_f1": _known(last for _, _, last in ends),
        "improvement": [
            last.f1 - first.f1
            for t, first, last in ends
            if t.is_corrected and first.f1 is not None and last.f1 is not None
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


def _first_ex(trajectory: Trajectory) -> bool | None:
    """EX of the first answer; None without one, or where it is unknown."""
    first = trajectory.first_answer
    return trajectory.judgements[first].ex if trajectory.judgements and first is not None else None


def _is_blind(trajectory: Trajectory) -> bool:
    """It answered with a proposal that it never executed."""
    last = len(trajectory.proposals) - 1
    seen = any(
        s.calls(ActionName.EXECUTE) and s.result_class is not None and s.proposal == last
        for s in trajectory.steps
    )
    return trajectory.ending is Ending.ANSWERED and last >= 0 and not seen
