"""One record for a dialogue, whatever dataset it comes from."""

from typing import Literal

from pydantic import BaseModel

Hardness = Literal["easy", "medium", "hard", "extra"]


class Turn(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One user question and its gold SQL."""

    turn_id: str
    """Stable: `DIALOGUE_ID/INDEX`, the index from 0."""
    question: str
    gold_sql: str
    """Executable as it stands: spaced comparison operators are already joined."""
    hardness: Hardness
    """Spider's label of the gold SQL."""
    tags: tuple[str, ...] = ()
    """What the turn shows, when the source knows: refinement, ellipsis, join, trap ..."""


class Dialogue(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Turns about one database, in order."""

    dialogue_id: str
    """Stable: `SOURCE-SPLIT-NUMBER`, the number being the place in the original file."""
    db_id: str
    turns: tuple[Turn, ...]
