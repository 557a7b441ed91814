"""From labels to what is learned: a soft target and a weight at each mark."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from mtsql.prm.form import StepText
from mtsql.prm.labels import Labelled, chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is learned at one mark."""

    position: int
    """Of the mark in the text."""
    value: float
    """The good label's probability."""
    weight: float
    """The label's confidence."""


def targets_of(text: StepText, labelled: Labelled, *, outcome: bool) -> list[Target]:
    """The labelled marks of a text; cut ones are left out.

    Args:
        outcome: the last mark alone, with how the trajectory ended.
    """
    if labelled.is_right is None or not text.positions:
        return []
    if outcome:
        last = text.positions[-1]
        value = float(labelled.is_right)
        return [] if last is None else [Target(position=last, value=value, weight=1.0)]
    found: list[Target] = []
    for position, labels in zip(text.positions, labelled.steps, strict=True):
        label = chosen(labels)
        if position is not None and label is not None:
            found.append(Target(position=position, value=label.value, weight=label.confidence))
    return found


def balanced(targets: Sequence[Sequence[Target]]) -> list[list[tuple[float, float]]]:
    """Of each mark the weights of both labels in the loss -(g log p + b log(1 - p)).

    Over all marks, good and bad weigh the same, and a mark weighs 1 in the mean.

    Example: values 1, 0 and 0, all of weight 1: the good one weighs 1.5, each bad one 0.75
        [(1.5, 0.0), (0.0, 0.75), (0.0, 0.75)]

    Raises:
        ValueError: no good or no bad label.
    """
    flat = [one for row in targets for one in row]
    good = fsum(one.weight * one.value for one in flat)
    bad = fsum(one.weight * (1 - one.value) for one in flat)
    for name, total in (("good", good), ("bad", bad)):
        if total <= 0:
            raise ValueError(f"no {name} label among {len(flat)} steps")
    half = len(flat) / 2
    return [
        [
            (half / good * one.weight * one.value, half / bad * one.weight * (1 - one.value))
            for one in row
        ]
        for row in targets
    ]
