"""Values for nothing: stored trajectories of one turn share prefixes, so they form a tree."""

from collections import Counter
from collections.abc import Sequence

from mtsql.prm.labels import Labelled, StepLabel, counted, is_right, outcome_label
from mtsql.trajectory.attempt import Attempt

Node = tuple[object, ...]
"""A place in the tree of a group: the group, the prompt, and all ids up to there."""


def group_labels(attempts: Sequence[Attempt]) -> list[Labelled]:
    """Each step's value: the share of right ends among the trajectories that pass it.

    The share is smoothed towards that of the step before, and the first one's towards its group's,
    and that towards one half. The last step of a trajectory is no share: how it ended is known.

    Example: three trajectories of a group begin with step a, and two of them go on with b; of the
    steps c, d and e, which end them, c is right
        root    1 of 3         (1 + 0.5) / 4 = 0.375
        a       1 of 3         (1 + 0.375) / 4 = 0.344
        a b     1 of 2         (1 + 0.344) / 3 = 0.448
        a b c   right          1
        a b d, a e   wrong     0

    Returns:
        One for each attempt; without labels where it was not judged.
    """
    right: Counter[Node] = Counter()
    passing: Counter[Node] = Counter()
    ends = [is_right(attempt.trajectory) for attempt in attempts]
    for attempt, end in zip(attempts, ends, strict=True):
        if end is not None:
            for node in _nodes(attempt):
                right[node] += end
                passing[node] += 1
    return [
        Labelled(is_right=end, steps=() if end is None else _steps(attempt, end, right, passing))
        for attempt, end in zip(attempts, ends, strict=True)
    ]


def _nodes(attempt: Attempt) -> list[Node]:
    """The root, and the state behind each step."""
    tokens = attempt.tokens
    root = (attempt.group, tokens.prompt_ids)
    return [root, *((*root, tokens.response_ids[:stop]) for stop in tokens.step_stops)]


def _steps(
    attempt: Attempt, end: bool, right: Counter[Node], passing: Counter[Node]
) -> tuple[tuple[StepLabel, ...], ...]:
    before = 0.5
    labels: list[tuple[StepLabel, ...]] = []
    for node in _nodes(attempt):
        before, confidence = counted(right[node], passing[node], before)
        labels.append((StepLabel(source="groups", value=before, confidence=confidence),))
    if len(labels) > 1:
        labels[-1] = (outcome_label(attempt.trajectory, end),)
    return tuple(labels[1:])
