"""`mtsql bench evaluator`: our verdicts and speed, compared with a checkout of the official one.

Both judge the same pairs on the same core, in turn: the gold queries of the held-out dialogues,
against predictions that are new in every run and differ from each other. Ours keeps its processes
and its results of gold from run to run, as in training; the official script has nothing to keep.
Figures are medians over the runs: pairs a second by the clock, and by processor time, which other
work on the machine disturbs less.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.embedded import generate
from mtsql.errors import DataError
from mtsql.evaluation.em.match import exact_match
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.garbage import long_lived_objects
from mtsql.schema import Schema
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits
from recipes.bench.common import Spent
from recipes.bench.official import Official, Pair, require_official, spider_tables
from recipes.bench.perturbed import perturb
from recipes.bench.suites import NUM_VARIANTS, make_suite

LIMITS = QueryLimits(
    timeout_s=15.0,
    max_vm_steps=1 << 40,
    max_rows=1_000_000,
    max_bytes=300_000_000,
    max_cells=20_000_000,
)
"""The official evaluator has no limits."""
SUITE_SHARE = 0.2
"""Of the pairs: one on a suite takes 39 times as long."""
SUITE_DATABASES = 4
"""Databases of median size, with some 50 pairs each, as in the published development sets."""
SETTINGS: Mapping[str, Rules] = {
    "ex": OFFICIAL,
    "ex_keep_distinct": Rules(keep_distinct=True),
    "ex_plug_value": Rules(plug_value=True),
    "ex_both": Rules(keep_distinct=True, plug_value=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    setting: str
    pair: Pair
    official: bool
    ours: bool | None
    status: str


@dataclass(slots=True)
class Tally:
    """Verdicts compared under one setting."""

    num_pairs: int = 0
    num_matches: int = 0
    num_stopped: int = 0
    """Pairs on which the official evaluator crashes or hangs."""
    num_disagreements: int = 0


class Comparison:
    """Our verdicts and the official ones."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self.disagreements: list[Disagreement] = []

    def add(
        self,
        setting: str,
        pairs: Sequence[Pair],
        official: Sequence[Mapping[str, Any]],
        ours: Sequence[tuple[bool | None, str]],
    ) -> None:
        tally = self.tallies.setdefault(setting, Tally())
        for pair, answer, (verdict, status) in zip(pairs, official, ours, strict=True):
            tally.num_pairs += 1
            if "error" in answer:
                tally.num_stopped += 1
                continue
            expected = answer["em" if setting == "em" else "ex"]
            tally.num_matches += expected
            if verdict is not expected:
                tally.num_disagreements += 1
                self.disagreements.append(
                    Disagreement(
                        setting=setting, pair=pair, official=expected, ours=verdict, status=status
                    )
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all runs share."""

    dataset: Dataset
    official: Official
    suite_official: Official
    suites: Mapping[str, Mapping[str, Path]]
    """Databases of each suite by name, the first one under the db_id itself."""

    def items(
        self, pairs: Sequence[Pair], rules: Rules, *, is_suite: bool = False
    ) -> list[JudgeItem]:
        return [
            JudgeItem(
                db_id=pair.db_id,
                gold_sql=pair.gold,
                pred_sql=pair.pred,
                schema=self.dataset.schemas[pair.db_id],
                limits=LIMITS,
                rules=rules,
                variants=tuple(self.suites[pair.db_id])[1:] if is_suite else (),
                with_em=False,
                cut_rows=True,
            )
            for pair in pairs
        ]


def run(
    official: Path,
    *,
    python: Path | None,
    data: Path | None,
    num_runs: int,
    num_pairs: int,
    as_json: bool,
) -> int:
    """Measure and print; returns how many verdicts differ.

    Args:
        data: a prepared dataset; None: the embedded one is generated.

    Raises:
        UserError: a folder or a package is missing.
    """
    python = python or Path(sys.executable)
    require_official(official, python)
    core = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="mtsql-bench-") as name:
        folder = Path(name)
        if data is None:
            data = folder / "data"
            generate(data, seed=1, num_train=1, num_valid=200, num_test=60, num_test_ood=40)
        dataset = load_dataset(data)
        with _only_core(core):
            bench = prepare(dataset, folder, official, python, core)
            with long_lived_objects():  # as `mtsql score` does
                figures, comparison = asyncio.run(measure(bench, num_runs, num_pairs))
    if as_json:
        rounded = {name: round(value, 2) for name, value in figures.items()}
        print(json.dumps(rounded | {"disagreements": [_row(x) for x in comparison.disagreements]}))
    else:
        _print(figures, comparison, num_runs)
    return len(comparison.disagreements)


@contextmanager
def _only_core(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def prepare(
    dataset: Dataset, folder: Path, checkout: Path, python: Path, core: int | None
) -> Bench:
    """Copies of the databases, laid out as the official script wants them."""
    golds = golds_of(dataset)
    if not golds:
        raise DataError(f"{dataset.folder}: no dialogues in test or valid to take queries from")
    root, suite_root = folder / "database", folder / "suites"
    suites: dict[str, dict[str, Path]] = {}
    rng = Random(0)
    by_size = sorted(golds, key=lambda db_id: dataset.databases[db_id].stat().st_size)
    first = max(0, (len(by_size) - SUITE_DATABASES) // 2)
    for place, db_id in enumerate(by_size):
        database = dataset.databases[db_id]
        make_suite(database, root / db_id, 1, rng)
        if first <= place < first + SUITE_DATABASES:
            paths = make_suite(database, suite_root / db_id, NUM_VARIANTS, rng)
            suites[db_id] = {path.stem: path for path in paths}
    tables = folder / "tables.json"
    tables.write_text(json.dumps(spider_tables([*dataset.schemas.values()])), encoding="utf-8")
    plain = Official(checkout=checkout, python=python, db_root=root, tables=tables, core=core)
    return Bench(
        dataset=dataset,
        official=plain,
        suite_official=Official(
            checkout=checkout, python=python, db_root=suite_root, tables=tables, core=core
        ),
        suites=suites,
    )


def golds_of(dataset: Dataset) -> dict[str, list[str]]:
    """Gold queries of the held-out dialogues, by database."""
    golds: dict[str, list[str]] = {}
    for split in ("test", "test_ood", "valid"):
        if golds and split == "valid":
            break
        for dialogue in dataset.splits.get(split, ()):
            golds.setdefault(dialogue.db_id, []).extend(turn.gold_sql for turn in dialogue.turns)
    return golds


def new_pairs(
    golds: Mapping[str, Sequence[str]],
    schemas: Mapping[str, Schema],
    num_pairs: int,
    seed: int,
) -> list[Pair]:
    """Predictions that differ from each other and from every gold query of their database."""
    rng = Random(seed)
    places = [(db_id, gold) for db_id, queries in golds.items() for gold in queries]
    seen = {(db_id, gold) for db_id, gold in places}
    pairs: list[Pair] = []
    for _ in range(50 * num_pairs):
        if len(pairs) == num_pairs:
            break
        db_id, gold = rng.choice(places)
        kind, pred = perturb(gold, schemas[db_id], golds[db_id], rng)
        if pred.strip() and (db_id, pred) not in seen:
            seen.add((db_id, pred))
            pairs.append(Pair(db_id=db_id, gold=gold, pred=pred, kind=kind))
    return sorted(pairs, key=lambda pair: pair.db_id)


async def measure(
    bench: Bench, num_runs: int, num_pairs: int
) -> tuple[dict[str, float], Comparison]:
    """Pairs a second of both, how many times faster ours is, and every disagreement."""
    golds = golds_of(bench.dataset)
    few_golds = {db_id: golds[db_id] for db_id in bench.suites}
    schemas = bench.dataset.schemas
    suite_paths = {name: path for suite in bench.suites.values() for name, path in suite.items()}
    comparison = Comparison()
    rates: dict[str, list[float]] = {}
    async with (
        LocalPool({db_id: bench.dataset.databases[db_id] for db_id in golds}, num_workers=1) as one,
        LocalPool(suite_paths, num_workers=1) as many,
    ):
        await _judge(one, bench.items(_same(golds), OFFICIAL))
        await _judge(many, bench.items(_same(few_golds), OFFICIAL, is_suite=True))
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("evaluator", total=num_runs)
            for number in range(num_runs):
                pairs = new_pairs(golds, schemas, num_pairs, seed=number)
                num_few = max(1, int(SUITE_SHARE * num_pairs))
                few = new_pairs(few_golds, schemas, num_few, seed=number)
                parts = {
                    "ex": await _run_ex(bench, one, pairs, comparison),
                    "em": _run_em(bench, pairs, comparison),
                    "suite": await _run_suite(bench, many, few, comparison),
                }
                for setting, rules in SETTINGS.items():
                    if rules != OFFICIAL:
                        await _run_setting(bench, one, pairs, setting, rules, comparison)
                for name, part in parts.items():
                    for key, value in part.items():
                        rates.setdefault(f"{name}_{key}", []).append(value)
                progress.advance(task)
    figures = {name: statistics.median(values) for name, values in rates.items()}
    for setting, tally in comparison.tallies.items():
        figures[f"{setting}_pairs"] = tally.num_pairs
        figures[f"{setting}_matches"] = tally.num_matches
        figures[f"{setting}_official_stopped"] = tally.num_stopped
        figures[f"{setting}_disagreements"] = tally.num_disagreements
    return figures, comparison


def _same(golds: Mapping[str, Sequence[str]]) -> list[Pair]:
    """Every gold query as its own prediction."""
    return [
        Pair(db_id=db_id, gold=gold, pred=gold)
        for db_id, queries in golds.items()
        for gold in queries
    ]


async def _run_ex(
    bench: Bench, pool: LocalPool, pairs: Sequence[Pair], comparison: Comparison
) -> dict[str, float]:
    official = bench.official.judge(pairs, "exec")
    items = bench.items(pairs, OFFICIAL)
    judgements, spent = await _judge(pool, items)
    _, again = await _judge(pool, items)
    comparison.add("ex", pairs, official, [(one.ex, one.status) for one in judgements])
    repeated = _rates(official, len(pairs), again)
    return _rates(official, len(pairs), spent) | {
        "repeated_per_s": repeated["ours_per_s"],
        "repeated_times": repeated["times"],
    }


def _run_em(bench: Bench, pairs: Sequence[Pair], comparison: Comparison) -> dict[str, float]:
    official = bench.official.judge(pairs, "match")
    schemas = bench.dataset.schemas
    started = Spent.now()
    verdicts = [exact_match(pair.gold, pair.pred, schemas[pair.db_id]) for pair in pairs]
    spent = Spent.now().since(started)
    comparison.add("em", pairs, official, [(verdict, "ok") for verdict in verdicts])
    return _rates(official, len(pairs), spent)


async def _run_suite(
    bench: Bench, pool: LocalPool, pairs: Sequence[Pair], comparison: Comparison
) -> dict[str, float]:
    official = bench.suite_official.judge(pairs, "exec")
    judgements, spent = await _judge(pool, bench.items(pairs, OFFICIAL, is_suite=True))
    comparison.add("suite", pairs, official, [(one.ex, one.status) for one in judgements])
    return _rates(official, len(pairs), spent)


async def _run_setting(
    bench: Bench,
    pool: LocalPool,
    pairs: Sequence[Pair],
    setting: str,
    rules: Rules,
    comparison: Comparison,
) -> None:
    official = bench.official.judge(
        pairs, "exec", keep_distinct=rules.keep_distinct, plug_value=rules.plug_value
    )
    judgements, _ = await _judge(pool, bench.items(pairs, rules))
    comparison.add(setting, pairs, official, [(one.ex, one.status) for one in judgements])


async def _judge(pool: LocalPool, items: Sequence[JudgeItem]) -> tuple[list[Judgement], Spent]:
    started = Spent.now()
    judgements: list[Judgement] = []
    for _, group in groupby(items, key=lambda item: item.db_id):
        judgements += await judge_many(pool, list(group))
    return judgements, Spent.now().since(started)


def _rates(official: Sequence[Mapping[str, Any]], num_pairs: int, ours: Spent) -> dict[str, float]:
    """Pairs a second; the official ones are those that it came to an end with."""
    ended = [answer for answer in official if "error" not in answer]
    official_per_s = len(ended) / sum(answer["seconds"] for answer in ended)
    official_per_cpu_s = len(ended) / sum(answer["cpu_s"] for answer in ended)
    return {
        "official_per_s": official_per_s,
        "ours_per_s": num_pairs / ours.wall_s,
        "times": num_pairs / ours.wall_s / official_per_s,
        "official_per_cpu_s": official_per_cpu_s,
        "ours_per_cpu_s": num_pairs / ours.cpu_s,
        "cpu_times": num_pairs / ours.cpu_s / official_per_cpu_s,
    }


def _row(one: Disagreement) -> dict[str, Any]:
    return {
        "setting": one.setting,
        "kind": one.pair.kind,
        "db_id": one.pair.db_id,
        "gold": one.pair.gold,
        "pred": one.pair.pred,
        "official": one.official,
        "ours": one.ours,
        "status": one.status,
    }


def _print(figures: Mapping[str, float], comparison: Comparison, num_runs: int) -> None:
    console = Console()
    title = f"pairs a second on one core, medians of {num_runs} runs"
    table = Table("", "official", "ours", "times", "times (CPU)", title=title)
    for name, text in (
        ("ex", "EX, new predictions"),
        ("em", "EM, new predictions"),
        ("suite", f"EX on {NUM_VARIANTS} databases"),
    ):
        rates = [f"{figures[f'{name}_{key}']:,.0f}" for key in ("official_per_s", "ours_per_s")]
        times = [f"{figures[f'{name}_{key}']:.1f}" for key in ("times", "cpu_times")]
        table.add_row(text, *rates, *times)
    again = ("ex_official_per_s", "ex_repeated_per_s", "ex_repeated_times")
    table.add_row("EX, the same again", *(f"{figures[name]:,.0f}" for name in again))
    console.print(table)
    verdicts = Table("", "pairs", "right", "official stops", "differ", title="verdicts")
    for setting, tally in comparison.tallies.items():
        numbers = (tally.num_pairs, tally.num_matches, tally.num_stopped, tally.num_disagreements)
        verdicts.add_row(setting, *map(str, numbers))
    console.print(verdicts)
    for one in comparison.disagreements:
        console.print(_row(one))
