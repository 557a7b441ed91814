"""Pairs of steps: after the same history a right proposal and a plausible wrong one.

A scorer that prefers the right one of most pairs tells steps apart, whatever policy wrote them.
Right and wrong are certified by execution: gold gives rows, the wrong query does not match it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from pydantic import BaseModel, ConfigDict

from mtsql.dialogue import Hardness, TurnSpec
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.mistakes.joins import missing_join
from mtsql.query.edits import dropped_condition, flip_case, guessed_columns, wrong_column
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, SqlExecutor

NUM_TOGETHER = 256
"""Turns whose queries are judged in one call."""
Edit = Callable[[str, Schema, Random], str | None]
MISTAKES: dict[str, Edit] = {
    "wrong_column": wrong_column,
    "dropped_condition": lambda sql, _, rng: dropped_condition(sql, rng),
    "wrong_case": lambda sql, _, rng: flip_case(sql, guessed_columns(sql)),
    "missing_join": missing_join,
}
"""How a gold query goes wrong; None where the query has no place for it.

They are edits of its text, so that style tells nothing."""


class PastRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    sql: str


class StepPair(BaseModel):
    """One line of the bench."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    turn_id: str
    db_id: str
    split: str
    hardness: Hardness | None
    history: tuple[PastRow, ...]
    """The dialogue's earlier turns with their golds."""
    question: str
    right: str
    wrong: str
    mistake: str
    """By MISTAKES."""


async def step_pairs(
    executor: SqlExecutor,
    specs: Sequence[tuple[str, TurnSpec]],
    limits: QueryLimits,
    *,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[StepPair]:
    """All pairs of some turns, one for each mistake that the turn's gold can hold.

    Args:
        specs: (split, turn).
        progress: told how many turns are done.
    """
    pairs: list[StepPair] = []
    for begin in range(0, len(specs), NUM_TOGETHER):
        part = specs[begin : begin + NUM_TOGETHER]
        made = [pair for split, spec in part for pair in _made(split, spec, seed)]
        schemas = {spec.db_id: spec.schema for _, spec in part}
        golds = {pair.turn_id: pair.right for pair in made}
        mistaken = set(await mistaken_pairs(executor, made, golds, schemas, limits))
        pairs += [pair for number, pair in enumerate(made) if number not in mistaken]
        if progress is not None:
            progress(begin + len(part))
    return pairs


def _made(split: str, spec: TurnSpec, seed: int) -> Iterator[StepPair]:
    for name, edit in MISTAKES.items():
        rng = Random(f"{seed}/{spec.turn.turn_id}/{name}")
        wrong = edit(spec.turn.gold_sql, spec.schema, rng)
        if wrong is not None and wrong != spec.turn.gold_sql:
            yield StepPair(
                turn_id=spec.turn.turn_id,
                db_id=spec.db_id,
                split=split,
                hardness=spec.turn.hardness,
                history=tuple(PastRow(question=one.question, sql=one.sql) for one in spec.history),
                question=spec.turn.question,
                right=spec.turn.gold_sql,
                wrong=wrong,
                mistake=name,
            )


async def mistaken_pairs(
    executor: SqlExecutor,
    pairs: Sequence[StepPair],
    golds: Mapping[str, str],
    schemas: Mapping[str, Schema],
    limits: QueryLimits,
) -> list[int]:
    """Places of the pairs whose right query is not certified right, or whose wrong one not wrong.

    Args:
        golds: by turn.
        schemas: by database.
    """
    asked = [
        JudgeItem(
            db_id=pair.db_id,
            gold_sql=golds[pair.turn_id],
            pred_sql=sql,
            schema=schemas[pair.db_id],
            limits=limits,
            with_em=False,
        )
        for pair in pairs
        for sql in (pair.right, pair.wrong)
    ]
    told = await judge_many(executor, asked)
    return [
        number
        for number, (right, wrong) in enumerate(zip(told[::2], told[1::2], strict=True))
        # Of two empty results nothing can be said.
        if right.ex is not True or right.is_empty or wrong.ex is not False
    ]


def planted(
    pairs: Sequence[StepPair], number: int, *, seed: int
) -> tuple[list[StepPair], list[int]]:
    """The pairs with right and wrong exchanged in some of them, and the places of those."""
    places = sorted(Random(seed).sample(range(len(pairs)), min(number, len(pairs))))
    changed = list(pairs)
    for place in places:
        one = changed[place]
        changed[place] = one.model_copy(update={"right": one.wrong, "wrong": one.right})
    return changed, places
