"""What is known of each step of a trajectory: values with their source and confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mtsql.trajectory.records import Ending, Trajectory

Source = Literal["rule", "outcome", "rollouts", "groups"]
"""`rule`: certified by what gold says of the step's proposal or view. `outcome`: the trajectory has
ended here, and was right or wrong. `rollouts`: completions drawn from the state after the step.
`groups`: stored trajectories of the same turn that begin alike. Of equally confident sources the
first one here counts."""
SOURCES: tuple[Source, ...] = get_args(Source)
CONFIDENT_FROM = 0.8
"""Confidence from which a label can judge a score: certain, or at least four completions."""
PRIOR_COUNT = 1.0
"""Imagined trajectories that have the share of the step before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLabel:
    """One source's word on one step."""

    source: Source
    value: float
    """Probability that the step is good: that a proposal is right, that the state ends right."""
    confidence: float
    """1: certain. Of a share among n trajectories n / (n + PRIOR_COUNT)."""


Labels = tuple[StepLabel, ...]
"""Of one step, one from each source that knows something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One trajectory's labels; its own row of the file of trajectories says the rest."""

    is_right: bool | None
    """Its answer's execution match; None: a fault, or gold does not run, and no step has labels."""
    steps: tuple[Labels, ...]


def is_right(trajectory: Trajectory) -> bool | None:
    """Whether it has ended with the right answer; None: not judged."""
    if trajectory.ending is Ending.INFRA_FAULT:
        return None
    return trajectory.judgements[-1].ex if trajectory.judgements else False


def outcome_label(trajectory: Trajectory, end: bool) -> StepLabel:
    """Of the last step. Two results without a row match, and it says little: confidence 0.5."""
    is_empty = bool(trajectory.judgements) and trajectory.judgements[-1].is_empty
    return StepLabel(source="outcome", value=float(end), confidence=0.5 if is_empty else 1.0)


def counted(num_right: float, num: int, before: float) -> tuple[float, float]:
    """(value, confidence) of a share, smoothed towards the value of the step before.

    Example: 3 right of 4, 0.5 before -> (3 + 0.5) / (4 + 1) = 0.7, confidence 4 / 5 = 0.8
    """
    value = (num_right + PRIOR_COUNT * before) / (num + PRIOR_COUNT)
    return value, num / (num + PRIOR_COUNT)


def chosen(labels: Sequence[StepLabel]) -> StepLabel | None:
    """The label that counts: the most confident one, and of equals the first in SOURCES."""
    return min(labels, key=lambda one: (-one.confidence, SOURCES.index(one.source)), default=None)
