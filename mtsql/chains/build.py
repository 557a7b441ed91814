"""Verified chains for gold queries: taken apart, run, compared with gold, duplicates dropped.

Trees are worked on in processes of their own (`num_processes`), as they take more time than the
databases do.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from statistics import fmean
from typing import Literal, TypeVar

from pydantic import BaseModel

from mtsql.chains.chain import Chain
from mtsql.chains.decompose import chains_of
from mtsql.chains.distance import MIN_DISTANCE, chain_distance, different_chains
from mtsql.chains.reading import ChainError, NoViewError
from mtsql.dialogue import HARDNESSES, Hardness
from mtsql.evaluation.golds import Gold, cut_ties
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import Rules
from mtsql.parent import die_with_parent
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, SqlExecutor

SAME_RESULT = Rules(keep_value_word=True, keep_literals=True)
"""A chain is ours, not a prediction: what the official script does to texts would only hide
differences. DISTINCT counts too, by `Judgement.ex_strict`."""
AT_ONCE = 128
"""Golds that are judged in one call."""
PARTS_AT_ONCE = 2
"""Calls under way: while databases work on one, trees of another are taken apart."""
MAX_MEASURED = 500
"""Golds whose chains are compared with each other for `ChainFacts.mean_distance`."""

Failure = Literal["unreadable", "no_view", "gold_failed", "tie", "differs", "fault"]
"""Why a gold has no chain. `unreadable`: the parser cannot read it. `no_view`: nothing of it can
become a view. `tie`: no chain gives its rows, and its LIMIT leaves open which they are. `differs`:
no chain gives its rows, or within the limits. `fault`: the machinery failed."""


Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What became of one gold."""

    chains: tuple[Chain, ...] = ()
    """Different from each other, and each gives gold's result; best known style first."""
    failure: Failure | None = None
    """None where there is a chain."""
    detail: str = ""
    is_empty: bool = False
    """Gold has no row here, so that giving its result says little."""


class ChainFacts(BaseModel, frozen=True, use_attribute_docstrings=True):
    """Figures of a build; facts.json. Each turn counts, also where two have the same gold."""

    num_queries: int
    num_different: int
    """Different pairs of database and gold."""
    share_decomposed: float
    """Golds with a chain that gives their result."""
    share_empty: float
    """Of these: gold has no row, so that the result proves little."""
    mean_views: float
    """Views before a chain's last query, over all chains."""
    mean_views_medium_up: float
    """The same for golds of hardness medium, hard and extra."""
    mean_chains: float
    """Different chains of a gold that has one."""
    share_two_chains: float
    """Golds with two or more different chains."""
    mean_distance: float
    """Between the chains of one gold: the share of a tree that is edited (diversity)."""
    not_decomposed: dict[str, int]
    """The others, by reason."""
    wall_s: float


async def build_chains(
    executor: SqlExecutor,
    golds: Sequence[Gold],
    schemas: Mapping[str, Schema],
    *,
    limits: QueryLimits,
    min_distance: float = MIN_DISTANCE,
    num_processes: int = 0,
    progress: Callable[[Mapping[Gold, Built], int], None] = lambda built, num_done: None,
) -> dict[Gold, Built]:
    """Chains of each different gold that give its result under the limits.

    Args:
        schemas: by db_id.
        min_distance: of two chains that are closer, the second one goes.
        num_processes: for the work on trees; 0: this one does it.
        progress: told what has been built since it was told last, and how many golds these are,
            equal ones counted each.
    """
    counts = Counter(golds)
    different = sorted(counts)  # a database's golds follow each other: a worker keeps few open
    built: dict[Gold, Built] = {}
    slots = asyncio.Semaphore(PARTS_AT_ONCE)
    with _processes(num_processes) as pool:

        async def build(part: Sequence[Gold]) -> None:
            async with slots:
                done = await _build(executor, part, schemas, limits, min_distance, pool)
            built.update(done)
            progress(done, sum(counts[gold] for gold in part))

        starts = range(0, len(different), AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(build(different[start : start + AT_ONCE]))
    return built


class _Processes(ProcessPoolExecutor):
    def __init__(self, number: int) -> None:
        super().__init__(
            number,
            mp_context=get_context("spawn"),
            initializer=die_with_parent,
            initargs=(os.getpid(),),
        )
        self.number = number


def _processes(number: int) -> "_Processes | nullcontext[None]":
    return _Processes(number) if number else nullcontext()


async def _spread(
    work: Callable[[Sequence[Item]], list[Value]], items: Sequence[Item], pool: _Processes | None
) -> list[Value]:
    """Work on the items, in order, in all processes."""
    if pool is None or not items:
        return work(items)
    size = -(-len(items) // pool.number)
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    loop = asyncio.get_running_loop()
    done = await asyncio.gather(*(loop.run_in_executor(pool, work, part) for part in parts))
    return [value for values in done for value in values]


def _taken_apart(queries: Sequence[tuple[str, Schema]]) -> list[Built]:
    """The chains of each query, not yet run; or why there are none."""
    found: list[Built] = []
    for sql, schema in queries:
        try:
            found.append(Built(chains=tuple(chains_of(sql, schema))))
        except ChainError as error:
            kind = "no_view" if isinstance(error, NoViewError) else "unreadable"
            found.append(Built(failure=kind, detail=str(error)))
    return found


def _kept(groups: Sequence[Sequence[Chain]], min_distance: float) -> list[Sequence[Chain]]:
    return [_deeper(different_chains(group, min_distance=min_distance)) for group in groups]


async def _build(
    executor: SqlExecutor,
    golds: Sequence[Gold],
    schemas: Mapping[str, Schema],
    limits: QueryLimits,
    min_distance: float,
    pool: _Processes | None,
) -> dict[Gold, Built]:
    queries = [(sql, schemas[db_id]) for db_id, sql in golds]
    apart = dict(zip(golds, await _spread(_taken_apart, queries, pool), strict=True))
    built = {gold: one for gold, one in apart.items() if one.failure is not None}
    asked = [(gold, chain) for gold, one in apart.items() for chain in one.chains]
    judgements = await judge_many(
        executor,
        [
            JudgeItem(
                db_id=db_id,
                gold_sql=sql,
                pred_sql=chain.sql,
                schema=schemas[db_id],
                limits=limits,
                rules=SAME_RESULT,
                with_em=False,
                with_strict=True,
            )
            for (db_id, sql), chain in asked
        ],
    )
    found: dict[Gold, list[tuple[Chain, Judgement]]] = {}
    for (gold, chain), judgement in zip(asked, judgements, strict=True):
        found.setdefault(gold, []).append((chain, judgement))
    failed = [gold for gold, tried in found.items() if not any(_is_same(one) for _, one in tried)]
    ties = dict(zip(failed, await cut_ties(executor, failed, limits), strict=True))
    for gold in failed:
        built[gold] = _failed([one for _, one in found[gold]], ties[gold])
    same = {
        gold: [(chain, judgement) for chain, judgement in tried if _is_same(judgement)]
        for gold, tried in found.items()
        if gold not in ties
    }
    groups = [[chain for chain, _ in tried] for tried in same.values()]
    kept = await _spread(partial(_kept, min_distance=min_distance), groups, pool)
    for (gold, tried), chains in zip(same.items(), kept, strict=True):
        built[gold] = Built(chains=tuple(chains), is_empty=tried[0][1].is_empty)
    return built


def _deeper(chains: Sequence[Chain]) -> Sequence[Chain]:
    """A chain of a single view before its query shows little; one stays where few others are."""
    deep = [chain for chain in chains if len(chain.views) > 2]
    shallow = [chain for chain in chains if len(chain.views) <= 2]
    if not deep:
        return chains
    return deep if len(deep) > 1 else [*deep, *shallow[:1]]


def _is_same(judgement: Judgement) -> bool:
    """With DISTINCT and without, as a policy's answers are judged in both ways."""
    return judgement.ex is True and judgement.ex_strict is True


def _failed(judgements: Sequence[Judgement], cuts_tie: bool) -> Built:
    for judgement in judgements:
        if judgement.status == "gold_failed":
            return Built(failure="gold_failed", detail=judgement.message)
        if judgement.status == "infra_fault":
            return Built(failure="fault", detail=judgement.message)
    if cuts_tie:
        return Built(failure="tie", detail="its LIMIT cuts rows that are equal in its order")
    message = next((one.message for one in judgements if one.message), "")
    return Built(failure="differs", detail=message)


def chain_facts(
    golds: Sequence[tuple[Gold, Hardness | None]], built: Mapping[Gold, Built], *, wall_s: float
) -> ChainFacts:
    """Figures over golds, equal ones counted each."""
    has_chain = [(built[gold], hardness) for gold, hardness in golds if built[gold].chains]
    views = [
        (len(chain.views) - 1, hardness) for one, hardness in has_chain for chain in one.chains
    ]
    several = [one.chains for one in dict.fromkeys(one for one, _ in has_chain) if one.chains[1:]]
    num = len(golds)
    return ChainFacts(
        num_queries=num,
        num_different=len({gold for gold, _ in golds}),
        share_decomposed=_share(len(has_chain), num),
        share_empty=_share(sum(one.is_empty for one, _ in has_chain), len(has_chain)),
        mean_views=_mean([number for number, _ in views]),
        mean_views_medium_up=_mean(
            [number for number, hardness in views if hardness in HARDNESSES[1:]]
        ),
        mean_chains=_mean([len(one.chains) for one, _ in has_chain]),
        share_two_chains=_share(sum(len(one.chains) > 1 for one, _ in has_chain), num),
        mean_distance=_mean(
            [
                chain_distance(first, second)
                for chains in several[:: max(1, len(several) // MAX_MEASURED)]
                for first, second in combinations(chains, 2)
            ]
        ),
        not_decomposed=dict(
            Counter(failure for gold, _ in golds if (failure := built[gold].failure) is not None)
        ),
        wall_s=wall_s,
    )


def _share(number: int, total: int) -> float:
    return number / total if total else 0.0


def _mean(numbers: Sequence[float]) -> float:
    return fmean(numbers) if numbers else 0.0
