"""The agent's protocol: four typed actions and an ending, parsed once from model text.

The `actions` dialect puts them on the wire as Hermes tool calls (the format of Qwen3):

    <think>Paris is a city, so I filter on it.</think>
    <tool_call>
    {"name": "propose", "arguments": {"sql": "SELECT name FROM shop WHERE city = 'Paris'"}}
    </tool_call>
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The agent stands behind its current proposal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailure:
    """The message holds no action that can be read."""

    reason: str


Action = ToolCall | Answer | ParseFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way to put the actions on the wire."""

    tools: tuple[dict[str, Any], ...]
    """JSON schemas of the tools, in OpenAI's function format, for a chat template."""
    parse: Callable[[str], Action]
    """Reads the model's message; never raises."""
    render: Callable[[ToolCall | Answer], str]
    """The canonical message of an action; `parse(render(action)) == action`."""


def render_action(action: ToolCall | Answer) -> str:
    """The canonical message of an action in the `actions` dialect."""
    if isinstance(action, Answer):
        name, arguments = ActionName.ANSWER, {}
    else:
        name = action.name
        fields = {"sql": action.sql, "target": action.target, "verdict": action.verdict}
        arguments = {key: value for key, value in fields.items() if value is not None}
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def parse_action(message: str) -> Action:
    """The one action of a model's message in the `actions` dialect.

    Text around the call is free; calls inside <think> are thoughts and do not count. Forgiven:
    trailing commas, raw line breaks in strings, a missing closing tag, a code fence around the SQL.
    Not forgiven: two actions in one message, unknown tools, unknown or missing arguments.
    """
    found = _find_calls(message)
    if isinstance(found, ParseFailure):
        return found
    if not found:
        return ParseFailure(reason="no tool call; write <tool_call>{...}</tool_call>")
    if len(found) > 1:
        return ParseFailure(reason=f"{len(found)} tool calls; one action per message")
    if isinstance(found[0], ParseFailure):
        return found[0]
    return _read_call(found[0])


_TAG = re.compile(r"<(?:/?think|tool_call)>")
_BODY_END = re.compile(r"</tool_call>|<tool_call>|</?think>")
_SPACE = re.compile(r"\s*")
# Strings are matched whole (an unclosed one to the end), so that only commas of the JSON itself go.
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*+"?)|,(?=\s*[}\]])', re.DOTALL)
_FENCE = re.compile(r"```[A-Za-z]*\s(.*?)```", re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)


def _find_calls(message: str) -> list[object] | ParseFailure:
    """The JSON value of each call outside the reasoning; a ParseFailure stands for broken JSON."""
    calls: list[object] = []
    position = 0
    while tag := _TAG.search(message, position):
        position = tag.end()
        if tag[0] == "<think>":
            end = message.find("</think>", position)
            if end < 0:
                return ParseFailure(reason="the reasoning is not closed with </think>")
            position = end + len("</think>")
        elif tag[0] == "</think>":
            # The chat template opened the reasoning, so all that was before it is a thought.
            calls.clear()
        else:
            start = _end_of(_SPACE, message, position)
            try:
                value, position = _DECODER.raw_decode(message, start)
            except (ValueError, RecursionError):
                end = _BODY_END.search(message, start)
                position = end.start() if end else len(message)
                value = _repair(message[start:position])
            calls.append(value)
    return calls


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _repair(body: str) -> object:
    try:
        return _DECODER.decode(_TRAILING_COMMA.sub(r"\1", body).strip())
    except (ValueError, RecursionError):
        return ParseFailure(reason="the tool call is not valid JSON")


class _Call(BaseModel, frozen=True, extra="forbid"):
    name: ActionName
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])


class _NoArguments(BaseModel, frozen=True, extra="forbid"):
    pass


class _SqlArguments(BaseModel, frozen=True, extra="forbid"):
    sql: str


class _VerifyArguments(BaseModel, frozen=True, extra="forbid"):
    target: VerifyTarget
    verdict: Verdict | None = None


def _read_call(value: object) -> Action:
    try:
        call = _Call.model_validate(value)
    except ValidationError as error:
        return ParseFailure(reason=_explain(error))
    try:
        match call.name:
            case ActionName.PROPOSE | ActionName.CORRECT:
                sql = _bare_sql(_SqlArguments.model_validate(call.arguments).sql)
                if not any(character.isalpha() for character in sql):
                    return ParseFailure(reason=f"{call.name}: sql holds no statement")
                return ToolCall(name=call.name, sql=sql)
            case ActionName.VERIFY:
                verify = _VerifyArguments.model_validate(call.arguments)
                return ToolCall(name=call.name, target=verify.target, verdict=verify.verdict)
            case ActionName.EXECUTE:
                _NoArguments.model_validate(call.arguments)
                return ToolCall(name=call.name)
            case ActionName.ANSWER:
                _NoArguments.model_validate(call.arguments)
                return Answer()
    except ValidationError as error:
        return ParseFailure(reason=f"{call.name}: {_explain(error)}")


def _bare_sql(sql: str) -> str:
    fence = _FENCE.fullmatch(sql.strip())
    return (fence[1] if fence else sql).strip()


def _explain(error: ValidationError) -> str:
    """The first mistake, short; the model reads it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])[:40]
    return f"{key}: {first['msg']}"[:160] if key else first["msg"][:160]


def _tool(
    name: ActionName, description: str, required: tuple[str, ...] = (), **properties: object
) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    function = {"name": str(name), "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


_SQL = {"type": "string", "description": "One read-only SQL statement."}

ACTIONS = Dialect(
    tools=(
        _tool(ActionName.PROPOSE, "Propose a query for the question.", ("sql",), sql=_SQL),
        _tool(ActionName.EXECUTE, "Run the current proposal and see its result."),
        _tool(
            ActionName.VERIFY,
            "Judge the current proposal against its executed result, or against the dialogue's"
            " memory. Target memory without a verdict shows the earlier turns and what the proposal"
            " keeps, adds, drops or changes.",
            ("target",),
            target={"type": "string", "enum": ["execution", "memory"]},
            verdict={"type": "string", "enum": ["pass", "fail"]},
        ),
        _tool(ActionName.CORRECT, "Replace the current proposal.", ("sql",), sql=_SQL),
        _tool(ActionName.ANSWER, "Give the current proposal as the final answer."),
    ),
    parse=parse_action,
    render=render_action,
)

DIALECTS = {"actions": ACTIONS}
