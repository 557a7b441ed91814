"""What a trajectory earned, each reward where it was earned."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum
from typing import Literal

Attribution = Literal["steps", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The outcome reward of a trajectory, and the process rewards of its steps by kind.

    Example: propose, execute, verify(execution, pass), answer; EX and EM hold, weights 1, 1, 0.1
        outcome       2.0
        parts         verify      None  None  0.1   None
                      generation  0.0   None  None  None
        total         2.1
        step_rewards  0.0  0.0  0.1  2.0
    """

    outcome: float
    parts: Mapping[str, tuple[float | None, ...]]
    """Weighted process rewards by kind, one entry for each step: None is not judged, 0.0 is judged.
    A message that judges and answers has both, its part here and the outcome there."""
    attribution: Attribution = "steps"
    """`last`: one number for the trajectory; in every mode its advantage comes from the total."""

    def __post_init__(self) -> None:
        lengths = {len(part) for part in self.parts.values()}
        if len(lengths) != 1:
            raise ValueError(f"parts differ in length, or there are none: {sorted(lengths)}")

    @property
    def num_steps(self) -> int:
        return len(next(iter(self.parts.values())))

    @property
    def total(self) -> float:
        given = [one for part in self.parts.values() for one in part if one is not None]
        return fsum([self.outcome, *given])

    @property
    def step_rewards(self) -> tuple[float, ...]:
        """For display: the sum of each step's parts, with the outcome added to the last step."""
        if not self.num_steps:
            return ()
        if self.attribution == "last":
            return (0.0,) * (self.num_steps - 1) + (self.total,)
        *before, last = zip(*self.parts.values(), strict=True)
        return (
            *(fsum(one or 0.0 for one in earned) for earned in before),
            fsum([self.outcome, *(one or 0.0 for one in last)]),
        )
