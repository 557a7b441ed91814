"""`mtsql bench env`: what the environment adds to each step, without the model and its time.

A scripted agent proposes the gold SQL, executes it and answers, again and again over the held-out
turns of the embedded data; every query is in the pool's cache. A dialogue's figure is the mean of
its three steps as it waits for them; a run's is the median of its dialogues; and what is printed,
the median of the runs. Nothing waits for a model here, so the loads are heavier than any training.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import psutil
import ray
from rich.console import Console
from rich.progress import Progress

from actors.sql_pool import sql_client, start_sql_pools
from envs.turn import TurnEnv
from mtsql.config.environment import EnvironmentConfig
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.dialogue import Message, TurnSpec, turn_specs
from mtsql.protocol import ActionName, Answer, ToolCall
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, SqlExecutor
from recipes.bench.common import NAMESPACE, NUM_CLIENTS, local_ray, message, show

NUM_CROWD = 1000
"""Dialogues at the same time in one process, whose memory is measured."""
LOAD_S = 2.0
"""Of each load with several dialogues."""
ENVIRONMENT = EnvironmentConfig()
LIMITS = QueryLimits()
REST = (message(ToolCall(name=ActionName.EXECUTE)), message(Answer()))


@dataclass(slots=True, kw_only=True)
class Played:
    """What the dialogues of one load saw."""

    means_s: list[float] = field(default_factory=list[float])
    """Of the steps of each dialogue."""
    steps_s: list[float] = field(default_factory=list[float])
    executes_s: list[float] = field(default_factory=list[float])
    """The steps that ask the pool."""
    turns_s: list[float] = field(default_factory=list[float])
    """From the prompt to the judged trajectory."""
    num_wrong: int = 0


async def load(
    specs: Sequence[TurnSpec], executor: SqlExecutor, *, num_dialogues: int, seconds: float = 0
) -> Played:
    """Play with so many dialogues at a time; each spec once, then on for `seconds`."""
    seen = Played()
    next_spec = 0
    give_up_s = time.perf_counter() + seconds

    async def player() -> None:
        nonlocal next_spec
        while next_spec < len(specs) or time.perf_counter() < give_up_s:
            spec = specs[next_spec % len(specs)]
            next_spec += 1
            start_s = time.perf_counter()
            env = TurnEnv(spec, executor, ENVIRONMENT, LIMITS)
            await env.start()
            steps_s: list[float] = []
            for text in (_proposal(spec), *REST):
                step_s = time.perf_counter()
                await env.step(text)
                steps_s.append(time.perf_counter() - step_s)
            trajectory = await env.finish()
            seen.turns_s.append(time.perf_counter() - start_s)
            seen.means_s.append(statistics.fmean(steps_s))
            seen.steps_s.extend(steps_s)
            seen.executes_s.append(steps_s[1])
            seen.num_wrong += not (trajectory.judgements and trajectory.judgements[-1].ex)

    await asyncio.gather(*(player() for _ in range(num_dialogues)))
    return seen


def _proposal(spec: TurnSpec) -> str:
    return message(ToolCall(name=ActionName.PROPOSE, sql=spec.turn.gold_sql))


@ray.remote(num_cpus=0)
class Players:
    """One process with its share of the dialogues."""

    async def load(self, specs: Sequence[TurnSpec], num_dialogues: int, seconds: float) -> Played:
        executor = sql_client(NAMESPACE)
        return await load(specs, executor, num_dialogues=num_dialogues, seconds=seconds)


def crowd_mb(databases: Mapping[str, Path], specs: Sequence[TurnSpec]) -> float:
    """Growth of this process, in MB, while `NUM_CROWD` dialogues stand between two steps.

    Call it in a fresh process: what the first dialogues leave in caches counts, too.
    """
    process = psutil.Process()

    async def main() -> float:
        async with LocalPool(databases) as pool:
            before = process.memory_info().rss
            is_measured = asyncio.Event()
            num_waiting = 0

            async def dialogue(spec: TurnSpec) -> None:
                nonlocal num_waiting
                env = TurnEnv(spec, pool, ENVIRONMENT, LIMITS)
                messages: list[Message] = await env.start()
                for text in (_proposal(spec), REST[0]):
                    result = await env.step(text)
                    messages.append({"role": "assistant", "content": text})
                    messages.append({"role": "tool", "content": result.observation or ""})
                num_waiting += 1
                await is_measured.wait()
                await env.step(REST[1])
                await env.finish()

            chosen = [specs[number % len(specs)] for number in range(NUM_CROWD)]
            tasks = [asyncio.create_task(dialogue(spec)) for spec in chosen]
            while num_waiting < NUM_CROWD:
                await asyncio.sleep(0.01)
            grown = process.memory_info().rss - before
            is_measured.set()
            await asyncio.gather(*tasks)
            return grown / 1e6

    return asyncio.run(main())


def run(*, num_dialogues: int, num_runs: int, as_json: bool) -> None:
    """Measure on the embedded data, with our own Ray, and print the figures."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        folder = Path(scratch) / "data"
        generate(folder, seed=1, num_train=0)
        dataset = load_dataset(folder)
        specs = [
            spec
            for dialogues in dataset.splits.values()
            for dialogue in dialogues
            for spec in turn_specs(dialogue, dataset.schemas[dialogue.db_id])
        ]
        task = bar.add_task("environment", total=3 * num_runs)
        figures = measure(
            dataset.databases, specs, num_dialogues, num_runs, lambda: bar.advance(task)
        )
    title = f"Environment, {num_dialogues} dialogues at a time, {num_runs} runs"
    show(figures, title, as_json=as_json, digits=4)


def measure(
    databases: Mapping[str, Path],
    specs: Sequence[TurnSpec],
    num_dialogues: int,
    num_runs: int,
    advance: Callable[[], None],
) -> dict[str, float]:
    """Medians over the runs, by name.

    one: a dialogue at a time in this process. many: `num_dialogues` at a time in this process.
    ray: as many, in client processes, through the SQL pool's actor.
    """
    one, many = asyncio.run(_local(databases, specs, num_dialogues, num_runs, advance))
    crowds_mb: list[float] = []
    for _ in range(num_runs):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            crowds_mb.append(child.submit(crowd_mb, databases, specs).result())
        advance()
    through_ray = _through_ray(databases, specs, num_dialogues, num_runs, advance)
    figures: dict[str, float] = {}
    for name, loads in (("one", one), ("many", many), ("ray", through_ray)):
        figures[f"{name}_step_ms"] = _median_ms(loads, lambda load: load.means_s)
        figures[f"{name}_execute_ms"] = _median_ms(loads, lambda load: load.executes_s)
        figures[f"{name}_step_p99_ms"] = 1000 * statistics.median(
            statistics.quantiles(load.steps_s, n=100)[98] for load in loads
        )
        figures[f"{name}_turn_ms"] = _median_ms(loads, lambda load: load.turns_s)
    per_s = statistics.median(len(load.steps_s) / LOAD_S for load in through_ray)
    everything = (*one, *many, *through_ray)
    return figures | {
        "ray_steps_per_s": per_s,
        "crowd_mb": statistics.median(crowds_mb),
        "num_steps": sum(len(load.steps_s) for load in everything),
        "num_wrong": sum(load.num_wrong for load in everything),
    }


def _median_ms(loads: Sequence[Played], figures_s: Callable[[Played], Sequence[float]]) -> float:
    return 1000 * statistics.median(statistics.median(figures_s(load)) for load in loads)


async def _local(
    databases: Mapping[str, Path],
    specs: Sequence[TurnSpec],
    num_dialogues: int,
    num_runs: int,
    advance: Callable[[], None],
) -> tuple[list[Played], list[Played]]:
    one: list[Played] = []
    many: list[Played] = []
    async with LocalPool(databases) as pool:
        await load(specs, pool, num_dialogues=num_dialogues)  # fills the caches
        for _ in range(num_runs):
            one.append(await load(specs, pool, num_dialogues=1))
            many.append(await load(specs, pool, num_dialogues=num_dialogues, seconds=LOAD_S))
            advance()
    return one, many


def _through_ray(
    databases: Mapping[str, Path],
    specs: Sequence[TurnSpec],
    num_dialogues: int,
    num_runs: int,
    advance: Callable[[], None],
) -> list[Played]:
    with local_ray():
        actors = start_sql_pools(databases, namespace=NAMESPACE)
        clients = [Players.remote() for _ in range(NUM_CLIENTS)]
        shares = [len(range(n, num_dialogues, NUM_CLIENTS)) for n in range(NUM_CLIENTS)]

        def together(seconds: float) -> Played:
            calls = zip(clients, shares, strict=True)
            parts: list[Played] = ray.get(
                [client.load.remote(specs, share, seconds) for client, share in calls if share]
            )
            return Played(
                means_s=[s for part in parts for s in part.means_s],
                steps_s=[s for part in parts for s in part.steps_s],
                executes_s=[s for part in parts for s in part.executes_s],
                turns_s=[s for part in parts for s in part.turns_s],
                num_wrong=sum(part.num_wrong for part in parts),
            )

        together(0)  # fills the caches
        loads: list[Played] = []
        for _ in range(num_runs):
            loads.append(together(LOAD_S))
            advance()
        del actors  # the pools live as long as their handles
        return loads
