"""The self-taught rounds of a run side by side: what its summary and its report show."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from mtsql.runs.stages import num_rounds, round_folder
from mtsql.selftaught.records import Behaviour, Coverage, Funnel, read_selection


class RoundProgress(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One round's sampling and selection; coverage counts all rounds up to this one."""

    round: int
    coverage: Coverage
    """Items with a right trajectory in this or an earlier round, of all items of the first one."""
    coverage_by_hardness: dict[str, Coverage]
    num_sampled_items: int
    """Unsolved before this round."""
    funnel: Funnel
    scored: Behaviour
    """All scored samples of the round."""
    kept: Behaviour
    num_learned: int
    """Trajectories kept in this and the earlier rounds: the training set."""


def rounds_of(run_folder: Path) -> list[RoundProgress]:
    """All rounds with a selection, in order.

    Raises:
        DataError: a selection.json is not what a round writes.
    """
    found: list[RoundProgress] = []
    solved: dict[str, int] = {}
    items: Mapping[str, int] = {}
    num_learned = 0
    for number in range(1, num_rounds(run_folder) + 1):
        figures = read_selection(round_folder(run_folder, number) / "selection.json").figures
        by_hardness = figures.coverage_by_hardness
        if number == 1:
            items = {name: one.num_items for name, one in by_hardness.items()}
        for name, one in by_hardness.items():
            solved[name] = solved.get(name, 0) + one.num_solved
        num_learned += figures.funnel.num_kept
        found.append(
            RoundProgress(
                round=number,
                coverage=Coverage(num_items=sum(items.values()), num_solved=sum(solved.values())),
                coverage_by_hardness={
                    name: Coverage(num_items=count, num_solved=solved[name])
                    for name, count in items.items()
                },
                num_sampled_items=figures.coverage.num_items,
                funnel=figures.funnel,
                scored=figures.scored,
                kept=figures.kept,
                num_learned=num_learned,
            )
        )
    return found
