"""Partial scores over many pairs, as the official table shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtsql.evaluation.em.match import COMPONENTS, Component


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialScore:
    """One component over many pairs; shares are 0..1."""

    accuracy: float
    """Share of matches among the predictions that have the component."""
    recall: float
    """Share of matches among the golds that have it."""
    f1: float
    """1 when both are 0, as in the official table."""


def partial_scores(pairs: Sequence[Mapping[str, Component]]) -> dict[str, PartialScore]:
    """Scores by component, for pairs whose gold is in Spider's subset.

    Example: of two golds with ORDER BY one is met, and one prediction has it without need:
    accuracy 1/2, recall 1/2.
    """
    return {name: _score([pair[name] for pair in pairs]) for name in COMPONENTS}


def _score(found: Sequence[Component]) -> PartialScore:
    accuracy = _share([one.is_match for one in found if one.num_pred])
    recall = _share([one.is_match for one in found if one.num_gold])
    f1 = 2 * accuracy * recall / (accuracy + recall) if accuracy or recall else 1.0
    return PartialScore(accuracy=accuracy, recall=recall, f1=f1)


def _share(matches: Sequence[bool]) -> float:
    return sum(matches) / len(matches) if matches else 0.0
