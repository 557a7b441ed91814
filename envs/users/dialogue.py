"""Users, who ask the questions of a dialogue, and dialogues played between a user and an agent.

    ScriptedUser    asks given turns in order, regardless of the answers
    SimulatedUser   asks what a callable says: a language model behind HTTP, a person
    GoalUser        (envs.users.goals) asks for a target query part by part, and again if it must

Only a turn that knows its gold SQL can be scored; the others are played and recorded all the same.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.play import Generate, collect, remembered
from envs.turn import TurnEnv
from mtsql.config.environment import EnvironmentConfig, HistoryMode
from mtsql.dialogue import PastTurn, Turn, TurnSpec
from mtsql.evaluation.em.hardness import hardness
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, SqlExecutor
from mtsql.trajectory.records import Ending, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A turn as the user sees it."""

    question: str
    sql: str
    """The agent's final SQL; empty if it gave none."""
    result: QueryResult | None
    """What that SQL returns; None without it."""


class User(Protocol):
    async def next_question(self, seen: Sequence[Seen]) -> Turn | None:
        """The next turn of the dialogue, or None when there is nothing left to ask.

        A `turn_id` that is empty is numbered by the dialogue; see `question`.
        """
        ...


def question(text: str, gold_sql: str = "", schema: Schema | None = None) -> Turn:
    """A turn from a question; without gold it stays unscored.

    Args:
        schema: of gold's database; labels the hardness.
    """
    label = hardness(gold_sql, schema) if gold_sql and schema is not None else None
    return Turn(turn_id="", question=text, gold_sql=gold_sql, hardness=label)


class ScriptedUser:
    """Asks the turns in order and hears nothing."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns

    async def next_question(self, seen: Sequence[Seen]) -> Turn | None:
        return self._turns[len(seen)] if len(seen) < len(self._turns) else None


class SimulatedUser:
    """Asks what a callable says, given all turns so far; None or blank text ends the dialogue.

    Example, with any client of a language model:

        async def ask(seen: Sequence[Seen]) -> str | None:
            reply = await client.complete(f"Your goal: {goal}. So far: {seen}. Ask, or say DONE.")
            return None if reply == "DONE" else reply
    """

    def __init__(self, ask: Callable[[Sequence[Seen]], Awaitable[str | None]]) -> None:
        self._ask = ask

    async def next_question(self, seen: Sequence[Seen]) -> Turn | None:
        text = await self._ask(seen)
        return question(text.strip()) if text and text.strip() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueSpec:
    """Where a dialogue takes place, before its first question is known."""

    dialogue_id: str
    db_id: str
    schema: Schema
    history: HistoryMode = "predicted"
    """`gold` remembers the gold SQL of turns that know it, and the agent's own of the others."""
    past: tuple[PastTurn, ...] = ()
    """Turns before the first one that is played."""
    max_turns: int = 20
    """Ends a user who never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedTurn:
    spec: TurnSpec
    trajectory: Trajectory


async def play_dialogue(
    dialogue: DialogueSpec,
    user: User,
    agent: Callable[[TurnSpec], Generate],
    executor: SqlExecutor,
    config: EnvironmentConfig,
    limits: QueryLimits,
) -> list[PlayedTurn]:
    """Play until the user has nothing left to ask; arguments as for `play_turns`."""
    turns = play_turns(dialogue, user, agent, executor, config, limits)
    return [played async for played in turns]


async def play_turns(
    dialogue: DialogueSpec,
    user: User,
    agent: Callable[[TurnSpec], Generate],
    executor: SqlExecutor,
    config: EnvironmentConfig,
    limits: QueryLimits,
    rules: Rules = OFFICIAL,
) -> AsyncGenerator[PlayedTurn]:
    """Yield each turn when it has ended, so that the caller can show it before the next question.

    Args:
        agent: makes the policy of a turn; `lambda _: generate` for one that keeps no state.
        rules: of the comparison with gold.
    """
    past = dialogue.past
    seen: list[Seen] = []
    while len(seen) < dialogue.max_turns:
        turn = await user.next_question(tuple(seen))
        if turn is None:
            return
        index = len(past)
        if not turn.turn_id:
            turn = turn.model_copy(update={"turn_id": f"{dialogue.dialogue_id}/{index}"})
        spec = TurnSpec(
            dialogue_id=dialogue.dialogue_id,
            turn_index=index,
            turn=turn,
            db_id=dialogue.db_id,
            schema=dialogue.schema,
            history=past,
        )
        env = TurnEnv(spec, executor, config, limits, rules=rules)
        trajectory = await collect(env, agent(spec))
        yield PlayedTurn(spec=spec, trajectory=trajectory)
        own = remembered(spec, trajectory)
        is_gold = dialogue.history == "gold" and turn.gold_sql
        past = (*past, PastTurn(question=own.question, sql=turn.gold_sql) if is_gold else own)
        result = None
        if own.sql and trajectory.ending is not Ending.INFRA_FAULT:
            request = QueryRequest(db_id=dialogue.db_id, sql=own.sql, limits=limits)
            (result,) = await executor.execute_many([request])
        seen.append(Seen(question=turn.question, sql=own.sql, result=result))
