"""`mtsql prm bench`: pairs of steps from a prepared folder, and an audit of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.dialogue import TurnSpec, turn_specs
from mtsql.errors import DataError
from mtsql.files import write_whole
from mtsql.prm.bench import StepPair, mistaken_pairs, planted, step_pairs
from mtsql.sql.pool import LocalPool


def bench(
    data: Path, out: Path, splits: Sequence[str], sql: SqlConfig, *, seed: int, num_audited: int
) -> list[str]:
    """Write the pairs of whole splits; returns lines for the terminal.

    Args:
        num_audited: pairs that the audit turns round, without writing them.

    Raises:
        DataError: the folder is no prepared dataset, has no such split, or OUT cannot be written.
    """
    dataset = load_dataset(data)
    specs = [
        (split, spec)
        for split in dict.fromkeys(splits)
        for dialogue in dataset.split(split)
        for spec in turn_specs(dialogue, dataset.schemas[dialogue.db_id])
    ]
    pairs, num_planted, num_found = asyncio.run(_run(dataset, specs, sql, seed, num_audited))
    try:
        write_whole(out, "".join(f"{pair.model_dump_json()}\n" for pair in pairs))
    except OSError as error:
        raise DataError(f"--out {out}: {error.strerror}; name a file in another folder") from error
    kinds = Counter(pair.mistake for pair in pairs)
    return [
        f"{len(pairs)} pairs of {len(specs)} turns: "
        + ", ".join(f"{name} {number}" for name, number in kinds.most_common()),
        f"audit: {num_found} of {num_planted} pairs that were turned round are found",
        f"written to {out}",
    ]


async def _run(
    dataset: Dataset,
    specs: Sequence[tuple[str, TurnSpec]],
    sql: SqlConfig,
    seed: int,
    num_audited: int,
) -> tuple[list[StepPair], int, int]:
    limits = sql.limits()
    golds = {spec.turn.turn_id: spec.turn.gold_sql for _, spec in specs}
    async with LocalPool(dataset.databases, **sql.pool()) as pool:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("turns", total=len(specs))
            pairs = await step_pairs(
                pool,
                specs,
                limits,
                seed=seed,
                progress=lambda done: bar.update(task, completed=done),
            )
        changed, places = planted(pairs, num_audited, seed=seed)
        found = await mistaken_pairs(pool, changed, golds, dataset.schemas, limits)
    return pairs, len(places), len(set(places) & set(found))
