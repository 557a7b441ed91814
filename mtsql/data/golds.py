"""The golds of a dataset, looked at once: which cannot judge, and which luck meets."""

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress

from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import Dataset
from mtsql.dialogue import Turn
from mtsql.evaluation.golds import Gold, GoldFacts, gold_facts
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.schema import Schema
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, SqlExecutor

GOLD_BATCH = 64
"""Golds sent to the executor at once: enough to keep its workers busy, and the bar moving."""


class GoldCounts(BaseModel, frozen=True, use_attribute_docstrings=True):
    """Turns by what their gold lacks as a measure; one turn may count in several."""

    num_fails: int = 0
    """Their gold does not run under the limits."""
    num_cut: int = 0
    """It has more rows than the limits keep, so only its own text can match it."""
    num_unread: int = 0
    """It is outside Spider's subset: EM has no verdict and hardness no label."""
    num_wrong: int = 0
    """It runs, and scores wrong against itself under the rules."""
    num_empty: int = 0
    """It gives no row: any prediction without rows matches."""
    num_cut_ties: int = 0
    """Its LIMIT cuts a tie: a right prediction may get other rows."""


async def check_golds(
    golds: Iterable[Gold],
    executor: SqlExecutor,
    schemas: Mapping[str, Schema],
    *,
    limits: QueryLimits,
    rules: Rules = OFFICIAL,
) -> dict[Gold, GoldFacts]:
    """The facts of each different gold, with a bar on a terminal.

    Args:
        limits: of the run that is to use them.
    """
    distinct = list(dict.fromkeys(golds))
    found: dict[Gold, GoldFacts] = {}
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("running gold SQL", total=len(distinct))
        for start in range(0, len(distinct), GOLD_BATCH):
            batch = distinct[start : start + GOLD_BATCH]
            facts = await gold_facts(executor, batch, schemas, limits=limits, rules=rules)
            found |= dict(zip(batch, facts, strict=True))
            progress.advance(task, len(batch))
    return found


def check_dataset(
    dataset: Dataset,
    sql: SqlConfig,
    *,
    rules: Rules = OFFICIAL,
    splits: Sequence[str] | None = None,
) -> dict[Gold, GoldFacts]:
    """`check_golds` of a prepared folder, in a pool of its own.

    Args:
        sql: of the run that is to use it.
        splits: names of splits; None: all.
    """
    golds = [
        (dialogue.db_id, turn.gold_sql)
        for name in (dataset.splits if splits is None else splits)
        for dialogue in dataset.split(name)
        for turn in dialogue.turns
    ]

    async def check() -> dict[Gold, GoldFacts]:
        async with LocalPool(dataset.databases, **sql.pool()) as pool:
            limits = sql.limits()
            return await check_golds(golds, pool, dataset.schemas, limits=limits, rules=rules)

    return asyncio.run(check())


def count_golds(turns: Iterable[tuple[str, Turn]], facts: Mapping[Gold, GoldFacts]) -> GoldCounts:
    """
    Args:
        turns: (db_id, turn); those without facts are not counted.
    """
    found = [one for db_id, turn in turns if (one := facts.get((db_id, turn.gold_sql)))]
    return GoldCounts(
        num_fails=sum(bool(one.failure) for one in found),
        num_cut=sum(one.is_cut for one in found),
        num_unread=sum(one.is_unread for one in found),
        num_wrong=sum(one.is_wrong for one in found),
        num_empty=sum(one.is_empty for one in found),
        num_cut_ties=sum(one.cuts_tie for one in found),
    )


def gold_lines(counts: GoldCounts) -> list[str]:
    """What a reader should know of a dataset's golds, a line for each kind that there is."""
    said = (
        (counts.num_fails, "do not run under these limits"),
        (
            counts.num_cut,
            "have more rows than sql.max_rows, so that only their own text matches them",
        ),
        (
            counts.num_unread,
            "are outside Spider's subset: EM has no verdict, hardness is unread, and in the reward "
            "EX speaks for EM (reward.unreadable_em)",
        ),
        (
            counts.num_wrong,
            'score wrong against themselves (officially the text "value" becomes "1": '
            "reward.keep_value_word)",
        ),
        (
            counts.num_empty,
            "are empty, so that any prediction without rows matches (reward.empty_is_wrong)",
        ),
        (counts.num_cut_ties, "have a LIMIT that cuts a tie, so that a right prediction may miss"),
    )
    return [f"golds of {number} turns {text}" for number, text in said if number]
