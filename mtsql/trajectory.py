"""The finished record of one attempt at one turn."""

from dataclasses import dataclass
from enum import StrEnum

from mtsql.evaluation.records import Judgement
from mtsql.protocol import Action, ActionName, ToolCall


class Ending(StrEnum):
    ANSWERED = "answered"
    """The model gave its final SQL for the turn."""
    MAX_STEPS = "max_steps"
    """The step limit came first: truncated; the current proposal is scored."""
    MAX_TOKENS = "max_tokens"
    """The token limit came first: truncated; the current proposal is scored."""
    MALFORMED = "malformed"
    """Too many messages in a row could not be read; the current proposal is scored."""
    INFRA_FAULT = "infra_fault"
    """Our fault, not the model's: unscored, dropped or retried by rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One model message and the environment's reply."""

    message: str
    action: Action
    observation: str | None
    """None after the last step."""
    proposal: int | None
    """Index into the trajectory's proposals: the one current after this step."""
    status: str | None = None
    """The QueryStatus of an execute step."""
    num_rows: int | None = None
    is_suspicious: bool = False
    """The executed result is empty, all NULL, or a single zero."""
    is_accepted: bool = True
    """False: out of order, so it changed nothing (a verdict on a result never shown ...)."""
    num_kept: int | None = None
    """Memory comparison shown by this step: clause elements that the proposal keeps."""
    num_added: int | None = None
    num_dropped: int | None = None
    num_changed: int | None = None
    """Elements about the same column with another value, operator or direction."""

    def calls(self, name: ActionName) -> bool:
        """Its action is a call of this tool."""
        return isinstance(self.action, ToolCall) and self.action.name is name


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    turn_id: str
    steps: tuple[Step, ...]
    ending: Ending
    proposals: tuple[str, ...]
    """Every SQL the agent stood behind, in order; the last is the answer."""
    judgements: tuple[Judgement, ...]
    """One for each proposal; empty when the ending is INFRA_FAULT."""
    fault: str = ""
    """What broke, when the ending is INFRA_FAULT."""
