"""Calls as records: from a message's text to a name and arguments that a dialect knows.

    <think>Paris is a city, so I filter on it.</think>
    <tool_call>
    {"name": "propose", "arguments": {"sql": "SELECT name FROM shop WHERE city = 'Paris'"}}
    </tool_call>

Forgiven: JSON that is not quite valid (`mtsql.protocol.lenient_json`), a missing closing tag, a
code fence around the JSON or around the SQL, the call of another model family
(`mtsql.protocol.call_formats`), and keys that say the same in other words:

    {"tool": "propose", "args": {"query": "SELECT 1"}}
    {"type": "function", "function": {"name": "functions.propose", "arguments": "{\"sql\": ...}"}}

Calls inside <think> are thoughts and do not count.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError

from mtsql.protocol.call_formats import HERMES, Call, CallFormat, scan
from mtsql.protocol.lenient_json import UnreadableJson, read_json
from mtsql.protocol.records import ParseFailure

Tools = Mapping[str, Sequence[str]]
"""The arguments of each tool, by its name."""

_NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name")
_ARGUMENT_KEYS = ("arguments", "args", "parameters", "params", "input", "kwargs")
_NOTES = ("id", "call_id", "tool_call_id", "type", "index")
"""Keys of other protocols that say nothing about the call."""
_SQL_KEYS = ("sql", "query", "statement", "code", "sql_query", "sql_code", "sql_statement")
_OTHER_NAMES: Mapping[str, Sequence[str]] = {
    "sql": _SQL_KEYS,
    "code": _SQL_KEYS,
    "name": ("view", "view_name"),
}


class NamedCall(BaseModel, frozen=True, extra="forbid"):
    """A call before its arguments are checked."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])


class NoArguments(BaseModel, frozen=True, extra="forbid"):
    pass


class SqlArguments(BaseModel, frozen=True, extra="forbid"):
    sql: str


def calls_of(message: str, native: CallFormat) -> list[object] | ParseFailure:
    """The JSON value of each call outside the reasoning."""
    pieces = scan(message, native)
    if isinstance(pieces, ParseFailure):
        return pieces
    return [piece.value for piece in pieces if isinstance(piece, Call)]


def only_call(message: str, native: CallFormat = HERMES) -> object:
    """The JSON value of the message's one call; a ParseFailure if there is another number."""
    found = calls_of(message, native)
    if isinstance(found, ParseFailure):
        return found
    if not found:
        return ParseFailure(reason=f"no tool call; write {native.hint}")
    if len(found) > 1:
        return ParseFailure(reason=f"{len(found)} tool calls; one action per message")
    return found[0]


def tools_by_name(schemas: Sequence[Mapping[str, Any]]) -> Tools:
    """What `plain_call` needs of the tools' JSON schemas."""
    functions = [schema["function"] for schema in schemas]
    return {one["name"]: tuple(one["parameters"]["properties"]) for one in functions}


def plain_call(value: object, tools: Tools) -> object:
    """The call as `{"name": ..., "arguments": {...}}` where its meaning is certain.

    Keys that are already right are never replaced, and what no rule knows stays, for the reader to
    refuse by name.

    Example: `{"tool": "Propose", "args": "{\\"query\\": \\"SELECT 1\\"}"}`
        -> `{"name": "propose", "arguments": {"sql": "SELECT 1"}}`
    """
    if not isinstance(value, dict):
        return value
    call = dict(cast(dict[str, object], value))
    if isinstance(inner := call.get("function"), dict) and "name" not in call:
        # OpenAI's: the function is an object next to its type.
        call = {**call, **cast(dict[str, object], inner)}
        del call["function"]
    if len(call) == 1 and isinstance(arguments := next(iter(call.values())), dict):
        (key,) = call
        if _tool_name(key, tools) in tools:
            call = {"name": key, "arguments": cast(dict[str, object], arguments)}
    call = {key: one for key, one in call.items() if key not in _NOTES or not _is_note(one)}
    _rename(call, "name", _NAME_KEYS)
    _rename(call, "arguments", _ARGUMENT_KEYS)
    name = call.get("name")
    if not isinstance(name, str):
        return call
    call["name"] = name = _tool_name(name, tools)
    known = tools.get(name)
    if known is None:
        return call
    others = [key for key in call if key not in ("name", "arguments")]
    if "arguments" not in call and others and "name" not in known:
        # All arguments next to the name.
        beside: dict[str, object] = {key: call[key] for key in others}
        if all(key in known for key in _plain_arguments(beside, known)):
            call = {"name": name, "arguments": beside}
    arguments = _decoded(call.get("arguments"))
    if isinstance(arguments, dict):
        call["arguments"] = _plain_arguments(cast(dict[str, object], arguments), known)
    elif "arguments" in call and not arguments:
        # None, "" and [] for no arguments.
        call["arguments"] = dict[str, object]()
    return call


def _is_note(value: object) -> bool:
    return value is None or isinstance(value, str | int)


def _rename(call: dict[str, object], key: str, others: Sequence[str]) -> None:
    """Gives `key` the value of the one other name in use, in place."""
    if key in call:
        return
    used = [one for one in call if one.lower() in others]
    if len(used) == 1:
        call[key] = call.pop(used[0])


def _tool_name(name: str, tools: Tools) -> str:
    """`functions.Propose()` -> `propose`; a name that is still unknown stays as it is."""
    plain = name.strip().removesuffix("()").rpartition(".")[2].rpartition(":")[2]
    plain = plain.strip().lower().replace("-", "_")
    return plain if plain in tools else name


def _decoded(arguments: object) -> object:
    """The arguments, where a model gave them as a JSON string."""
    if not isinstance(arguments, str) or not arguments.strip():
        return arguments
    try:
        return read_json(arguments.strip())[0]
    except UnreadableJson:
        return arguments


def _plain_arguments(given: Mapping[str, object], known: Sequence[str]) -> dict[str, object]:
    """The arguments under the tool's own names, words of a closed choice in small letters."""
    found = dict(given)
    for key in known:
        _rename(found, key, (key, *_OTHER_NAMES.get(key, ())))
        if key in ("target", "verdict") and isinstance(word := found.get(key), str):
            found[key] = word.strip().lower()
    return found


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
