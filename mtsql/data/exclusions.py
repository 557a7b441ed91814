"""Turns that a recipe leaves out of training, from a file of JSON lines."""

from pathlib import Path

from pydantic import BaseModel, NonNegativeInt, ValidationError

from mtsql.data.dataset import Dataset
from mtsql.errors import DataError, first_mistake
from mtsql.files import read_text


class Exclusion(BaseModel, frozen=True, extra="ignore", use_attribute_docstrings=True):
    """One line; further keys, such as those of a finding of `mtsql data audit`, say why."""

    dialogue_id: str
    turn: NonNegativeInt
    """From 0, as the last part of the turn's id."""


def read_exclusions(path: Path, dataset: Dataset) -> frozenset[str]:
    """The turn_ids that a file names.

    Raises:
        DataError: the file is missing, a line is something else, or names no turn of the dataset;
            the text names file and line.
    """
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"data.exclude {error}") from error
    turns = {
        dialogue.dialogue_id: {turn.turn_id for turn in dialogue.turns}
        for dialogues in dataset.splits.values()
        for dialogue in dialogues
    }
    found: set[str] = set()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"data.exclude {path}, line {number}"
        try:
            entry = Exclusion.model_validate_json(line)
        except ValidationError as error:
            raise DataError(
                f'{where}: {first_mistake(error)}; write {{"dialogue_id": ..., "turn": 0}}'
            ) from error
        if entry.dialogue_id not in turns:
            raise DataError(
                f"{where}: no dialogue {entry.dialogue_id!r} in {dataset.folder}; remove the line"
            )
        turn_id = f"{entry.dialogue_id}/{entry.turn}"
        if turn_id not in turns[entry.dialogue_id]:
            raise DataError(
                f"{where}: dialogue {entry.dialogue_id!r} has no turn {entry.turn} in "
                f"{dataset.folder}; remove the line"
            )
        found.add(turn_id)
    return frozenset(found)
