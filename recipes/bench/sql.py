"""`mtsql bench sql`: calls a second through the SQL pool's Ray actor, and what disturbs them.

Clients are processes of their own, each with several callers that wait for one answer before they
ask again. Queries are the gold SQL of the held-out dialogues, made distinct by a comment, so that
neither the cache nor a running twin answers them. Figures are medians over the runs.
"""

import asyncio
import itertools
import logging
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import ray
from rich.progress import track

from actors.sql_pool import sql_client, start_sql_pools
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus

NAMESPACE = "mtsql_bench"
NUM_CLIENTS = 2
CALLERS = 16
"""Of each client: 32 callers in all."""
LIMITS = QueryLimits(timeout_s=5.0)
RUNAWAY_LIMITS = QueryLimits(timeout_s=1.0, max_vm_steps=1 << 60)
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

Query = tuple[str, str]
"""(db_id, sql)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one client saw in one run."""

    num_calls: int
    num_failed: int
    latencies_s: list[float]
    """Of the queries that are no runaways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the runs."""

    uncached_per_s: float
    uncached_p50_ms: float
    uncached_p99_ms: float
    cached_per_s: float
    runaway_per_s: float
    """With 1 % runaway queries at a limit of 1 s."""
    runaway_p99_ms: float
    """Of the other 99 %."""
    recovery_ms: float
    """From the kill of a worker in mid-query to the next answer."""
    extra_processes: int
    """After the load, beyond those before it; a leak would show."""
    extra_files: int
    extra_mb: float
    num_failed: int


@ray.remote(num_cpus=0)
class Client:
    """One process with several callers."""

    async def load(
        self, queries: Sequence[Query], seconds: float, run: str, runaways: bool
    ) -> Load:
        """Ask for `seconds`; an empty `run` repeats the texts, so that the cache answers."""
        client = sql_client(NAMESPACE)
        numbers = itertools.count()
        latencies_s: list[float] = []
        num_failed = 0
        give_up_s = time.monotonic() + seconds

        async def caller() -> None:
            nonlocal num_failed
            while (now_s := time.monotonic()) < give_up_s:
                number = next(numbers)
                mark = f" -- {os.getpid()} {run} {number}" if run else ""
                if runaways and number % 100 == 99:
                    request = QueryRequest(
                        db_id=queries[0][0], sql=RUNAWAY + mark, limits=RUNAWAY_LIMITS
                    )
                    await client.execute_many([request])
                    continue
                db_id, sql = queries[number % len(queries)]
                request = QueryRequest(db_id=db_id, sql=sql + mark, limits=LIMITS)
                [result] = await client.execute_many([request])
                latencies_s.append(time.monotonic() - now_s)
                num_failed += result.status is not QueryStatus.OK

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return Load(num_calls=next(numbers), num_failed=num_failed, latencies_s=latencies_s)


def measure(dataset_folder: Path | None, *, num_runs: int, seconds: float) -> Figures:
    """Start a Ray of our own, load the pool, and take the figures.

    Args:
        dataset_folder: a prepared dataset; None: the embedded one, made anew.
        seconds: of each load in each run.

    Raises:
        DataError: the folder holds no dataset.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = dataset_folder
        if folder is None:
            folder = Path(scratch) / "data"
            generate(folder, seed=1, num_train=50)
        dataset = load_dataset(folder)
        queries = [
            (dialogue.db_id, turn.gold_sql)
            for split in ("test", "valid")
            for dialogue in dataset.splits.get(split, ())
            for turn in dialogue.turns
        ]
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            return _measure(dataset.databases, queries, num_runs, seconds)
        finally:
            ray.shutdown()


def _measure(
    databases: Mapping[str, Path], queries: Sequence[Query], num_runs: int, seconds: float
) -> Figures:
    [actor] = start_sql_pools(databases, namespace=NAMESPACE)
    clients = [Client.remote() for _ in range(NUM_CLIENTS)]
    owner = cast(int, ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))
    loads: dict[str, list[list[Load]]] = {"uncached": [], "cached": [], "runaway": []}
    recoveries_s: list[float] = []

    def load(run: str, *, runaways: bool = False) -> list[Load]:
        return ray.get([one.load.remote(queries, seconds, run, runaways) for one in clients])

    load("warm-up")
    load("")
    before = _resources(owner)
    for run in track(range(num_runs), description="SQL pool", transient=True):
        loads["uncached"].append(load(f"{run}"))
        loads["cached"].append(load(""))
        loads["runaway"].append(load(f"r{run}", runaways=True))
        recoveries_s.append(_recovery_s(actor, queries[0][0], run))
    time.sleep(1)
    after = _resources(owner)
    tails = {
        name: [_percentiles_ms([s for one in run for s in one.latencies_s]) for run in runs]
        for name, runs in loads.items()
    }

    def rate(name: str) -> float:
        return statistics.median(sum(one.num_calls for one in run) / seconds for run in loads[name])

    return Figures(
        uncached_per_s=rate("uncached"),
        uncached_p50_ms=statistics.median(p50 for p50, _ in tails["uncached"]),
        uncached_p99_ms=statistics.median(p99 for _, p99 in tails["uncached"]),
        cached_per_s=rate("cached"),
        runaway_per_s=rate("runaway"),
        runaway_p99_ms=statistics.median(p99 for _, p99 in tails["runaway"]),
        recovery_ms=1000 * statistics.median(recoveries_s),
        extra_processes=after[0] - before[0],
        extra_files=after[1] - before[1],
        extra_mb=after[2] - before[2],
        num_failed=sum(one.num_failed for runs in loads.values() for run in runs for one in run),
    )


def _percentiles_ms(latencies_s: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(latencies_s, n=100)
    return 1000 * cuts[49], 1000 * cuts[98]


def _recovery_s(actor: Any, db_id: str, run: int) -> float:  # noqa: ANN401 - Ray's handles are untyped
    """Kill the workers while a query runs, and wait for the next answer."""

    async def main() -> float:
        client = sql_client(NAMESPACE)
        long = QueryRequest(db_id=db_id, sql=f"{RUNAWAY} -- {run}", limits=RUNAWAY_LIMITS)
        under_way = asyncio.create_task(client.execute_many([long]))
        await asyncio.sleep(0.2)
        for pid in await actor.worker_pids.remote():
            os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        await client.execute_many(
            [QueryRequest(db_id=db_id, sql=f"SELECT 1 -- kill {run}", limits=LIMITS)]
        )
        recovery_s = time.monotonic() - killed_s
        await under_way
        return recovery_s

    return asyncio.run(main())


def _resources(owner: int) -> tuple[int, int, float]:
    """(child processes, open files of the actor, MB resident in the actor and its workers)."""
    process = psutil.Process(owner)
    children = process.children(recursive=True)
    resident = sum(one.memory_info().rss for one in (process, *children))
    return len(children), process.num_fds(), resident / 1e6


def as_dict(figures: Figures) -> dict[str, float]:
    return {name: round(value, 2) for name, value in asdict(figures).items()}
