"""The agent's protocol: four typed actions and an ending, the same in every dialect."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class ActionName(StrEnum):
    PROPOSE = "propose"
    EXECUTE = "execute"
    VERIFY = "verify"
    CORRECT = "correct"
    ANSWER = "answer"


VerifyTarget = Literal["execution", "memory"]
Verdict = Literal["pass", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """propose(sql), execute(), verify(target, verdict) or correct(sql)."""

    name: ActionName
    sql: str | None = None
    target: VerifyTarget | None = None
    verdict: Verdict | None = None
    """None: the agent asks for the comparison and gives no verdict; never taken for "pass"."""
    view: str | None = None
    """Name of the proposed view (`cocte` only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The agent's current proposal is its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailure:
    """The message holds no action that can be read."""

    reason: str


Action = ToolCall | Answer | ParseFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one message says: actions in order, or one ParseFailure alone.

    Example, one message of `mtsql_r1`:
        <exec_verify>no_pass</exec_verify> ... exec_sql(SELECT 2)
        -> verify(execution, fail), propose(SELECT 2), execute()
    """

    actions: tuple[Action, ...]
    ignored: tuple[str, ...] = ()
    """What else the message held, as reasons why it was not read."""
