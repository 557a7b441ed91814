"""`mtsql cocte build`: a prepared folder's golds as verified chains.

OUT/chains.jsonl    one `ChainRow` a line, in the order of the turns
OUT/facts.json      `ChainFacts`, written last
OUT/built.jsonl     while a build goes on: what is done, so that the same command goes on from there
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress

from mtsql import __version__
from mtsql.chains.build import Built, ChainFacts, Failure, build_chains, chain_facts
from mtsql.chains.chain import Chain, View
from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import MANIFEST, Dataset, load_dataset
from mtsql.dialogue import Hardness, Turn
from mtsql.errors import DataError
from mtsql.evaluation.golds import Gold
from mtsql.files import write_record, write_whole
from mtsql.garbage import long_lived_objects
from mtsql.sql.pool import LocalPool
from mtsql.sql.registry import file_sha256

CHAINS = "chains.jsonl"
FACTS = "facts.json"
BUILT = "built.jsonl"


class ViewRow(BaseModel, frozen=True, extra="forbid"):
    name: str
    sql: str
    rationale: str


class BuiltRow(BaseModel, frozen=True, extra="forbid"):
    """One gold of a build under way."""

    db_id: str
    gold_sql: str
    chains: tuple[tuple[ViewRow, ...], ...]
    is_empty: bool
    failure: Failure | None
    detail: str


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
    settings = (file_sha256(data / MANIFEST), sql.limits(), min_distance, __version__)
    work = UnderWay(out / BUILT, repr(settings))
    with long_lived_objects():
        built = asyncio.run(_run(dataset, golds, sql, min_distance, work))
    rows = (_row(split, db_id, turn, built[db_id, turn.gold_sql]) for split, db_id, turn in turns)
    (out / FACTS).unlink(missing_ok=True)  # those of an earlier build
    write_whole(out / CHAINS, "".join(f"{row.model_dump_json()}\n" for row in rows))
    facts = chain_facts(
        [(gold, turn.hardness) for gold, (_, _, turn) in zip(golds, turns, strict=True)],
        built,
        wall_s=time.monotonic() - started_s,
    )
    write_record(out / FACTS, facts)
    work.end()
    return _lines(out, facts)


class UnderWay:
    """What a build has done, in a file that the next one of the same settings goes on from."""

    def __init__(self, path: Path, settings: str) -> None:
        self._path = path
        self.built: dict[Gold, Built] = {}
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        if lines[:1] != [json.dumps(settings)]:
            path.write_text(f"{json.dumps(settings)}\n", encoding="utf-8")
            return
        # Behind the last line feed there is nothing, or a line that was being written.
        for line in lines[1:-1]:
            row = BuiltRow.model_validate_json(line)
            self.built[row.db_id, row.gold_sql] = Built(
                chains=tuple(
                    Chain(tuple(View(**view.model_dump()) for view in views))
                    for views in row.chains
                ),
                is_empty=row.is_empty,
                failure=row.failure,
                detail=row.detail,
            )
        path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")

    def add(self, built: Mapping[Gold, Built]) -> None:
        """Faults are tried again."""
        rows = [
            BuiltRow(db_id=db_id, gold_sql=sql, **_fields(one)).model_dump_json()
            for (db_id, sql), one in built.items()
            if one.failure != "fault"
        ]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{row}\n" for row in rows))

    def end(self) -> None:
        self._path.unlink()


async def _run(
    dataset: Dataset, golds: Sequence[Gold], sql: SqlConfig, min_distance: float, work: UnderWay
) -> dict[Gold, Built]:
    left = [gold for gold in golds if gold not in work.built]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("chains", total=len(golds), completed=len(golds) - len(left))

        def tell(built: Mapping[Gold, Built], num_done: int) -> None:
            work.add(built)
            bar.advance(task, num_done)

        async with LocalPool(dataset.databases, **sql.pool()) as pool:
            built = await build_chains(
                pool,
                left,
                dataset.schemas,
                limits=sql.limits(),
                min_distance=min_distance,
                num_processes=os.cpu_count() or 1,
                progress=tell,
            )
    return work.built | built


def _row(split: str, db_id: str, turn: Turn, built: Built) -> ChainRow:
    return ChainRow(
        split=split,
        turn_id=turn.turn_id,
        db_id=db_id,
        question=turn.question,
        gold_sql=turn.gold_sql,
        hardness=turn.hardness,
        **_fields(built),
    )


def _fields(built: Built) -> dict[str, Any]:
    return {
        "chains": tuple(
            tuple(
                ViewRow(name=view.name, sql=view.sql, rationale=view.rationale)
                for view in chain.views
            )
            for chain in built.chains
        ),
        "is_empty": built.is_empty,
        "failure": built.failure,
        "detail": built.detail,
    }


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
