"""`mtsql score`: EX and EM of predictions in files, with the verdicts of the official evaluator."""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from mtsql.dialogue import HARDNESSES, Hardness
from mtsql.errors import ConfigError
from mtsql.evaluation.em.hardness import hardness
from mtsql.evaluation.em.match import Component, components, why_outside
from mtsql.evaluation.em.partial import PartialScore, partial_scores
from mtsql.evaluation.ex.pair import NO_SQL
from mtsql.evaluation.golds import cut_ties, empty_golds
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import SANER, Rules, judged_text
from mtsql.evaluation.scores import LEFT_OUT, ScoredTurn, Scores, summarise, summarise_splits
from mtsql.garbage import long_lived_objects
from mtsql.schema import Schema
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, SqlExecutor
from recipes.score.input import (
    ScorePair,
    find_schemas,
    find_suites,
    kind_of,
    read_rows,
    read_texts,
    require_all,
    require_some,
)
from recipes.score.output import MADE_BY, check_out, make_room, write_scores
from recipes.score.table import print_table

EType = Literal["exec", "match", "all"]
NUM_FIRST = 20
"""Pairs that are left out and named in the summary; every row of --out says why."""
AT_ONCE = 128
"""Pairs judged in one call, all of one database: their results are in memory together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """What is asked for, with files still unread."""

    gold: Path | None
    pred: Path | None
    jsonl: Path | None
    db_root: Path | None
    tables: Path | None
    etype: EType
    rules: Rules
    test_suite: bool
    timeout_s: float
    jobs: int | None
    out: Path | None
    strict: bool = False
    """End at the first pair that cannot be judged, instead of leaving it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One pair with everything found out about it."""

    pair: ScorePair
    judgement: Judgement
    hardness: Hardness | None
    """None: gold is outside Spider's subset."""
    outside: str
    """Why the prediction is outside Spider's subset; "" when it is inside."""
    is_gold_empty: bool
    """Any prediction without rows matches."""
    cuts_tie: bool
    """Gold's LIMIT cuts a tie: a right prediction may get other rows."""

    def row(self) -> dict[str, Any]:
        judgement = self.judgement
        message = judgement.message
        if self.outside and not message:
            message = f"EM: outside Spider's subset: {self.outside}"
        return {
            "id": self.pair.id,
            "ex": judgement.ex,
            "em": judgement.em,
            "hardness": self.hardness,
            "status": judgement.status,
            "message": message,
        }


def rules_of(names: Sequence[str], *, keep_distinct: bool, plug_value: bool) -> Rules:
    return Rules(
        keep_distinct=keep_distinct,
        plug_value=plug_value,
        **{name: name in names for name in SANER},
    )


def score(job: ScoreJob) -> None:
    """Judge all pairs, write rows and summary, print the table.

    Raises:
        UserError: a file, a folder or an option is wrong; nothing is written.
    """
    if job.out is not None:
        files = (job.gold, job.pred, job.jsonl, job.tables)
        check_out(job.out, [path for path in files if path is not None])
    pairs = _pairs(job)
    db_ids = sorted({pair.db_id for pair in pairs if not pair.fault})
    suites: dict[str, dict[str, Path]] = {}
    faults: dict[str, str] = {}
    if job.db_root is not None:
        suites, faults = find_suites(job.db_root, db_ids, all_variants=job.test_suite)
    elif job.etype != "match":
        raise ConfigError("name the databases with --db-root DIR, or give --etype match")
    schemas, lacking = find_schemas(job.tables, suites, db_ids)
    faults = lacking | faults
    pairs = [
        pair if pair.fault or pair.db_id not in faults else replace(pair, fault=faults[pair.db_id])
        for pair in pairs
    ]
    if job.strict:
        require_all(pairs)
    require_some(pairs)
    if job.out is not None:
        check_out(job.out, [path for suite in suites.values() for path in suite.values()])
        make_room(job.out)
    with long_lived_objects():  # schemas and pairs
        scored = asyncio.run(_judge(job, pairs, suites, schemas))
    turns = [_turn(one) for one in scored]
    scores = summarise(turns)
    partial = _partial(scored, schemas, job) if job.etype != "exec" else None
    if job.out is not None:
        summary = _summary(job, scored, turns, scores, partial)
        write_scores(job.out, [one.row() for one in scored], summary)
    print_table(
        scores,
        partial,
        etype=job.etype,
        num_outside=_num_outside(scored),
        num_gold_empty=sum(one.is_gold_empty for one in scored),
        num_cut_ties=sum(one.cuts_tie for one in scored),
        with_dialogues=any(pair.dialogue is not None for pair in pairs),
        left_out=[pair.fault for pair in pairs if pair.fault],
        unread=_unread(pairs),
    )


def _unread(pairs: Sequence[ScorePair]) -> list[str]:
    """Keys of the rows that nothing reads, each once."""
    return list(dict.fromkeys(key for pair in pairs for key in pair.unread))


def _pairs(job: ScoreJob) -> list[ScorePair]:
    if job.jsonl is not None:
        if job.gold is not None or job.pred is not None:
            raise ConfigError("give --gold and --pred, or --jsonl alone")
        return read_rows(job.jsonl)
    if job.gold is None or job.pred is None:
        raise ConfigError("give --gold FILE and --pred FILE, or --jsonl FILE")
    return read_texts(job.gold, job.pred)


async def _judge(
    job: ScoreJob,
    pairs: Sequence[ScorePair],
    suites: Mapping[str, Mapping[str, Path]],
    schemas: Mapping[str, Schema],
) -> list[Scored]:
    limits = QueryLimits(
        timeout_s=job.timeout_s,
        max_vm_steps=1 << 62,
        max_rows=1_000_000,
        max_bytes=400_000_000,
        max_cells=20_000_000,
    )

    def item(pair: ScorePair) -> JudgeItem:
        return JudgeItem(
            db_id=pair.db_id,
            gold_sql=pair.gold,
            pred_sql=pair.pred,
            schema=schemas[pair.db_id],
            limits=limits,
            rules=job.rules,
            variants=tuple(suites.get(pair.db_id, ()))[1:],
            with_ex=job.etype != "match",
            with_em=job.etype != "exec",
            with_strict=job.etype != "match",
            cut_rows=True,
        )

    luck: dict[int, tuple[bool, bool]] = {}
    judged = {
        place: Judgement(ex=None, em=None, status=LEFT_OUT, message=pair.fault)
        for place, pair in enumerate(pairs)
        if pair.fault
    }
    order = sorted(
        (place for place in range(len(pairs)) if place not in judged),
        key=lambda place: pairs[place].db_id,
    )
    databases = {name: path for suite in suites.values() for name, path in suite.items()}
    num_workers = job.jobs or len(os.sched_getaffinity(0))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("score", total=len(order))
        async with _executor(job, databases, num_workers) as executor:
            for _, group in groupby(order, key=lambda place: pairs[place].db_id):
                places = list(group)
                for start in range(0, len(places), AT_ONCE):
                    part = places[start : start + AT_ONCE]
                    found = await judge_many(executor, [item(pairs[place]) for place in part])
                    judged |= dict(zip(part, found, strict=True))
                    if job.etype != "match":
                        luck |= await _luck(
                            executor,
                            pairs,
                            # One that fails has no rows, and is not to be waited for twice.
                            [place for place in part if judged[place].status != "gold_failed"],
                            limits,
                            job.rules,
                        )
                    progress.advance(task, len(part))
    return [
        Scored(
            pair=pair,
            judgement=judged[place],
            hardness=None,
            outside="",
            is_gold_empty=False,
            cuts_tie=False,
        )
        if pair.fault
        else _scored(pair, judged[place], luck.get(place, (False, False)), schemas[pair.db_id], job)
        for place, pair in enumerate(pairs)
    ]


async def _luck(
    executor: SqlExecutor,
    pairs: Sequence[ScorePair],
    places: Sequence[int],
    limits: QueryLimits,
    rules: Rules,
) -> dict[int, tuple[bool, bool]]:
    """By place of the pair: its gold gives no row, its LIMIT cuts a tie."""
    golds = [(pairs[place].db_id, pairs[place].gold) for place in places]
    empty = await empty_golds(executor, golds, limits, rules)
    ties = await cut_ties(executor, golds, limits, rules)
    return dict(zip(places, zip(empty, ties, strict=True), strict=True))


class _NoDatabases:
    """For EM alone, which runs nothing."""

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        raise AssertionError("EM runs no query")


def _executor(
    job: ScoreJob, databases: Mapping[str, Path], num_workers: int
) -> "LocalPool | nullcontext[_NoDatabases]":
    if job.etype == "match":
        return nullcontext(_NoDatabases())
    return LocalPool(databases, num_workers=num_workers)


def _scored(
    pair: ScorePair,
    judgement: Judgement,
    luck: tuple[bool, bool],
    schema: Schema,
    job: ScoreJob,
) -> Scored:
    outside = ""
    if not pair.pred.strip():
        outside = NO_SQL
    elif job.etype != "exec":
        outside = why_outside(judged_text(pair.pred, job.rules), schema)
    return Scored(
        pair=pair,
        judgement=judgement,
        hardness=hardness(pair.gold, schema),
        outside=outside,
        is_gold_empty=luck[0],
        cuts_tie=luck[1],
    )


def _turn(one: Scored) -> ScoredTurn:
    return ScoredTurn(
        dialogue_id=f"id {one.pair.id}" if one.pair.dialogue is None else one.pair.dialogue,
        turn_index=one.pair.turn,
        hardness=one.hardness,
        ex=one.judgement.ex,
        em=one.judgement.em,
        status=one.judgement.status,
        split=one.pair.source,
        ex_strict=one.judgement.ex_strict,
        is_empty=one.judgement.is_empty,
    )


def _partial(
    scored: Sequence[Scored], schemas: Mapping[str, Schema], job: ScoreJob
) -> dict[str, dict[str, PartialScore]]:
    """Partial scores by component, for each level of hardness and for all."""
    by_level: dict[str, list[Mapping[str, Component]]] = {"all": []}
    by_level |= {level: [] for level in HARDNESSES}
    for one in scored:
        pair = one.pair
        if pair.fault:
            continue
        found = components(pair.gold, pair.pred, schemas[pair.db_id], job.rules)
        if found is not None and one.hardness is not None:
            by_level["all"].append(found)
            by_level[one.hardness].append(found)
    return {level: partial_scores(found) for level, found in by_level.items()}


def _num_outside(scored: Sequence[Scored]) -> int:
    return sum(bool(one.outside) for one in scored)


def _summary(
    job: ScoreJob,
    scored: Sequence[Scored],
    turns: Sequence[ScoredTurn],
    scores: Scores,
    partial: dict[str, dict[str, PartialScore]] | None,
) -> dict[str, Any]:
    reasons = Counter(one.outside for one in scored if one.outside)
    judged = [one for one in scored if not one.pair.fault]
    left_out = [one.pair for one in scored if one.pair.fault]
    failed = [one.pair.id for one in scored if one.judgement.status == "gold_failed"]
    return {
        "made_by": MADE_BY,
        "is_official": not any(getattr(job.rules, name) for name in SANER),
        "etype": job.etype,
        "rules": asdict(job.rules),
        "test_suite": job.test_suite,
        "timeout_s": job.timeout_s,
        "scores": asdict(scores),
        "sources": {name: asdict(part) for name, part in summarise_splits(turns).items() if name},
        "gold_failed": failed,
        "num_gold_empty": sum(one.is_gold_empty for one in scored),
        "num_gold_cut_tie": sum(one.cuts_tie for one in scored),
        "left_out": {
            "num": len(left_out),
            "of": len(scored),
            "reasons": dict(Counter(kind_of(pair.fault) for pair in left_out).most_common()),
            "first": [{"id": pair.id, "reason": pair.fault} for pair in left_out[:NUM_FIRST]],
        },
        "unread_keys": _unread([one.pair for one in scored]),
        "num_gold_outside_subset": sum(one.hardness is None for one in judged),
        "num_pred_outside_subset": _num_outside(scored),
        "outside_reasons": dict(reasons.most_common(20)),
        "partial": partial
        and {
            level: {name: asdict(value) for name, value in part.items()}
            for level, part in partial.items()
        },
    }
