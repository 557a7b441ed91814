"""The finished record of one attempt at one turn."""

from dataclasses import dataclass
from enum import StrEnum

from mtsql.evaluation.records import Judgement
from mtsql.protocol import Action, ActionName, ToolCall
from mtsql.query.match import ClauseMatch
from mtsql.sql.records import QueryStatus, ResultClass


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
    """The one that the observation replies to: of several in one message, the last."""
    observation: str | None
    """None after the last step."""
    proposal: int | None
    """Index into the trajectory's proposals: the one current after this step."""
    status: str | None = None
    """The QueryStatus of a step that executes."""
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
    result_class: str | None = None
    """The ResultClass of an execute step; None in records that are older than it, too."""
    earlier: tuple[ToolCall, ...] = ()
    """What the same message did before `action`, in order (`mtsql_r1`, `short_horizon`): verdicts,
    a proposal or correction, its execution. Only what took effect; a verdict judges the proposal
    that was current before the step."""
    num_ignored: int = 0
    """Parts of the message that did not count: a verdict without its observation directly before
    it, a second tool call, an answer beside a call."""
    lacks_verdict: bool = False
    """The observation before asked for a verdict (`mtsql_r1`) and the message gave none."""

    @property
    def actions(self) -> tuple[Action, ...]:
        """All that the message did, in order."""
        return (*self.earlier, self.action)

    def calls(self, name: ActionName) -> bool:
        """One of its actions is a call of this tool."""
        return any(isinstance(one, ToolCall) and one.name is name for one in self.actions)


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
    matches: tuple[ClauseMatch, ...] = ()
    """One for each proposal: its clauses against gold's; empty after a fault and in older records.
    """


def calls_of(step: Step) -> tuple[ToolCall, ...]:
    """The calls of a message, in order; dialects may allow more than one."""
    return tuple(action for action in step.actions if isinstance(action, ToolCall))


def result_class(step: Step) -> ResultClass | None:
    """What an execute step showed; older records tell less, and are read as far as they go."""
    if step.result_class is not None:
        return ResultClass(step.result_class)
    if step.status is None or step.status == QueryStatus.INFRA_FAULT:
        return None
    if step.status == QueryStatus.OK:
        return ResultClass.EMPTY if step.num_rows == 0 else ResultClass.OK
    return ResultClass.TIMEOUT if step.status == "interrupted" else ResultClass(step.status)
