"""`mtsql bench sql`: calls a second through the SQL pool's Ray actor, and what disturbs them.

Clients are separate processes, each with several callers that wait for one answer before they
ask again. Queries are the gold SQL of the held-out dialogues, made distinct by a comment, so that
neither the cache nor a running twin answers them. Peers run the same queries in the same clients,
in turn with ours. Figures are medians over the runs.
"""

import asyncio
import itertools
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import ray
from rich.console import Console
from rich.progress import track

from actors.sql_pool import sql_client, start_sql_pools
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.errors import DataError
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus
from recipes.bench.common import NAMESPACE, NUM_CLIENTS, local_ray, show
from recipes.bench.sql_peers import PEERS

CALLERS = 16
"""Of each client."""
OURS = ("uncached", "cached", "runaway")
"""The loads of our pool."""
LIMITS = QueryLimits(timeout_s=5.0)
RUNAWAY_LIMITS = QueryLimits(timeout_s=1.0, max_vm_steps=1 << 60)
RUNAWAY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
IDLE_S = 1.0

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
class Resources:
    """Of the pool's actor and all its processes."""

    num_processes: int
    num_threads: int
    num_files: int
    resident_mb: float
    cpu_s: float


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

    async def load_peer(
        self,
        peer: str,
        checkout: Path,
        databases: Mapping[str, Path],
        queries: Sequence[Query],
        seconds: float,
    ) -> Load:
        """The same callers and queries, through another project's executor in this process."""
        execute = PEERS[peer](checkout)
        numbers = itertools.count()
        latencies_s: list[float] = []
        give_up_s = time.monotonic() + seconds

        async def caller() -> None:
            while (now_s := time.monotonic()) < give_up_s:
                number = next(numbers)
                db_id, sql = queries[number % len(queries)]
                await execute(databases[db_id], f"{sql} -- {number}")
                latencies_s.append(time.monotonic() - now_s)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return Load(num_calls=next(numbers), num_failed=0, latencies_s=latencies_s)


def run(
    dataset_folder: Path | None,
    *,
    num_runs: int,
    seconds: float,
    peers: Mapping[str, Path],
    as_json: bool,
) -> None:
    """Start our own Ray, load the pool, and print the figures.

    Args:
        dataset_folder: a prepared dataset; None: the embedded one, generated.
        seconds: of each load in each run.
        peers: checkouts by the names in `PEERS`.

    Raises:
        ConfigError: a peer cannot be loaded.
        DataError: the folder holds no dataset, or one without held-out dialogues.
    """
    for peer, checkout in peers.items():
        PEERS[peer](checkout)
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
        if not queries:
            raise DataError(f"{folder}: no dialogues in test or valid to take queries from")
        with local_ray():
            figures = measure(dataset.databases, queries, num_runs, seconds, peers)
    title = f"SQL pool, {NUM_CLIENTS * CALLERS} callers, {num_runs} runs"
    show(figures, title, as_json=as_json, digits=2)


def measure(
    databases: Mapping[str, Path],
    queries: Sequence[Query],
    num_runs: int,
    seconds: float,
    peers: Mapping[str, Path],
) -> dict[str, float]:
    """Medians over the runs, by name.

    runaway: with 1 % runaway queries at a limit of 1 s; its tail is measured on the other 99 %.
    recovery: from the kill of all workers, one of them in mid-query, to the next answer.
    extra: after the load, beyond what there was before it; a leak would show.
    """
    [actor] = start_sql_pools(databases, namespace=NAMESPACE)
    clients = [Client.remote() for _ in range(NUM_CLIENTS)]
    owner = cast(int, ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))
    recoveries_s: list[float] = []

    def load(run: str, *, runaways: bool = False) -> list[Load]:
        return ray.get([one.load.remote(queries, seconds, run, runaways) for one in clients])

    def load_peer(peer: str) -> list[Load]:
        folder = peers[peer]
        return ray.get(
            [one.load_peer.remote(peer, folder, databases, queries, seconds) for one in clients]
        )

    load("warm-up")
    load("")
    before = _resources(owner)
    loads: dict[str, list[list[Load]]] = {name: [] for name in (*OURS, *peers)}
    console = Console(stderr=True)
    for run in track(range(num_runs), "SQL pool", console=console, transient=True):
        loads["uncached"].append(load(f"{run}"))
        for peer in peers:
            loads[peer].append(load_peer(peer))
        loads["cached"].append(load(""))
        loads["runaway"].append(load(f"r{run}", runaways=True))
        recoveries_s.append(_recovery_s(actor, queries[0][0], run))
    time.sleep(IDLE_S)
    after = _resources(owner)
    time.sleep(IDLE_S)
    idle = _resources(owner)
    figures = _rates(loads, seconds)
    for peer in peers:
        figures[f"times_{peer}"] = figures["uncached_per_s"] / figures[f"{peer}_per_s"]
    ours = [one for name in OURS for run in loads[name] for one in run]
    return figures | {
        "recovery_ms": 1000 * statistics.median(recoveries_s),
        "num_calls": sum(one.num_calls for one in ours),
        "num_failed": sum(one.num_failed for one in ours),
        "extra_processes": after.num_processes - before.num_processes,
        "extra_threads": after.num_threads - before.num_threads,
        "extra_files": after.num_files - before.num_files,
        "extra_mb": after.resident_mb - before.resident_mb,
        "idle_cpu_percent": 100 * (idle.cpu_s - after.cpu_s) / IDLE_S,
    }


def _rates(loads: Mapping[str, Sequence[Sequence[Load]]], seconds: float) -> dict[str, float]:
    """Calls a second and waiting times of each load, medians over the runs."""
    figures: dict[str, float] = {}
    for name, runs in loads.items():
        rates = [sum(one.num_calls for one in run) / seconds for run in runs]
        tails = [_percentiles_ms([s for one in run for s in one.latencies_s]) for run in runs]
        figures[f"{name}_per_s"] = statistics.median(rates)
        figures[f"{name}_p50_ms"] = statistics.median(p50 for p50, _ in tails)
        figures[f"{name}_p99_ms"] = statistics.median(p99 for _, p99 in tails)
    return figures


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
        client.close()
        return recovery_s

    return asyncio.run(main())


def _resources(owner: int) -> Resources:
    process = psutil.Process(owner)
    processes = [process, *process.children(recursive=True)]
    return Resources(
        num_processes=len(processes),
        num_threads=sum(one.num_threads() for one in processes),
        num_files=sum(one.num_fds() for one in processes),
        resident_mb=sum(one.memory_info().rss for one in processes) / 1e6,
        cpu_s=sum(sum(one.cpu_times()[:2]) for one in processes),
    )
