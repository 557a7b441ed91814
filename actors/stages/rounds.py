"""The stages of a self-taught round; each reads what the one before it wrote."""

import asyncio
import json
from dataclasses import asdict
from random import Random
from typing import TYPE_CHECKING

from actors.rollout.turns import gold_specs, load_run_data
from mtsql.config.learning import SelfTaughtConfig
from mtsql.data.dataset import Dataset
from mtsql.dialogue import TurnSpec
from mtsql.files import write_whole
from mtsql.runs.stages import round_folder
from mtsql.selftaught.records import read_selection
from mtsql.selftaught.samples import read_samples
from mtsql.selftaught.selection import load_selected, select
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.store import (
    read_rows,
    read_trajectories,
    write_trajectories,
)

if TYPE_CHECKING:
    from actors.stages.__main__ import StageContext

SAMPLES = "samples"
SELECTION = "selection.json"
SELECTED = "selected.parquet"


def drawn_items(specs: list[TurnSpec], taught: SelfTaughtConfig, seed: int) -> list[TurnSpec]:
    """The training turns of every round, in the order of the dataset."""
    if taught.max_items is None or taught.max_items >= len(specs):
        return specs
    numbers = Random(f"{seed}/items").sample(range(len(specs)), taught.max_items)
    return [specs[number] for number in sorted(numbers)]


def unsolved_items(context: "StageContext", number: int, dataset: Dataset) -> list[TurnSpec]:
    """The items that no round before `number` has solved."""
    solved: set[str] = set()
    for earlier in range(1, number):
        solved |= read_selection(round_folder(context.folder, earlier) / SELECTION).solved()
    items = drawn_items(gold_specs(dataset, "train"), _taught(context), context.config.seed)
    return [item for item in items if item.turn.turn_id not in solved]


def sample_stage(context: "StageContext", number: int) -> None:
    """Every trajectory of the round, by the policy that the round before has made."""
    from actors.rollout.sampling import sample_round

    dataset = load_run_data(context.config)
    items, out = unsolved_items(context, number, dataset), round_folder(context.folder, number)
    if not items:
        # All is solved: a round without samples, which keeps nothing.
        write_trajectories(out / SAMPLES / "00000.parquet", [])
        return
    asyncio.run(
        sample_round(
            context.round_model(number - 1),
            context.config,
            context.device,
            dataset,
            items,
            out / SAMPLES,
            round_number=number,
            progress=lambda done, total: context.report("samples", done, total, "trajectories"),
        )
    )


def select_stage(context: "StageContext", number: int) -> None:
    """What the round adds to the training set."""
    folder, selection_config = round_folder(context.folder, number), _taught(context).selection
    embedder = None
    if selection_config.embedder is not None:
        from actors.sentence_embedder import SentenceEmbedder

        device = "cuda" if context.device == "gpu" else "cpu"
        embedder = SentenceEmbedder(selection_config.embedder, device=device)
    selection = select(
        folder / SAMPLES,
        selection_config,
        embedder=embedder,
        progress=lambda done, total: context.report("files read", done, total, "files"),
    )
    write_trajectories(folder / SELECTED, load_selected(folder / SAMPLES, selection))
    # Last: its presence says that the trajectories are there.
    selection.write(folder / SELECTION)


def fine_tune_stage(context: "StageContext", number: int) -> None:
    """The round's policy, from all that was kept so far."""
    from actors.learner.sft_rows import stored_rows, write_rows
    from actors.stages.checkpoints import fine_tune

    taught, folder = _taught(context), round_folder(context.folder, number)
    note = folder / "facts.json"
    if not note.exists():
        rows = [
            row
            for one in range(1, number + 1)
            for row in stored_rows(read_trajectories(round_folder(context.folder, one) / SELECTED))
        ]
        rows += stored_rows(replayed(context, number, round(taught.replay * len(rows))))
        facts = write_rows(rows, folder, taught.fine_tune, seed=context.config.seed)
        # Last: its presence says that the rows are whole.
        write_whole(note, json.dumps(asdict(facts), indent=1))
    fine_tune(
        context.config,
        taught.fine_tune,
        context.device,
        context.round_model(number - 1 if taught.init == "last" else 0),
        folder,
        context.folder / "metrics" / f"round_{number}.jsonl",
        progress=context.report,
    )


def replayed(context: "StageContext", number: int, num_drawn: int) -> list[Attempt]:
    """Scripted trajectories to learn again, drawn by seed and round, in their order.

    Only right ones that looked, by the rule for short trajectories: a replay of blind answers would
    undo what the rounds teach. Each is learned whole, as the kept ones are, with a first proposal
    that had to be corrected; so are drills, of which the warm start learned the corrections only.
    """
    if not num_drawn:
        return []
    path = context.folder / "warm_start" / "scripted.parquet"
    least = _taught(context).selection.short_from
    right = [
        one.row for one in read_samples(path) if one.is_valid and one.num_interactions >= least
    ]
    draws = Random(f"{context.config.seed}/replay/{number}")
    return read_rows(path, sorted(draws.sample(right, min(num_drawn, len(right)))))


PARTS = {"sample": sample_stage, "select": select_stage, "fine_tune": fine_tune_stage}


def _taught(context: "StageContext") -> SelfTaughtConfig:
    taught = context.config.selftaught
    assert taught is not None
    return taught
