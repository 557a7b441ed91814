"""The text of prompts, from a run's data: a trajectory file holds them in tokens only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from actors.rollout.turns import gold_specs
from envs.play import remembered
from envs.turn import TurnEnv
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset
from mtsql.dialogue import Message, PastTurn, TurnSpec
from mtsql.errors import DataError
from mtsql.shown.budget import CountTokens
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Attempt

SpecsByTurn: TypeAlias = Mapping[tuple[str, str], TurnSpec]
"""By (split, turn_id)."""


def specs_by_turn(dataset: Dataset) -> SpecsByTurn:
    """Every turn of the data with its gold history."""
    return {
        (split, spec.turn.turn_id): spec
        for split in dataset.splits
        for spec in gold_specs(dataset, split)
    }


def played_specs(
    path: Path,
    rows: Sequence[Attempt],
    specs: SpecsByTurn,
) -> Iterator[TurnSpec]:
    """The turn of each row of one file, with the history that it had.

    Raises:
        DataError: a turn is not in the data, or remembers answers that the file does not hold.
    """
    answers: dict[tuple[str, int], PastTurn] = {}
    found: list[TurnSpec] = []
    for row in rows:
        turn_id = row.trajectory.turn_id
        if (row.label.split, turn_id) not in specs:
            raise DataError(
                f"{path}: {turn_id} is not in split {row.label.split!r} of the run's data; bring "
                "back the data that it was played on"
            )
        spec = specs[row.label.split, turn_id]
        found.append(spec)
        if row.label.history_mode == "predicted":
            answers[spec.dialogue_id, spec.turn_index] = remembered(spec, row.trajectory)
    for row, spec in zip(rows, found, strict=True):
        if row.label.history_mode == "gold":
            yield spec
            continue
        before = [(spec.dialogue_id, index) for index in range(spec.turn_index)]
        if any(one not in answers for one in before):
            raise DataError(
                f"{path}: {spec.turn.turn_id} remembers answers that the file does not hold; "
                "export a file with whole dialogues"
            )
        yield replace(spec, history=tuple(answers[one] for one in before))


async def prompts_of(
    config: RunConfig,
    dataset: Dataset,
    specs: Sequence[TurnSpec],
    count_tokens: CountTokens,
) -> list[list[Message]]:
    """The first messages of each turn; they may show values of the database."""
    made: dict[tuple[str, tuple[PastTurn, ...]], list[Message]] = {}
    async with LocalPool(dataset.databases, **config.sql.pool()) as pool:
        for spec in specs:
            key = spec.turn.turn_id, spec.history
            if key not in made:
                env = TurnEnv(
                    spec,
                    pool,
                    config.environment,
                    config.sql.limits(),
                    count_tokens=count_tokens,
                )
                made[key] = await env.start()
    return [made[spec.turn.turn_id, spec.history] for spec in specs]
