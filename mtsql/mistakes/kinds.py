"""The mistakes that scripts make on purpose, and what becomes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, PositiveInt

from mtsql.rewards.abilities import ability_metrics
from mtsql.trajectory.records import Trajectory


class Mistake(StrEnum):
    WRONG_CASE = "wrong_case"
    """A text value in another case than the stored one."""
    WRONG_COLUMN = "wrong_column"
    """A column that no table of the query has."""
    MISSING_JOIN = "missing_join"
    """Columns of a table that the query does not join."""
    EMPTY_RESULT = "empty_result"
    """A condition with a value that is stored nowhere."""
    DROPPED_CONDITION = "dropped_condition"
    """A condition of the dialogue is forgotten."""
    FAN_OUT = "fan_out"
    """A view joins a table that it does not need, and rows are repeated."""
    LOST_FILTER = "lost_filter"
    """A view that is to filter another one keeps all of its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """A scripted trajectory and what happened in it.

    Example: the first of two proposals writes 'Rome' for 'ROME'; its empty result is looked at
        made, noticed, repaired    {WRONG_CASE}, each
    """

    trajectory: Trajectory
    made: frozenset[Mistake]
    """They stand in one of its proposals."""
    noticed: frozenset[Mistake]
    """Of these: an observation showed their effect."""
    repaired: frozenset[Mistake]
    """Of these: the last proposal is free of them."""


class MistakeCounts(BaseModel, frozen=True, use_attribute_docstrings=True):
    """What becomes of one kind, in numbers of trajectories."""

    made: PositiveInt
    share: float
    """Of all trajectories."""
    noticed: int
    repaired: int
    right: int
    """Their answer matches gold's result."""


class ScriptFacts(BaseModel, frozen=True, use_attribute_docstrings=True):
    """What scripted trajectories hold; as part of facts.json."""

    mistakes: dict[str, MistakeCounts] = {}
    """By kind; a trajectory can hold several. `none`: those without any."""
    shares: dict[str, float] = {}
    """Of the trajectories: what they do, named as in `ability_metrics`."""


SHARES = (
    "executed",
    "verified",
    "memory_verified",
    "corrected",
    "corrected_to_right",
    "first_right",
    "right",
)


def script_facts(scripted: Sequence[Scripted]) -> ScriptFacts:
    """Counted from what happened, not from what was drawn."""
    counts: dict[str, MistakeCounts] = {}
    for kind in (*Mistake, None):
        found = [one for one in scripted if (kind in one.made if kind else not one.made)]
        if found:
            counts[kind or "none"] = MistakeCounts(
                made=len(found),
                share=len(found) / len(scripted),
                noticed=sum(kind in one.noticed for one in found),
                repaired=sum(kind in one.repaired for one in found),
                right=sum(_is_right(one.trajectory) for one in found),
            )
    metrics = ability_metrics([one.trajectory for one in scripted])
    return ScriptFacts(
        mistakes=counts, shares={name: metrics[name] for name in SHARES if name in metrics}
    )


def _is_right(trajectory: Trajectory) -> bool:
    return bool(trajectory.judgements) and trajectory.judgements[-1].ex is True
