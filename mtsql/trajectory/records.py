"""The finished record of one attempt at one turn."""

from dataclasses import dataclass
from enum import StrEnum

from mtsql.chains.chain import Chain, Proposal, Relation
from mtsql.chains.truth import Truth
from mtsql.evaluation.records import Judgement
from mtsql.protocol import Action, ActionName, ToolCall
from mtsql.query.match import ClauseMatch
from mtsql.sql.records import ResultClass


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


class FaultKind(StrEnum):
    """The part of the machinery that failed; named where the failure is caught, and only there."""

    MODEL_SERVER = "model_server"
    """It failed, answered too late, or gave no token."""
    ENVIRONMENT_TIMEOUT = "environment_timeout"
    """One step of the environment took too long."""
    SQL_POOL = "sql_pool"
    """A statement of the model could not be run; one that the database refuses is no fault."""
    JUDGING = "judging"
    """The proposals could not be compared with gold."""
    SCORER = "scorer"
    """The process reward model gave no scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What broke, for those who count and decide, and in words for those who read."""

    kind: FaultKind
    message: str


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
    relation: Relation | None = None
    """What the proposal that it makes is to the one before; None: it makes none, or the first."""
    result_class: ResultClass | None = None
    """What an execution showed; None: nothing was run, or the machinery failed."""
    num_rows: int | None = None
    """Of a result."""
    is_accepted: bool = True
    """False: out of order, so it changed nothing (a verdict on a result never shown ...)."""
    num_kept: int | None = None
    """Memory comparison shown by this step: clause elements that the proposal keeps."""
    num_added: int | None = None
    num_dropped: int | None = None
    num_changed: int | None = None
    """Elements about the same column with another value, operator or direction."""
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

    @property
    def is_suspicious(self) -> bool:
        """The executed result is empty, all NULL, or a single zero."""
        return self.result_class is not None and self.result_class.is_suspicious

    def calls(self, name: ActionName) -> bool:
        """One of its actions is a call of this tool."""
        return any(isinstance(one, ToolCall) and one.name is name for one in self.actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    turn_id: str
    steps: tuple[Step, ...]
    ending: Ending
    proposals: tuple[Proposal, ...]
    """All that the agent stood behind, in order; the last is the answer."""
    judgements: tuple[Judgement, ...]
    """One for each proposal; empty when the ending is INFRA_FAULT."""
    fault: Fault | None = None
    """Set if and only if the ending is INFRA_FAULT."""
    matches: tuple[ClauseMatch, ...] = ()
    """One for each proposal: its clauses against gold's; empty after a fault."""
    truths: tuple[Truth | None, ...] = ()
    """One for each proposal, of the view at the end of a chain on which a verdict was given; None
    elsewhere. Empty where there is no such verdict, and after a fault."""

    def __post_init__(self) -> None:
        if (self.fault is not None) != (self.ending is Ending.INFRA_FAULT):
            raise ValueError(f"{self.turn_id}: ends as {self.ending}, with fault {self.fault}")

    @property
    def statements(self) -> tuple[str, ...]:
        """The SQL of each proposal."""
        return tuple(proposal.sql for proposal in self.proposals)

    @property
    def first_answer(self) -> int | None:
        """Index of the proposal that would be the answer had nothing been replaced or corrected.

        Example: two views of a chain, then a correction of the second
            extends: here, result    corrects: result    -> 1
        """
        replaced = (step.proposal for step in self.steps if step.relation in _OTHER)
        first = next((proposal for proposal in replaced if proposal is not None), None)
        return (len(self.proposals) if first is None else first) - 1 if self.proposals else None

    def stands(self, proposal: int) -> bool:
        """Whether a view is part of the answer; a query is a matter of its own."""
        one, last = self.proposals[proposal], self.proposals[-1]
        if not isinstance(one, Chain) or not isinstance(last, Chain):
            return True
        return last.views[: len(one.views)] == one.views

    @property
    def is_corrected(self) -> bool:
        """Other SQL took the place of its first answer, at whatever time."""
        return any(step.relation in _OTHER for step in self.steps)


_OTHER = ("replaces", "corrects")


def calls_of(step: Step) -> tuple[ToolCall, ...]:
    """The calls of a message, in order; dialects may allow more than one."""
    return tuple(action for action in step.actions if isinstance(action, ToolCall))
