"""The self-taught rounds of a run side by side: what its summary and its report show."""

import json
from collections.abc import Mapping

from mtsql.errors import DataError
from mtsql.runs.folder import RunFolder
from mtsql.runs.records import RoundProgress
from mtsql.runs.stages import Stage
from mtsql.selftaught.records import Coverage


def rounds_of(run: RunFolder) -> list[RoundProgress]:
    """All rounds with a selection, in order.

    Raises:
        DataError: a selection.json is not what a round writes.
    """
    progress: list[RoundProgress] = []
    solved: dict[str, int] = {}
    items: Mapping[str, int] = {}
    num_learned = 0
    for number in range(1, num_rounds(run) + 1):
        figures = run.round(number).read_selection().figures
        by_hardness = figures.coverage_by_hardness
        if number == 1:
            items = {name: coverage.num_items for name, coverage in by_hardness.items()}
        for name, coverage in by_hardness.items():
            solved[name] = solved.get(name, 0) + coverage.num_solved
        num_learned += figures.funnel.num_kept
        progress.append(
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
    return progress


def num_kept(run: RunFolder, number: int) -> int | None:
    """Trajectories that a round added to the training set; None before its selection.

    Only this number is read, since the whole file can be large and a command asks for every stage.

    Raises:
        DataError: the file is not what a round writes.
    """
    path = run.round(number).selection
    if not path.is_file():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return int(note["figures"]["funnel"]["num_kept"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: names no figures.funnel.num_kept; remove what is there and select again"
        ) from error


def num_rounds(run: RunFolder) -> int:
    """Rounds with a selection."""
    number = 0
    while num_kept(run, number + 1) is not None:
        number += 1
    return number


def is_needless(run: RunFolder, stage: Stage) -> bool:
    """A round's stage after a selection that found nothing new to learn."""
    if stage.round is None:
        return False
    learns_of_it = stage.kind.key in ("fine_tune", "evaluate")
    last = stage.round if learns_of_it else stage.round - 1
    return any(num_kept(run, earlier) == 0 for earlier in range(1, last + 1))
