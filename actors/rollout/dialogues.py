"""Whole dialogues, turn by turn: what memory holds is gold or what the model answered before."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from actors.rollout.play import Sample
from actors.rollout.player import Player
from envs.play import remembered
from mtsql.dialogue import Dialogue, PastTurn, TurnSpec, turn_specs
from mtsql.schema import Schema
from mtsql.trajectory.attempt import Attempt, Label


async def play_dialogue(
    dialogue: Dialogue, schema: Schema, player: Player, sample: Sample, label: Label
) -> list[Attempt]:
    """All turns of one dialogue, each in its own group.

    With predicted history a turn waits for the one before it and remembers the agent's own SQL;
    with gold history the turns do not depend on each other and run together.
    """

    async def one(spec: TurnSpec) -> Attempt:
        group = f"{spec.turn.turn_id}/{label.history_mode}"
        return await player.attempt(spec, sample, label=label, group=group)

    specs = turn_specs(dialogue, schema)
    if label.history_mode == "gold":
        return list(await asyncio.gather(*map(one, specs)))
    attempts: list[Attempt] = []
    past: tuple[PastTurn, ...] = ()
    for spec in specs:
        attempt = await one(replace(spec, history=past))
        attempts.append(attempt)
        past = (*past, remembered(spec, attempt.trajectory))
    return attempts


async def play_dialogues(
    dialogues: Sequence[tuple[Dialogue, Label]],
    schemas: Mapping[str, Schema],
    player: Player,
    sample: Sample,
    *,
    max_concurrent: int,
    progress: Callable[[int, int], None],
) -> list[list[Attempt]]:
    """The attempts of each dialogue, in the given order.

    Args:
        schemas: by database.
        max_concurrent: dialogues that play at the same time.
        progress: called with (dialogues done, dialogues in all).
    """
    slots = asyncio.Semaphore(max_concurrent)
    num_done = 0

    async def one(dialogue: Dialogue, label: Label) -> list[Attempt]:
        nonlocal num_done
        async with slots:
            attempts = await play_dialogue(dialogue, schemas[dialogue.db_id], player, sample, label)
        num_done += 1
        progress(num_done, len(dialogues))
        return attempts

    return list(await asyncio.gather(*(one(*pair) for pair in dialogues)))
