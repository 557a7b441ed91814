"""The agent's protocol: four typed actions and an ending, whatever the dialect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal


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
    """The agent stands behind its current proposal."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way to put the actions on the wire."""

    tools: tuple[dict[str, Any], ...]
    """JSON schemas of the tools, in OpenAI's function format, for a chat template; () for none."""
    parse: Callable[[str], Reading]
    """Reads the model's message; never raises."""
    render: Callable[[Sequence[ToolCall | Answer]], str]
    """The canonical message of its actions; `parse(render(actions)).actions == actions`."""
    fixed_texts: tuple[str, ...] = ()
    """Constant strings of the wire format, which a tokenizer made for it keeps whole."""
    reply_role: Literal["tool"] | None = "tool"
    """The role of an observation; None: there is never one."""
    max_steps: int | None = None
    """Messages that the dialect has room for; None: as many as the configuration says."""
    names_sql: bool = False
    """Each message names the SQL it is about, so a proposal is new only if its SQL is."""
