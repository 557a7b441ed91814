"""The `actions` dialect: one tool call for each action, one action in each message."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from mtsql.protocol.call_formats import HERMES, CallFormat
from mtsql.protocol.dialect import Dialect
from mtsql.protocol.records import (
    Action,
    ActionName,
    Answer,
    ParseFailure,
    Reading,
    ToolCall,
    Verdict,
    VerifyTarget,
)
from mtsql.protocol.sql_text import bare_sql, holds_statement
from mtsql.protocol.wire import (
    NoArguments,
    SqlArguments,
    explain,
    only_call,
    plain_call,
    tool,
    tools_by_name,
)


def render_action(action: ToolCall | Answer, call_format: CallFormat = HERMES) -> str:
    """The canonical message of an action: a call with what it has of the dialect's arguments."""
    if isinstance(action, Answer):
        return call_format.render(ActionName.ANSWER, {})
    fields = {
        "name": action.view,
        "sql": action.sql,
        "target": action.target,
        "verdict": action.verdict,
    }
    given = {key: value for key, value in fields.items() if value is not None}
    return call_format.render(action.name, given)


def parse_action(message: str, call_format: CallFormat = HERMES) -> Action:
    """The one action of a model's message in the `actions` dialect.

    Text around the call is free; `mtsql.protocol.wire` says what is forgiven in it. Not forgiven:
    two actions in one message, unknown tools, unknown or missing arguments.
    """
    value = only_call(message, call_format)
    return value if isinstance(value, ParseFailure) else _read_call(value)


class _Call(BaseModel, frozen=True, extra="forbid"):
    name: ActionName
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])


class _VerifyArguments(BaseModel, frozen=True, extra="forbid"):
    target: VerifyTarget
    verdict: Verdict | None = None


def _read_call(value: object) -> Action:
    try:
        call = _Call.model_validate(plain_call(value, _TOOLS))
    except ValidationError as error:
        return ParseFailure(reason=explain(error))
    try:
        match call.name:
            case ActionName.PROPOSE | ActionName.CORRECT:
                sql = bare_sql(SqlArguments.model_validate(call.arguments).sql)
                if not holds_statement(sql):
                    return ParseFailure(reason=f"{call.name}: sql holds no statement")
                return ToolCall(name=call.name, sql=sql)
            case ActionName.VERIFY:
                verify = _VerifyArguments.model_validate(call.arguments)
                return ToolCall(name=call.name, target=verify.target, verdict=verify.verdict)
            case ActionName.EXECUTE:
                NoArguments.model_validate(call.arguments)
                return ToolCall(name=call.name)
            case ActionName.ANSWER:
                NoArguments.model_validate(call.arguments)
                return Answer()
    except ValidationError as error:
        return ParseFailure(reason=f"{call.name}: {explain(error)}")


def _read(message: str, call_format: CallFormat) -> Reading:
    return Reading(actions=(parse_action(message, call_format),))


def render_only(actions: Sequence[ToolCall | Answer], call_format: CallFormat) -> str:
    """For dialects whose messages hold one action each."""
    (action,) = actions
    return render_action(action, call_format)


SQL = {"type": "string", "description": "One read-only SQL statement."}
_SCHEMAS = (
    tool(ActionName.PROPOSE, "Propose a query for the question.", ("sql",), sql=SQL),
    tool(ActionName.EXECUTE, "Run the current proposal and see its result."),
    tool(
        ActionName.VERIFY,
        "Judge the current proposal against its executed result, or against the dialogue's"
        " memory. Target memory without a verdict shows the earlier turns and what the proposal"
        " keeps, adds, drops or changes.",
        ("target",),
        target={"type": "string", "enum": ["execution", "memory"]},
        verdict={"type": "string", "enum": ["pass", "fail"]},
    ),
    tool(ActionName.CORRECT, "Replace the current proposal.", ("sql",), sql=SQL),
    tool(ActionName.ANSWER, "Give the current proposal as the final answer."),
)
_TOOLS = tools_by_name(_SCHEMAS)

ACTIONS = Dialect(
    tools=_SCHEMAS,
    read=_read,
    write=render_only,
    fixed_texts=(
        '<tool_call>\n{"name": "propose", "arguments": {"sql": "',
        '<tool_call>\n{"name": "correct", "arguments": {"sql": "',
        '<tool_call>\n{"name": "execute", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "answer", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "verify", "arguments": {"target": "execution", "verdict": "pass"}}'
        "\n</tool_call>",
        '<tool_call>\n{"name": "verify", "arguments": {"target": "execution", "verdict": "fail"}}'
        "\n</tool_call>",
        '<tool_call>\n{"name": "verify", "arguments": {"target": "memory"}}\n</tool_call>',
        '"}}\n</tool_call>',
    ),
)
