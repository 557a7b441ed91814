"""What goes into an environment and what comes out of a step."""

from dataclasses import dataclass

from mtsql.data.records import Dialogue, Turn
from mtsql.memory import PastTurn
from mtsql.schema import Schema
from mtsql.trajectory import Ending

Message = dict[str, str]
"""`{"role": ..., "content": ...}`; an observation has the role `tool`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSpec:
    """All that makes a turn; small and picklable."""

    dialogue_id: str
    turn_index: int
    turn: Turn
    db_id: str
    schema: Schema
    history: tuple[PastTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    observation: str | None
    """None if and only if the turn has ended."""
    ending: Ending | None


def turn_specs(dialogue: Dialogue, schema: Schema) -> list[TurnSpec]:
    """The dialogue's turns, each with the gold history before it."""
    past = tuple(PastTurn(question=turn.question, sql=turn.gold_sql) for turn in dialogue.turns)
    return [
        TurnSpec(
            dialogue_id=dialogue.dialogue_id,
            turn_index=index,
            turn=turn,
            db_id=dialogue.db_id,
            schema=schema,
            history=past[:index],
        )
        for index, turn in enumerate(dialogue.turns)
    ]
