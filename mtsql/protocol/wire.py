"""Hermes tool calls (the format of Qwen3) as models really write them.

    <think>Paris is a city, so I filter on it.</think>
    <tool_call>
    {"name": "propose", "arguments": {"sql": "SELECT name FROM shop WHERE city = 'Paris'"}}
    </tool_call>

Forgiven: trailing commas, raw line breaks in strings, single quotes, arguments given as a JSON
string, a missing closing tag, a code fence around the JSON or around the SQL. Calls inside <think>
are thoughts and do not count.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError

from mtsql.protocol.records import ParseFailure

_TAG = re.compile(r"<(?:/?think|tool_call)>")
_BODY_END = re.compile(r"</tool_call>|<tool_call>|</?think>")
_BEFORE_JSON = re.compile(r"\s*(?:```[A-Za-z]*\s*)?")
# Strings are matched whole (an unclosed one to the end): only commas of the JSON itself go, and the
# time stays linear in the length.
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*+"?)|,(?=\s*[}\]])', re.DOTALL)
_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*+"?)|'((?:\\.|[^'\\])*+)('?)""", re.DOTALL)
_INNER_QUOTE = re.compile(r"""\\(.)|(")""", re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True)
class Call:
    """The JSON value of a tool call; a ParseFailure stands for broken JSON."""

    value: object


class NamedCall(BaseModel, frozen=True, extra="forbid"):
    """A call before its arguments are checked."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])


class NoArguments(BaseModel, frozen=True, extra="forbid"):
    pass


class SqlArguments(BaseModel, frozen=True, extra="forbid"):
    sql: str


def render_call(name: str, arguments: dict[str, str]) -> str:
    """The canonical text of a call."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def scan(message: str) -> list[str | Call] | ParseFailure:
    """The message without its reasoning: free text and calls, in order."""
    pieces: list[str | Call] = []
    position = 0
    while tag := _TAG.search(message, position):
        pieces.append(message[position : tag.start()])
        position = tag.end()
        if tag[0] == "<think>":
            end = message.find("</think>", position)
            if end < 0:
                return ParseFailure(reason="the reasoning is not closed with </think>")
            position = end + len("</think>")
        elif tag[0] == "</think>":
            # The chat template opened the reasoning, so all that was before it is a thought.
            pieces.clear()
        else:
            value, position = _read_json(message, position)
            pieces.append(Call(value))
    return [*pieces, message[position:]]


def calls_of(message: str) -> list[object] | ParseFailure:
    """The JSON value of each call outside the reasoning."""
    pieces = scan(message)
    if isinstance(pieces, ParseFailure):
        return pieces
    return [piece.value for piece in pieces if isinstance(piece, Call)]


def only_call(message: str) -> object:
    """The JSON value of the message's one call; a ParseFailure if there is another number."""
    found = calls_of(message)
    if isinstance(found, ParseFailure):
        return found
    if not found:
        return ParseFailure(reason="no tool call; write <tool_call>{...}</tool_call>")
    if len(found) > 1:
        return ParseFailure(reason=f"{len(found)} tool calls; one action per message")
    return found[0]


def with_plain_arguments(value: object) -> object:
    """The call with its arguments as an object, where a model gave them as a JSON string."""
    if not isinstance(value, dict):
        return value
    call = cast(dict[object, object], value)
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        return call | {"arguments": _DECODER.decode(arguments.strip())}
    except (ValueError, RecursionError):
        return call


def explain(error: ValidationError) -> str:
    """The first mistake, short; the model reads it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])[:40]
    return f"{key}: {first['msg']}"[:160] if key else first["msg"][:160]


def tool(
    name: str, description: str, required: tuple[str, ...] = (), /, **properties: object
) -> dict[str, Any]:
    """A tool's JSON schema."""
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    function = {"name": str(name), "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _read_json(message: str, position: int) -> tuple[object, int]:
    """The value behind an opening tag and where the text goes on."""
    before = _BEFORE_JSON.match(message, position)
    start = before.end() if before else position
    try:
        return _DECODER.raw_decode(message, start)
    except (ValueError, RecursionError):
        end = _BODY_END.search(message, start)
        stop = end.start() if end else len(message)
        return _repair(message[start:stop]), stop


def _repair(body: str) -> object:
    body = body.strip().removesuffix("```")
    for text in (body, _QUOTED.sub(_double_quoted, body)):
        try:
            return _DECODER.decode(_TRAILING_COMMA.sub(r"\1", text).strip())
        except (ValueError, RecursionError):
            continue
    return ParseFailure(reason="the tool call is not valid JSON")


def _double_quoted(string: re.Match[str]) -> str:
    """A string of Python as one of JSON."""
    if string[1] is not None or not string[3]:
        return string[0]
    inner = _INNER_QUOTE.sub(
        lambda found: '\\"' if found[2] or found[1] == '"' else _escape(found[1]), string[2]
    )
    return f'"{inner}"'


def _escape(character: str) -> str:
    return "'" if character == "'" else f"\\{character}"
