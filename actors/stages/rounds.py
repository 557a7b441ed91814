"""The stages of a self-taught round; each reads what the one before it wrote."""

import asyncio
import logging
from random import Random

from actors.rollout.turns import load_run_data, training_specs
from actors.stages.context import StageContext
from mtsql.config.learning import SelfTaughtConfig
from mtsql.data.dataset import Dataset
from mtsql.dialogue import TurnSpec
from mtsql.files import write_record
from mtsql.runs.stages import round_policy
from mtsql.selftaught.samples import read_samples
from mtsql.selftaught.selection import load_selected, select
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.store import (
    read_rows,
    read_trajectories,
    write_trajectories,
)

logger = logging.getLogger(__name__)


def drawn_items(specs: list[TurnSpec], taught: SelfTaughtConfig, seed: int) -> list[TurnSpec]:
    """The training turns of every round, in the order of the dataset."""
    if taught.max_items is None or taught.max_items >= len(specs):
        return specs
    numbers = Random(f"{seed}/items").sample(range(len(specs)), taught.max_items)
    return [specs[number] for number in sorted(numbers)]


def unsolved_items(context: StageContext, number: int, dataset: Dataset) -> list[TurnSpec]:
    """The items that no round before `number` has solved."""
    solved: set[str] = set()
    for earlier in range(1, number):
        solved |= context.run.round(earlier).read_selection().solved()
    specs = training_specs(context.config, dataset)
    items = drawn_items(specs, context.taught, context.config.seed)
    return [item for item in items if item.turn.turn_id not in solved]


def sample_stage(context: StageContext, number: int) -> None:
    """Every trajectory of the round, by the policy that the round before has made."""
    from actors.rollout.sampling import sample_round

    dataset = load_run_data(context.config)
    items, samples = unsolved_items(context, number, dataset), context.run.round(number).samples
    logger.info("round samples", extra={"round": number, "unsolved": len(items)})
    if not items:
        # All is solved: a round without samples, which keeps nothing.
        write_trajectories(samples / "00000.parquet", [])
        return
    asyncio.run(
        sample_round(
            context.round_model(number - 1),
            context.config,
            context.device,
            dataset,
            items,
            samples,
            round_number=number,
            progress=lambda done, total: context.report("samples", done, total, "trajectories"),
        )
    )


def select_stage(context: StageContext, number: int) -> None:
    """What the round adds to the training set."""
    folder, selection_config = context.run.round(number), context.taught.selection
    embedder = None
    if selection_config.embedder is not None:
        from actors.sentence_embedder import SentenceEmbedder

        device = "cuda" if context.device == "gpu" else "cpu"
        embedder = SentenceEmbedder(selection_config.embedder, device=device)
    selection = select(
        folder.samples,
        selection_config,
        embedder=embedder,
        progress=lambda done, total: context.report("files read", done, total, "files"),
    )
    write_trajectories(folder.selected, load_selected(folder.samples, selection))
    figures = selection.figures
    counts = figures.funnel.model_dump() | figures.coverage.model_dump()
    logger.info("round selected", extra={"round": number, **counts})
    # Last: its presence says that the trajectories are there.
    selection.write(folder.selection)


def fine_tune_stage(context: StageContext, number: int) -> None:
    """The round's policy, from all that was kept so far."""
    from actors.learner.sft_rows import stored_rows, write_rows
    from actors.stages.checkpoints import fine_tune

    taught, folder = context.taught, context.run.round(number)
    if not folder.facts.exists():
        rows = [
            row
            for earlier in range(1, number + 1)
            for row in stored_rows(read_trajectories(context.run.round(earlier).selected))
        ]
        rows += stored_rows(replayed(context, number, round(taught.replay * len(rows))))
        facts = write_rows(rows, folder, taught.fine_tune, seed=context.config.seed)
        # Last: its presence says that the rows are whole.
        write_record(folder.facts, facts)
        logger.info("round learns", extra={"round": number, **facts.model_dump()})
    fine_tune(
        context.config,
        taught.fine_tune,
        context.device,
        context.round_model(number - 1 if taught.init == "last" else 0),
        folder,
        context.run.metrics(round_policy(number)),
        progress=context.report,
    )


def replayed(context: StageContext, number: int, num_drawn: int) -> list[Attempt]:
    """Scripted trajectories to learn again, drawn by seed and round, in their order.

    Only right ones that looked, by the rule for short trajectories: a replay of blind answers would
    undo what the rounds teach. Each is learned whole, as the kept ones are, with a first proposal
    that had to be corrected; so are drills, of which the warm start learned the corrections only.
    """
    if not num_drawn:
        return []
    path = context.run.warm_start.scripted
    least = context.taught.selection.short_from
    right = [
        one.row for one in read_samples(path) if one.is_valid and one.num_interactions >= least
    ]
    what = {"round": number, "wanted": num_drawn, "to_draw_from": len(right)}
    logger.info("scripts replayed", extra=what)
    draws = Random(f"{context.config.seed}/replay/{number}")
    return read_rows(path, sorted(draws.sample(right, min(num_drawn, len(right)))))
