"""What comes out of an environment's step."""

from dataclasses import dataclass

from mtsql.trajectory.records import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    observation: str | None
    """None if and only if the turn has ended."""
    ending: Ending | None
