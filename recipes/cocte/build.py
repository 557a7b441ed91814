"""`mtsql cocte build`: a prepared folder's golds as verified chains.

OUT/chains.jsonl    one `ChainRow` a line, in the order of the turns
OUT/facts.json      `ChainFacts`, written last
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress

from mtsql.chains.build import Built, ChainFacts, Failure, build_chains, chain_facts
from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.dialogue import Hardness, Turn
from mtsql.errors import DataError
from mtsql.evaluation.golds import Gold
from mtsql.files import write_record, write_whole
from mtsql.garbage import long_lived_objects
from mtsql.sql.pool import LocalPool

CHAINS = "chains.jsonl"
FACTS = "facts.json"


class ViewRow(BaseModel, frozen=True, extra="forbid"):
    name: str
    sql: str
    rationale: str


class ChainRow(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """A turn's gold and its chains."""

    split: str
    turn_id: str
    db_id: str
    question: str
    gold_sql: str
    hardness: Hardness | None
    chains: tuple[tuple[ViewRow, ...], ...]
    """Each gives gold's result; the last view is the query that answers."""
    is_empty: bool
    """Gold has no row, so that the result proves little."""
    failure: Failure | None
    """Why there is no chain."""
    detail: str


def build(
    data: Path, out: Path, splits: Sequence[str], sql: SqlConfig, *, min_distance: float
) -> list[str]:
    """Build the chains of whole splits and write them; returns lines for the terminal.

    Raises:
        DataError: the folder is no prepared dataset, has no such split, or OUT cannot be made.
    """
    started_s = time.monotonic()
    dataset = load_dataset(data)
    turns = [
        (split, dialogue.db_id, turn)
        for split in dict.fromkeys(splits)
        for dialogue in dataset.split(split)
        for turn in dialogue.turns
    ]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out}: {error.strerror}; choose another folder") from error
    golds = [(db_id, turn.gold_sql) for _, db_id, turn in turns]
    with long_lived_objects():
        built = asyncio.run(_run(dataset, golds, sql, min_distance))
    rows = (_row(split, db_id, turn, built[db_id, turn.gold_sql]) for split, db_id, turn in turns)
    (out / FACTS).unlink(missing_ok=True)  # those of an earlier build
    write_whole(out / CHAINS, "".join(f"{row.model_dump_json()}\n" for row in rows))
    facts = chain_facts(
        [(gold, turn.hardness) for gold, (_, _, turn) in zip(golds, turns, strict=True)],
        built,
        wall_s=time.monotonic() - started_s,
    )
    write_record(out / FACTS, facts)
    return _lines(out, facts)


async def _run(
    dataset: Dataset, golds: Sequence[Gold], sql: SqlConfig, min_distance: float
) -> dict[Gold, Built]:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("chains", total=len(golds))
        async with LocalPool(dataset.databases, **sql.pool()) as pool:
            return await build_chains(
                pool,
                golds,
                dataset.schemas,
                limits=sql.limits(),
                min_distance=min_distance,
                progress=lambda num_done: bar.advance(task, num_done),
            )


def _row(split: str, db_id: str, turn: Turn, built: Built) -> ChainRow:
    return ChainRow(
        split=split,
        turn_id=turn.turn_id,
        db_id=db_id,
        question=turn.question,
        gold_sql=turn.gold_sql,
        hardness=turn.hardness,
        chains=tuple(
            tuple(
                ViewRow(name=view.name, sql=view.sql, rationale=view.rationale)
                for view in chain.views
            )
            for chain in built.chains
        ),
        is_empty=built.is_empty,
        failure=built.failure,
        detail=built.detail,
    )


def _lines(out: Path, facts: ChainFacts) -> list[str]:
    left = ", ".join(f"{reason} {number}" for reason, number in facts.not_decomposed.items())
    return [
        f"{facts.num_queries} golds ({facts.num_different} different): "
        f"{facts.share_decomposed:.1%} have a chain with the same result",
        f"{facts.mean_chains:.1f} chains for each, {facts.share_two_chains:.1%} have two or more; "
        f"they differ in {facts.mean_distance:.0%} of their trees",
        f"{facts.mean_views:.1f} views before the last query, "
        f"{facts.mean_views_medium_up:.1f} from medium on",
        *([f"without a chain: {left}"] if left else []),
        f"written to {out} in {facts.wall_s:.1f} s",
    ]
