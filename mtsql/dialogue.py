"""One record for a dialogue of any dataset."""

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel

from mtsql.schema import Schema

Hardness = Literal["easy", "medium", "hard", "extra"]
HARDNESSES: tuple[Hardness, ...] = get_args(Hardness)
"""From the easiest to the hardest."""
UNREAD = "unread"
"""The band of turns whose gold is outside Spider's subset, so that no label can be given."""
HARDNESS_BANDS = (*HARDNESSES, UNREAD)


def band_of(hardness: Hardness | None) -> str:
    """The name under which tables and the curriculum count a turn."""
    return hardness or UNREAD


class Turn(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One user question and its gold SQL."""

    turn_id: str
    """Stable: `DIALOGUE_ID/INDEX`, the index from 0."""
    question: str
    gold_sql: str
    """Executable as it stands: spaced comparison operators are already joined."""
    hardness: Hardness | None
    """Spider's label of the gold SQL; None: Spider's grammar cannot read it."""
    tags: tuple[str, ...] = ()
    """What the turn shows, when the source knows: refinement, ellipsis, join, trap ..."""


class Dialogue(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Turns about one database, in order."""

    dialogue_id: str
    """Stable: `SOURCE-SPLIT-NUMBER`, the number being the place in the original file."""
    db_id: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTurn:
    """An earlier turn as memory holds it."""

    question: str
    sql: str
    """Gold or predicted, as the history mode says; empty if the agent gave none."""


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
