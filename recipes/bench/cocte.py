"""`mtsql bench cocte`: what a chain of views costs, compared with its composed query alone.

Gold queries of train become chains, the deepest of each. One is run in three ways: the composed
query alone; view by view, as an agent runs it, nothing being kept before; and its last query when
all views before it are kept. A cost is the processor's time in the database engine with the
rows that it gives, digests and the way to a worker apart, and a ratio that of the sums over all
chains. What is printed are medians over the runs.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mtsql.chains.chain import Chain
from mtsql.chains.decompose import chains_of
from mtsql.chains.prefix import view_texts
from mtsql.chains.reading import ChainError
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.embedded import generate
from mtsql.errors import DataError
from mtsql.sql.engines import open_engine
from mtsql.sql.kept import KeptRoom
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus
from mtsql.sql.sqlite_engine import SqliteEngine
from recipes.bench.common import show

LIMITS = QueryLimits()
ROOM_BYTES = 50_000_000
MEMORY_BYTES = 1 << 28


@dataclass(slots=True, kw_only=True)
class Costs:
    """Seconds of the processor over all chains of one run."""

    alone_s: float = 0.0
    chain_s: float = 0.0
    kept_s: float = 0.0
    num_different: int = 0


def run(dataset_folder: Path | None, *, num_queries: int, num_runs: int, as_json: bool) -> None:
    """Measure and print.

    Args:
        dataset_folder: a prepared dataset; None: the embedded one, generated.

    Raises:
        DataError: the folder holds no dataset, or none of its golds becomes a chain on SQLite.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = dataset_folder
        if folder is None:
            folder = Path(scratch) / "data"
            generate(folder, seed=1, num_train=50)
        chains = _chains(load_dataset(folder), num_queries)
        if not chains:
            raise DataError(f"{folder}: no gold of train becomes a chain of views on SQLite")
        figures = measure(chains, num_runs)
    show(figures, f"Chains of views, {num_runs} runs", as_json=as_json, digits=3)


def measure(chains: Sequence[tuple[SqliteEngine, Chain]], num_runs: int) -> dict[str, float]:
    """Medians over the runs, by name."""
    for engine, chain in chains:
        engine.execute(chain.sql, LIMITS)  # reads the file's pages
    console = Console(stderr=True)
    runs: list[Costs] = []
    for number in track(range(num_runs), "chains", console=console, transient=True):
        costs = Costs()
        for engine, chain in chains:
            _add(costs, engine, _marked(chain, number))
        runs.append(costs)
    return {
        "cost_ratio": statistics.median(one.chain_s / one.alone_s for one in runs),
        "cost_ratio_kept": statistics.median(one.kept_s / one.alone_s for one in runs),
        "num_chains": len(chains),
        "mean_views": statistics.mean(len(chain.views) for _, chain in chains),
        "share_settled": statistics.mean(bool(view_texts(chain)) for _, chain in chains),
        "alone_s": statistics.median(one.alone_s for one in runs),
        "num_different": sum(one.num_different for one in runs),
    }


def _add(costs: Costs, engine: SqliteEngine, chain: Chain) -> None:
    alone, alone_s = _timed(engine, chain, on_kept=False)
    if alone.status is not QueryStatus.OK:
        return
    costs.alone_s += alone_s
    for num_views in range(1, len(chain.views) + 1):
        costs.chain_s += _timed(engine, chain.prefix(num_views), on_kept=True)[1]
    kept, kept_s = _timed(engine, chain, on_kept=True)
    costs.kept_s += kept_s
    costs.num_different += _rows(kept) != _rows(alone)


def _timed(engine: SqliteEngine, chain: Chain, *, on_kept: bool) -> tuple[QueryResult, float]:
    views, sql = view_texts(chain) if on_kept else (), chain.sql
    started_s = time.process_time()
    result = engine.execute_view(sql, views, LIMITS) if views else engine.execute(sql, LIMITS)
    return result, time.process_time() - started_s


def _rows(result: QueryResult) -> list[str]:
    return [] if result.truncated else sorted(map(repr, result.rows))


def _marked(chain: Chain, number: int) -> Chain:
    """The same chain in texts that no run has kept before."""
    first, *others = chain.views
    return Chain((replace(first, sql=f"{first.sql} /* {number} */"), *others))


def _chains(dataset: Dataset, num_queries: int) -> list[tuple[SqliteEngine, Chain]]:
    """One chain for each of so many different golds, from all over the training split."""
    room = KeptRoom(ROOM_BYTES)
    golds = list(
        dict.fromkeys(
            (dialogue.db_id, turn.gold_sql)
            for dialogue in dataset.splits.get("train", ())
            for turn in dialogue.turns
        )
    )
    engines: dict[str, SqliteEngine | None] = {}
    found: list[tuple[SqliteEngine, Chain]] = []
    for db_id, sql in golds[:: max(1, len(golds) // num_queries)]:
        if db_id not in engines:
            path = dataset.databases[db_id]
            engine = open_engine(path, memory_bytes=MEMORY_BYTES, room=room)
            engines[db_id] = engine if isinstance(engine, SqliteEngine) else None
        engine = engines[db_id]
        if engine is None:
            continue
        try:
            found.append((engine, chains_of(sql, dataset.schemas[db_id])[0]))
        except ChainError:
            continue
    return found
