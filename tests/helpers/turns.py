"""Turns played on a real SQLite file: by messages, or by a script."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

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

    async def run() -> Played:
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            env = TurnEnv(spec, pool, EnvironmentConfig(**options), limits)
            await env.start()
            results = [await env.step(message) for message in messages]
            for result in results[:-1]:
                assert result.ending is None
            ending = results[-1].ending
            trajectory = await env.finish(None if ending else Ending.MAX_TOKENS)
            texts = [result.observation for result in results if result.observation is not None]
            return Played([json.loads(text) for text in texts], texts, ending, trajectory)

    return asyncio.run(run())


ENVIRONMENT = EnvironmentConfig(prompt="compact")
NEVER = dict.fromkeys(ScriptConfig.model_fields, 0.0)
"""A script that does nothing but propose, execute and answer."""


def record_script(shops, spec, *, seed=1, config=ENVIRONMENT, **shares):
    async def run():
        async with LocalPool({"shops": shops}, num_workers=1) as pool:
            scripts = ScriptConfig(**NEVER | shares)
            policy = ScriptedPolicy(spec, scripts, Random(seed), config.dialect)
            return policy.record(await collect(TurnEnv(spec, pool, config, LIMITS), policy))

    return asyncio.run(run())


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
