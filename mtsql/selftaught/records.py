"""What selection decided: RUN/rounds/N/selection.json."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mtsql.config.learning import SelectionConfig
from mtsql.files import read_record, write_whole

Rule = Literal["short", "long"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KeptRow(_Record):
    """Where a kept trajectory lies."""

    file: str
    """Name of a Parquet file in the folder of the samples."""
    row: int
    """From 0."""


class ItemSelection(_Record):
    """One item: how its samples did and which of them are learned."""

    turn_id: str
    dialogue_id: str
    hardness: str
    num_samples: int
    num_unscored: int
    """Of them: faults of the machinery, neither right nor wrong."""
    num_valid: int
    rule: Rule | None
    """None: unsolved."""
    num_preferred: int
    """Valid ones of the kind that the rule prefers, else all valid ones."""
    num_distinct: int
    """Of them, without near-duplicates."""
    kept: tuple[KeptRow, ...]

    @property
    def is_solved(self) -> bool:
        return self.num_valid > 0

    @property
    def num_scored(self) -> int:
        return self.num_samples - self.num_unscored

    @property
    def pass_rate(self) -> float | None:
        """Valid ones of the scored; None: nothing is scored."""
        return self.num_valid / self.num_scored if self.num_scored else None


class Coverage(_Record):
    num_items: int
    num_solved: int

    @property
    def share(self) -> float | None:
        return self.num_solved / self.num_items if self.num_items else None


class Funnel(_Record):
    """Trajectories, from all that were sampled to those that are learned."""

    num_samples: int
    num_unscored: int
    num_valid: int
    num_preferred: int
    num_duplicates: int
    """Removed from the preferred ones."""
    num_kept: int


class Behaviour(_Record):
    """Of some trajectories; None without any."""

    num_trajectories: int
    mean_steps: float | None
    mean_interactions: float | None
    mean_tokens: float | None
    """Of the response, observations included."""
    share_correcting: float | None
    """What they would have answered without a correction is wrong under EX, the answer right."""


class SelectionFigures(_Record):
    """A round of sampling and selection in numbers."""

    coverage: Coverage
    coverage_by_hardness: dict[str, Coverage]
    """easy, medium, hard, extra, as far as there are items."""
    share_valid: float | None
    """Of the scored samples; None: nothing is scored."""
    funnel: Funnel
    scored: Behaviour
    """All scored samples."""
    kept: Behaviour


class Selection(_Record):
    """The decision on every item."""

    config: SelectionConfig
    figures: SelectionFigures
    items: tuple[ItemSelection, ...]
    """By turn_id."""

    def pass_rates(self) -> dict[str, float]:
        """By turn_id, of the items with a scored sample."""
        rates = {item.turn_id: item.pass_rate for item in self.items}
        return {turn_id: rate for turn_id, rate in rates.items() if rate is not None}

    def solved(self) -> frozenset[str]:
        """turn_id of the solved items."""
        return frozenset(item.turn_id for item in self.items if item.is_solved)

    def write(self, path: Path) -> Path:
        """Write the file whole or not at all."""
        return write_whole(path, self.model_dump_json())


def read_selection(path: Path) -> Selection:
    """What `Selection.write` wrote.

    Raises:
        DataError: no file, or one that holds something else.
    """
    return read_record(path, Selection, fix="remove what is there and select again")
