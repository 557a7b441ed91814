"""Turns played on a real SQLite file: by messages, or by a script."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from envs.play import collect
from envs.scripts.policy import ScriptedPolicy
from envs.turn import TurnEnv
from helpers.shops import SALES_SECOND
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.learning import ScriptConfig
from mtsql.dialogue import TurnSpec
from mtsql.protocol import ActionName, Answer
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits
from mtsql.trajectory.records import Ending, Trajectory

LIMITS = QueryLimits()
Result = TypeVar("Result")


class SharedPools:
    """A pool for each set of databases, open until a module's tests are done: a start is dear."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._pools: dict[tuple[tuple[str, Path], ...], LocalPool] = {}

    def run(self, database: Path, body: Callable[[LocalPool], Awaitable[Result]]) -> Result:
        """Await `body` with the pool of a SQLite file, which it knows as `shops`."""
        return self.run_on({"shops": database}, body)

    def run_on(
        self, databases: Mapping[str, Path], body: Callable[[LocalPool], Awaitable[Result]]
    ) -> Result:
        """Await `body` with the pool of the databases."""
        key = tuple(databases.items())

        async def run() -> Result:
            if key not in self._pools:
                pool = LocalPool(databases, num_workers=1)
                self._pools[key] = await pool.__aenter__()
            return await body(self._pools[key])

        return self._runner.run(run())

    def close(self) -> None:
        """Close all pools; the next `run` opens them anew."""

        async def close() -> None:
            for pool in self._pools.values():
                await pool.__aexit__(None, None, None)

        if self._pools:
            self._runner.run(close())
        self._pools.clear()


POOLS = SharedPools()


@dataclass(frozen=True)
class Played:
    """What a list of messages leads to."""

    replies: list[Any]
    """The observations as data."""
    texts: list[str]
    ending: Ending | None
    trajectory: Trajectory


def play_messages(
    database: Path,
    *messages: str,
    spec: TurnSpec = SALES_SECOND,
    limits: QueryLimits = LIMITS,
    **options: Any,
) -> Played:
    """Feed the messages; the turn is truncated by MAX_TOKENS if they do not end it."""

    async def run(pool: LocalPool) -> Played:
        env = TurnEnv(spec, pool, EnvironmentConfig(**options), limits)
        await env.start()
        results = [await env.step(message) for message in messages]
        for result in results[:-1]:
            assert result.ending is None
        ending = results[-1].ending
        trajectory = await env.finish(None if ending else Ending.MAX_TOKENS)
        texts = [result.observation for result in results if result.observation is not None]
        return Played([json.loads(text) for text in texts], texts, ending, trajectory)

    return POOLS.run(database, run)


ENVIRONMENT = EnvironmentConfig(prompt="compact")
NEVER = dict.fromkeys(ScriptConfig.model_fields, 0.0)
"""A script that does nothing but propose, execute and answer."""


def record_script(shops, spec, *, seed=1, config=ENVIRONMENT, **shares):
    async def run(pool):
        scripts = ScriptConfig(**NEVER | shares)
        policy = ScriptedPolicy(spec, scripts, Random(seed), config.dialect)
        return policy.record(await collect(TurnEnv(spec, pool, config, LIMITS), policy))

    return POOLS.run(shops, run)


def play_script(shops, spec, **options):
    return record_script(shops, spec, **options).trajectory


def names(trajectory):
    """`propose execute answer`, with the verdict behind a verify."""
    words = []
    for step in trajectory.steps:
        if isinstance(step.action, Answer):
            words.append("answer")
            continue
        word = str(step.action.name)
        if step.action.name is ActionName.VERIFY:
            word += f":{step.action.verdict or step.action.target}"
        words.append(word)
    return " ".join(words)
