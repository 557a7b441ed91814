"""The one text form of a process reward model: a trajectory's own ids, each step closed by a mark.

Labels, training, evaluation and inference all call `step_text`; nothing is tokenised again, so the
bytes are the same on every path. A mark is a token that no text can bring: its text begins a tag,
which `mtsql.shown.harmless` takes apart in all that is shown, and where a model has sampled the id
itself, it is left out.
"""

from dataclasses import dataclass
from math import exp
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat

from mtsql.trajectory.tokens import TokenSequence

VERSION = 1
"""Of the form; scores of a model that learned another one mean nothing."""
STEP, GOOD, BAD = "<|step|>", "<|good|>", "<|bad|>"
"""Texts of the mark and of the two labels, as they stand in the tokenizer of such a model."""
NOTE = "text_form.json"
"""In the model's folder: its `FormNote`."""


class TextForm(BaseModel):
    """Ids of the reserved tokens, and what the text shows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: int = VERSION
    step: int
    """Closes each step."""
    good: int
    """Of the two tokens between which a score decides at the mark; neither stands in the text."""
    bad: int
    digests: bool = True
    """What the environment replied is shown; false: the messages alone."""

    @property
    def reserved(self) -> frozenset[int]:
        return frozenset((self.step, self.good, self.bad))


class FormNote(BaseModel):
    """text_form.json: what must be known to ask a model for scores."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    form: TextForm
    scores: Literal["steps", "outcome"]
    """`steps`: of a process reward model. `outcome`: of an outcome verifier, at the last mark."""
    temperature: PositiveFloat = 1.0
    """Fitted, like `shift`, on dialogues that were not learned."""
    shift: float = 0.0
    """Undoes the equal weight that good and bad have in learning, whatever their shares are."""
    max_tokens: int
    """Of a text; marks beyond are cut off and have no score."""

    def score(self, margin: float) -> float:
        """Probability that a step is good, from the good label's logit minus the bad one's."""
        return logistic((margin + self.shift) / self.temperature)


def logistic(value: float) -> float:
    """1 / (1 + e^-value), without overflow."""
    if value < 0:
        return exp(value) / (1 + exp(value))
    return 1 / (1 + exp(-value))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepText:
    """A trajectory as such a model reads it.

    Example: prompt 1 2, the model says 7 8, the database replies 4, the model says 9; mark 50
        ids          1 2 7 8 4 50 9 50
        positions    5 7
    without digests
        ids          1 2 7 8 50 9 50
        positions    4 6
    """

    ids: tuple[int, ...]
    positions: tuple[int | None, ...]
    """Of each step's mark in `ids`; None: cut off. Only marks at the end are."""
    num_reserved: int
    """Reserved ids that a model had sampled, left out."""

    @property
    def num_cut(self) -> int:
        """Steps without a mark."""
        return sum(position is None for position in self.positions)


def step_text(tokens: TokenSequence, form: TextForm, *, max_tokens: int | None = None) -> StepText:
    """Prompt, then each step's message and the reply to it, then its mark.

    Args:
        max_tokens: of the text. It is cut behind the last mark that fits; without any, it is empty.
    """
    reserved = form.reserved
    num_reserved = sum(one in reserved for one in (*tokens.prompt_ids, *tokens.response_ids))
    ids = [one for one in tokens.prompt_ids if one not in reserved]
    marks: list[int] = []
    begin = 0
    for stop in tokens.step_stops:
        ids += [
            tokens.response_ids[place]
            for place in range(begin, stop)
            if tokens.response_ids[place] not in reserved
            and (form.digests or tokens.response_mask[place])
        ]
        ids.append(form.step)
        marks.append(len(ids) - 1)
        begin = stop
    kept = [mark for mark in marks if max_tokens is None or mark < max_tokens]
    return StepText(
        ids=tuple(ids[: kept[-1] + 1] if kept else ()),
        positions=(*kept, *[None] * (len(marks) - len(kept))),
        num_reserved=num_reserved,
    )
