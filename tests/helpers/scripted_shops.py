"""A small database, and scripts that play one turn on it."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from random import Random

from envs.play import collect
from envs.scripts.policy import ScriptedPolicy
from envs.turn import TurnEnv
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.learning import ScriptConfig
from mtsql.dialogue import PastTurn, Turn, TurnSpec
from mtsql.protocol import ActionName, Answer
from mtsql.schema import Column, Schema, Table
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits

COLUMNS = ("id", "name", "city", "price")
SCHEMA = Schema(
    db_id="shops",
    tables=(
        Table(name="shop", columns=tuple(Column(name=name, type="text") for name in COLUMNS)),
        Table(name="owner", columns=(Column(name="age", type="number"),)),
    ),
)
ENVIRONMENT = EnvironmentConfig(prompt="compact")
LIMITS = QueryLimits()
NEVER = dict.fromkeys(ScriptConfig.model_fields, 0.0)
ROME = "SELECT name FROM shop WHERE city = 'ROME'"
CHEAP_ROME = "SELECT name FROM shop WHERE city = 'ROME' AND price < 5"


def write_shops(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE shop (id, name, city, price)")
        connection.execute("CREATE TABLE owner (age)")
        connection.executemany(
            "INSERT INTO shop VALUES (?, ?, ?, ?)",
            [
                (1, "Apex", "ROME", 3),
                (2, "Nova", "ROME", 9),
                (3, "Luna", "OSLO", 4),
                (4, "Blue Moon", "BARI", 7),
            ],
        )
    return path


def spec_of(gold_sql, *, past=None):
    return TurnSpec(
        dialogue_id="d",
        turn_index=0 if past is None else 1,
        turn=Turn(turn_id="d/0", question="Which?", gold_sql=gold_sql, hardness="easy"),
        db_id="shops",
        schema=SCHEMA,
        history=() if past is None else (PastTurn(question="Before?", sql=past),),
    )


def asking(spec, question):
    return replace(spec, turn=spec.turn.model_copy(update={"question": question}))


def recorded(shops, spec, *, seed=1, config=ENVIRONMENT, **shares):
    async def run():
        async with LocalPool({"shops": shops}, num_workers=1) as pool:
            scripts = ScriptConfig(**NEVER | shares)
            policy = ScriptedPolicy(spec, scripts, Random(seed), config.dialect)
            return policy.record(await collect(TurnEnv(spec, pool, config, LIMITS), policy))

    return asyncio.run(run())


def play(shops, spec, **options):
    return recorded(shops, spec, **options).trajectory


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
