"""The `cocte` dialect: the query grows as a chain of views (CTEs), each looked at before the next.

    propose("big", "SELECT id FROM stadium WHERE capacity > 50000")      execute()
    propose("shows", "SELECT year FROM concert JOIN big USING (id)")      execute()
    propose("result", "SELECT year, count(*) FROM shows GROUP BY year")   answer()

answers WITH big AS (...), shows AS (...) SELECT year, count(*) FROM shows GROUP BY year: the last
view is the query itself, so that its order is kept. An execution runs the current view on top of
those before it. A verdict on it is about the view: can the question still be answered from here.

Source: Reward-SQL (arXiv 2505.04671), its chain of CTEs with the views shown to the policy.
"""

from typing import Any

from pydantic import BaseModel, ValidationError

from mtsql.protocol.actions import SQL, render_only
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
    NamedCall,
    NoArguments,
    SqlArguments,
    explain,
    only_call,
    plain_call,
    tool,
    tools_by_name,
)


class _ViewArguments(BaseModel, frozen=True, extra="forbid"):
    name: str
    sql: str


class _CorrectArguments(SqlArguments, frozen=True, extra="forbid"):
    name: str | None = None
    """None: the current view."""


class _VerifyArguments(BaseModel, frozen=True, extra="forbid"):
    target: VerifyTarget
    verdict: Verdict | None = None


def parse_cocte(message: str, call_format: CallFormat = HERMES) -> Action:
    """The one action of a message; leniency as in the `actions` dialect."""
    value = only_call(message, call_format)
    if isinstance(value, ParseFailure):
        return value
    try:
        call = NamedCall.model_validate(plain_call(value, _TOOLS))
        if call.name not in tuple(ActionName):
            names = ", ".join(f"'{name}'" for name in ActionName)
            return ParseFailure(reason=f"name: Input should be one of {names}")
    except ValidationError as error:
        return ParseFailure(reason=explain(error))
    try:
        return _read_call(ActionName(call.name), call.arguments)
    except ValidationError as error:
        return ParseFailure(reason=f"{call.name}: {explain(error)}")


def _read_call(name: ActionName, arguments: dict[str, Any]) -> Action:
    view: str | None = None
    match name:
        case ActionName.PROPOSE:
            given = _ViewArguments.model_validate(arguments)
            view, sql = given.name.strip(), _view_sql(given.sql)
        case ActionName.CORRECT:
            changed = _CorrectArguments.model_validate(arguments)
            view, sql = changed.name and changed.name.strip(), _view_sql(changed.sql)
        case ActionName.VERIFY:
            verify = _VerifyArguments.model_validate(arguments)
            return ToolCall(name=name, target=verify.target, verdict=verify.verdict)
        case ActionName.EXECUTE:
            NoArguments.model_validate(arguments)
            return ToolCall(name=name)
        case ActionName.ANSWER:
            NoArguments.model_validate(arguments)
            return Answer()
    if not holds_statement(sql):
        return ParseFailure(reason=f"{name}: sql holds no statement")
    return ToolCall(name=name, sql=sql, view=view)


def _view_sql(sql: str) -> str:
    """Without a fence and without semicolons at its end, which end no part of a chain."""
    return bare_sql(sql).rstrip(" \t\r\n;")


def _read(message: str, call_format: CallFormat) -> Reading:
    return Reading(actions=(parse_cocte(message, call_format),))


_VIEW_NAME = {"type": "string", "description": "A new name: letters, digits and _."}

_SCHEMAS = (
    tool(
        ActionName.PROPOSE,
        "Add the next view of the chain; it may read the tables and the views before it.",
        ("name", "sql"),
        name=_VIEW_NAME,
        sql=SQL,
    ),
    tool(ActionName.EXECUTE, "Run the current view on top of the views before it."),
    tool(
        ActionName.VERIFY,
        "Judge the current view against what its execution shows: pass if the question can still"
        " be answered from it. Target memory shows the earlier turns and what the query of the"
        " chain keeps, adds, drops or changes; with a verdict, judge whether that is asked for.",
        ("target",),
        target={"type": "string", "enum": ["execution", "memory"]},
        verdict={"type": "string", "enum": ["pass", "fail"]},
    ),
    tool(
        ActionName.CORRECT,
        "Replace the current view, or an earlier one by its name: then those after it are gone.",
        ("sql",),
        sql=SQL,
        name={"type": "string", "description": "The view to replace, if not the current one."},
    ),
    tool(ActionName.ANSWER, "Give the chain, with its last view as the query."),
)
_TOOLS = tools_by_name(_SCHEMAS)

COCTE = Dialect(
    tools=_SCHEMAS,
    read=_read,
    write=render_only,
    fixed_texts=(
        '<tool_call>\n{"name": "propose", "arguments": {"name": "',
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
