"""How model families put a tool call on the wire.

A chat template renders calls in one of these formats, and the model that it belongs to has learned
that one. Reasoning between <think> and </think> is left out; what it holds does not count.

    hermes        <tool_call>\\n{"name": "execute", "arguments": {}}\\n</tool_call>   Qwen2.5, Qwen3
    qwen_xml      <tool_call>\\n<function=execute>\\n</function>\\n</tool_call>       Qwen3.5
    glm           <tool_call>propose\\n<arg_key>sql</arg_key>\\n<arg_value>...        GLM-4.5
    llama         {"name": "execute", "parameters": {}}                            Llama 3.1 to 3.3
    nemotron      <TOOLCALL>[{"name": "execute", "arguments": {}}]</TOOLCALL>      Nemotron Nano 2
    phi           <|tool_call|>[{"name": "execute", "arguments": {}}]<|/tool_call|>
    mistral       [TOOL_CALLS][{"name": "execute", "arguments": {}}]
    mistral_v13   [TOOL_CALLS]execute[ARGS]{}
    deepseek      a call between special tags, with a code fence                V3, R1
    deepseek_v31  the same without the fence
    lfm           <|tool_call_start|>[execute()]<|tool_call_end|>                  LFM2
    gemma         <|tool_call>call:execute{}<tool_call|>                           Gemma 4
    tool_code     ```tool_code\\nexecute()\\n```                                   Gemma 1 to 3

The model's own format is read first. Where a message holds no call in it, one in another format
counts, as long as a tag opens it that no cell of a database can bring: `llama`, which may do
without, and `mistral` are read only where they are the model's own.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from mtsql.protocol.lenient_json import UnreadableJson, read_json, read_python_call
from mtsql.protocol.records import ParseFailure

__all__ = ["CALL_FORMATS", "HERMES", "LLAMA", "Call", "CallFormat", "scan"]


@dataclass(frozen=True, slots=True)
class Call:
    """The JSON value of a tool call; a ParseFailure if it cannot be read."""

    value: object


_Found = tuple[list[object], int]
"""The calls after an opening, and where the text goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """One way to write a call."""

    name: str
    render: Callable[[str, Mapping[str, str]], str]
    """The canonical text of a call, from the tool's name and its arguments."""
    opening: re.Pattern[str]
    """What begins a call, or several."""
    read: Callable[[str, re.Match[str]], _Found]
    """Reads the calls after an opening; never raises."""
    hint: str
    """The form in short, for a model that wrote none."""
    lead: str = ""
    """What a written message begins with, where the chat template has opened the reasoning."""
    thought: re.Pattern[str] | None = None
    """Reasoning in other tags than <think>, up to the end where it is not closed."""

    def example(self) -> str:
        """A call with placeholders, for a task text."""
        return self.render("NAME", {"ARGUMENT": "VALUE"})


_THINK = re.compile(r"</?think>")


def scan(message: str, native: CallFormat) -> list[str | Call] | ParseFailure:
    """The message without its reasoning: free text and calls, in order.

    Args:
        native: the format of the model's own chat template.
    """
    if native.thought is not None:
        message = native.thought.sub("", message)
    found: list[str | Call] | ParseFailure | None = None
    for one in (native, *_TAGGED):
        if found is None or one.opening.search(message):
            pieces = _scan(message, one)
            if isinstance(pieces, ParseFailure):
                return pieces
            if any(isinstance(piece, Call) for piece in pieces):
                return pieces
            found = found or pieces
    assert found is not None, "the native format is always tried"
    return found


def _scan(message: str, one: CallFormat) -> list[str | Call] | ParseFailure:
    """As `scan`, for the calls of one format."""
    pieces: list[str | Call] = []
    position = 0
    text_from = 0
    while True:
        tag = _THINK.search(message, position)
        opening = one.opening.search(message, position)
        if opening and (tag is None or opening.start() < tag.start()):
            values, end = one.read(message, opening)
            if values:
                pieces.append(message[text_from : opening.start()])
                pieces += [Call(value) for value in values]
                text_from = end
            position = max(end, opening.end())
        elif tag is None:
            return [*pieces, message[text_from:]]
        elif tag[0] == "<think>":
            pieces.append(message[text_from : tag.start()])
            end = message.find("</think>", tag.end())
            if end < 0:
                return ParseFailure(reason="the reasoning is not closed with </think>")
            position = text_from = end + len("</think>")
        else:
            # The chat template opened the reasoning, so all that was before it is a thought.
            pieces.clear()
            position = text_from = tag.end()


# JSON after a tag -------------------------------------------------------------------------------

_BODY_END = re.compile(
    r"</tool_call>|<tool_call>|</?think>|</TOOLCALL>|<\|/tool_call\|>|<\|tool_call_end\|>"
    r"|<\uff5ctool\u2581call\u2581end\uff5c>|<\|(?:eom|eot)_id\|>"
)
_FENCE = re.compile(r"\s*(?:(?:`{3,}|~{3,})[^\S\n]*(?:[A-Za-z]\w*\b)?\s*)?")


def _json_calls(message: str, position: int) -> _Found:
    """One call, or a list of them."""
    fence = _FENCE.match(message, position)
    start = fence.end() if fence else position
    end = _BODY_END.search(message, start)
    stop = end.start() if end else None
    try:
        value, position = read_json(message, start, stop=stop)
    except UnreadableJson as error:
        return [_unreadable(message, start, error)], len(message) if stop is None else stop
    if isinstance(value, list) and value:
        several = cast(list[object], value)
        if all(isinstance(one, dict) for one in several):
            return several, position
    return [value], position


def _unreadable(message: str, start: int, error: UnreadableJson) -> ParseFailure:
    around = message[max(start, error.position - 8) : error.position + 12]
    place = f"{error.reason} at character {error.position - start + 1}, in {around!r}"
    return ParseFailure(
        reason=f"the tool call is not valid JSON: {place[:110]}; put strings in double quotes and"
        " close each bracket"
    )


def _json(name: str, arguments: Mapping[str, str], key: str = "arguments") -> str:
    return json.dumps({"name": str(name), key: dict(arguments)}, ensure_ascii=False)


def _behind(message: str, opening: re.Match[str]) -> _Found:
    return _json_calls(message, opening.end())


# <tool_call>: JSON, Qwen's tags or GLM's --------------------------------------------------------

_XML_FUNCTION = re.compile(r"\s*<function=\s*([\w.-]+)\s*>")
_XML_PARAMETER = re.compile(r"\s*<parameter=\s*(\w+)\s*>")
_XML_ENDS = ("</parameter>", "<parameter=", "</function>", "</tool_call>")
_GLM_NAME = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(?=<arg_key>|</tool_call>)")
_GLM_KEY = re.compile(r"\s*<arg_key>\s*(\w+)\s*</arg_key>\s*<arg_value>")


def _tagged(message: str, opening: re.Match[str]) -> _Found:
    if function := _XML_FUNCTION.match(message, opening.end()):
        return _xml_call(message, function)
    if name := _GLM_NAME.match(message, opening.end()):
        return _glm_call(message, name)
    return _json_calls(message, opening.end())


def _xml_call(message: str, function: re.Match[str]) -> _Found:
    arguments: dict[str, object] = {}
    position = function.end()
    while parameter := _XML_PARAMETER.match(message, position):
        begin = parameter.end()
        end, position = _xml_end(message, begin)
        if end is None:
            reason = f"<parameter={parameter[1][:20]}> is not closed with </parameter>"
            return [ParseFailure(reason=reason)], len(message)
        arguments[parameter[1]] = message[begin:end].removeprefix("\n").removesuffix("\n")
    return [{"name": function[1], "arguments": arguments}], position


def _xml_end(message: str, begin: int) -> tuple[int | None, int]:
    """Where a parameter's value ends, and where the text goes on."""
    closing, *others = (message.find(tag, begin) for tag in _XML_ENDS)
    stops = [place for place in others if place >= 0]
    if closing >= 0 and all(closing < place for place in stops):
        return closing, closing + len("</parameter>")
    # Models forget the closing tag where another one follows.
    return (min(stops), min(stops)) if stops else (None, len(message))


def _glm_call(message: str, name: re.Match[str]) -> _Found:
    arguments: dict[str, object] = {}
    position = name.end()
    while key := _GLM_KEY.match(message, position):
        end = message.find("</arg_value>", key.end())
        if end < 0:
            reason = f"the argument {key[1][:20]!r} is not closed with </arg_value>"
            return [ParseFailure(reason=reason)], len(message)
        arguments[key[1]] = message[key.end() : end]
        position = end + len("</arg_value>")
    return [{"name": name[1], "arguments": arguments}], position


def _render_xml(name: str, arguments: Mapping[str, str]) -> str:
    parameters = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items()
    )
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


def _render_glm(name: str, arguments: Mapping[str, str]) -> str:
    pairs = "".join(
        f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n"
        for key, value in arguments.items()
    )
    return f"<tool_call>{name}\n{pairs}</tool_call>"


_TOOL_CALL = re.compile(r"<tool_call>")

HERMES = CallFormat(
    name="hermes",
    render=lambda name, arguments: f"<tool_call>\n{_json(name, arguments)}\n</tool_call>",
    opening=_TOOL_CALL,
    read=_tagged,
    hint="<tool_call>{...}</tool_call>",
)
_QWEN_XML = CallFormat(
    name="qwen_xml",
    render=_render_xml,
    # The outer tag is often left out.
    opening=re.compile(r"<tool_call>|(?=<function=\s*[\w.-]+\s*>)"),
    read=_tagged,
    hint="<tool_call><function=NAME>...</function></tool_call>",
)
_GLM = CallFormat(
    name="glm",
    render=_render_glm,
    opening=_TOOL_CALL,
    read=_tagged,
    hint="<tool_call>NAME<arg_key>...</arg_key><arg_value>...</arg_value></tool_call>",
)

# Llama ------------------------------------------------------------------------------------------

# After the tag, at the beginning of the message, or on a separate line.
_BARE = re.compile(r"(?:\A\s*|(?<=</think>)\s*|^[^\S\n]*)(?=\{)|<\|python_tag\|>", re.MULTILINE)


_LLAMA_NEXT = re.compile(r"\s*;?\s*(?=\{)")


def _llama_calls(message: str, opening: re.Match[str]) -> _Found:
    values, end = _json_calls(message, opening.end())
    if not opening[0].strip() and not _is_llama_call(values[0], is_first=opening.start() == 0):
        return [], end if isinstance(values[0], dict) else opening.end() + 1
    calls = list(values)
    while more := _LLAMA_NEXT.match(message, end):
        values, end = _json_calls(message, more.end())
        calls += values
    return calls, end


def _is_llama_call(value: object, *, is_first: bool) -> bool:
    """Without a tag only what is certainly a call counts as one.

    Args:
        is_first: it begins the message, so that broken JSON was meant for a call.
    """
    if isinstance(value, dict):
        keys = cast(dict[object, object], value).keys()
        return {"name", "parameters"} <= keys
    return is_first


LLAMA = CallFormat(
    name="llama",
    render=lambda name, arguments: _json(name, arguments, "parameters"),
    opening=_BARE,
    read=_llama_calls,
    hint='{"name": NAME, "parameters": {...}} and nothing else',
)
_PYTHON_TAG = CallFormat(
    name="python_tag",
    render=LLAMA.render,
    opening=re.compile(r"<\|python_tag\|>"),
    read=_behind,
    hint=LLAMA.hint,
)

# JSON in other tags -----------------------------------------------------------------------------

_NEMOTRON = CallFormat(
    name="nemotron",
    render=lambda name, arguments: f"<TOOLCALL>[{_json(name, arguments)}]</TOOLCALL>",
    opening=re.compile(r"<TOOLCALL>"),
    read=_behind,
    hint="<TOOLCALL>[{...}]</TOOLCALL>",
)
_PHI = CallFormat(
    name="phi",
    render=lambda name, arguments: f"<|tool_call|>[{_json(name, arguments)}]<|/tool_call|>",
    opening=re.compile(r"<\|tool_call\|>"),
    read=_behind,
    hint="<|tool_call|>[{...}]<|/tool_call|>",
)
_THINK_BRACKETS = re.compile(r"\[THINK\].*?(?:\[/THINK\]|\Z)", re.DOTALL)
_MISTRAL_NAME = re.compile(
    r"\s*([A-Za-z_][\w.-]*)\s*(?:\[CALL_ID\]\s*\w*\s*)?(?:\[ARGS\])?\s*(?=\{)"
)


def _mistral_calls(message: str, opening: re.Match[str]) -> _Found:
    if name := _MISTRAL_NAME.match(message, opening.end()):
        return _named(message, name)
    return _json_calls(message, opening.end())


def _named(message: str, name: re.Match[str]) -> _Found:
    """A name, then its arguments as JSON."""
    (value, *_), end = _json_calls(message, name.end())
    if isinstance(value, ParseFailure):
        return [value], end
    return [{"name": name[1], "arguments": value}], end


_MISTRAL = CallFormat(
    name="mistral",
    render=lambda name, arguments: f"[TOOL_CALLS][{_json(name, arguments)}]",
    opening=re.compile(r"\[TOOL_CALLS\]"),
    read=_mistral_calls,
    hint="[TOOL_CALLS][{...}]",
    thought=_THINK_BRACKETS,
)
_MISTRAL_V13 = CallFormat(
    name="mistral_v13",
    render=lambda name, arguments: (
        f"[TOOL_CALLS]{name}[ARGS]{json.dumps(dict(arguments), ensure_ascii=False)}"
    ),
    opening=_MISTRAL.opening,
    read=_mistral_calls,
    hint="[TOOL_CALLS]NAME[ARGS]{...}",
    thought=_THINK_BRACKETS,
)
_CALLS_BEGIN, _CALLS_END = (
    f"<\uff5ctool\u2581calls\u2581{word}\uff5c>" for word in ("begin", "end")
)
_CALL_BEGIN, _CALL_END = (f"<\uff5ctool\u2581call\u2581{word}\uff5c>" for word in ("begin", "end"))
_SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"
_DEEPSEEK_NAME = re.compile(
    rf"\s*(?:function\s*{_SEPARATOR}\s*)?([A-Za-z_][\w.-]*)\s*(?:{_SEPARATOR})?"
)


def _deepseek_calls(message: str, opening: re.Match[str]) -> _Found:
    if name := _DEEPSEEK_NAME.match(message, opening.end()):
        return _named(message, name)
    return _json_calls(message, opening.end())


def _render_deepseek(name: str, arguments: Mapping[str, str]) -> str:
    body = json.dumps(dict(arguments), ensure_ascii=False)
    call = f"{_CALL_BEGIN}function{_SEPARATOR}{name}\n```json\n{body}\n```{_CALL_END}"
    return f"{_CALLS_BEGIN}{call}{_CALLS_END}"


def _render_deepseek_v31(name: str, arguments: Mapping[str, str]) -> str:
    body = json.dumps(dict(arguments), ensure_ascii=False)
    return f"{_CALLS_BEGIN}{_CALL_BEGIN}{name}{_SEPARATOR}{body}{_CALL_END}{_CALLS_END}"


_DEEPSEEK = CallFormat(
    name="deepseek",
    render=_render_deepseek,
    opening=re.compile(_CALL_BEGIN),
    read=_deepseek_calls,
    hint=f"{_CALL_BEGIN}function{_SEPARATOR}NAME and the arguments as JSON",
)
_DEEPSEEK_V31 = CallFormat(
    name="deepseek_v31",
    render=_render_deepseek_v31,
    opening=_DEEPSEEK.opening,
    read=_deepseek_calls,
    hint=f"{_CALL_BEGIN}NAME{_SEPARATOR}{{...}}{_CALL_END}",
)

# Calls as Python writes them --------------------------------------------------------------------


def _python(name: str, arguments: Mapping[str, str]) -> str:
    pairs = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    return f"{name}({', '.join(pairs)})"


_PYTHON_OPENS = re.compile(r"\s*(?:\[|print\s*\()?")
_PYTHON_NEXT = re.compile(r"\s*[,;\n]\s*(?=[A-Za-z_][\w.]*\s*\()")


def _python_calls(message: str, opening: re.Match[str]) -> _Found:
    before = _PYTHON_OPENS.match(message, opening.end())
    position = before.end() if before else opening.end()
    calls: list[object] = []
    while True:
        try:
            name, arguments, position = read_python_call(message, position)
        except UnreadableJson as error:
            failure = ParseFailure(reason=f"the tool call cannot be read: {error}")
            return [*calls, failure], len(message)
        calls.append({"name": name, "arguments": arguments})
        more = _PYTHON_NEXT.match(message, position)
        if more is None:
            return calls, position
        position = more.end()


_LFM = CallFormat(
    name="lfm",
    render=lambda name, arguments: (
        f"<|tool_call_start|>[{_python(name, arguments)}]<|tool_call_end|>"
    ),
    opening=re.compile(r"<\|tool_call_start\|>"),
    read=_python_calls,
    hint="<|tool_call_start|>[NAME(...)]<|tool_call_end|>",
)
_TOOL_CODE = CallFormat(
    name="tool_code",
    render=lambda name, arguments: f"```tool_code\n{_python(name, arguments)}\n```",
    opening=re.compile(r"^(?:`{3,}|~{3,})tool_code[^\S\n]*\n", re.MULTILINE),
    read=_python_calls,
    hint="```tool_code\nNAME(...)\n```",
)

# Gemma 4 ----------------------------------------------------------------------------------------

_GEMMA_QUOTE = '<|"|>'
_GEMMA_NAME = re.compile(r"\s*call:\s*([A-Za-z_][\w.]*)\s*\{")
_GEMMA_KEY = re.compile(r"\s*,?\s*([A-Za-z_]\w*)\s*:\s*")


def _gemma_calls(message: str, opening: re.Match[str]) -> _Found:
    name = _GEMMA_NAME.match(message, opening.end())
    if name is None:
        return _json_calls(message, opening.end())
    arguments: dict[str, object] = {}
    position = name.end()
    while key := _GEMMA_KEY.match(message, position):
        begin = key.end()
        if message.startswith(_GEMMA_QUOTE, begin):
            begin += len(_GEMMA_QUOTE)
            end = message.find(_GEMMA_QUOTE, begin)
            if end < 0:
                reason = f"the argument {key[1][:20]!r} is not closed with {_GEMMA_QUOTE}"
                return [ParseFailure(reason=reason)], len(message)
            arguments[key[1]] = message[begin:end]
            position = end + len(_GEMMA_QUOTE)
            continue
        try:
            arguments[key[1]], position = read_json(message, begin)
        except UnreadableJson as error:
            return [_unreadable(message, begin, error)], len(message)
    return [{"name": name[1], "arguments": arguments}], position


def _render_gemma(name: str, arguments: Mapping[str, str]) -> str:
    pairs = (f"{key}:{_GEMMA_QUOTE}{value}{_GEMMA_QUOTE}" for key, value in arguments.items())
    return f"<|tool_call>call:{name}{{{','.join(pairs)}}}<tool_call|>"


_GEMMA = CallFormat(
    name="gemma",
    render=_render_gemma,
    opening=re.compile(r"<\|tool_call>"),
    read=_gemma_calls,
    hint="<|tool_call>call:NAME{...}<tool_call|>",
    thought=re.compile(r"<\|channel>.*?(?:<channel\|>|\Z)", re.DOTALL),
)

CALL_FORMATS: Mapping[str, CallFormat] = {
    one.name: one
    for one in (
        HERMES,
        _QWEN_XML,
        _GLM,
        LLAMA,
        _NEMOTRON,
        _PHI,
        _MISTRAL,
        _MISTRAL_V13,
        _DEEPSEEK,
        _DEEPSEEK_V31,
        _LFM,
        _GEMMA,
        _TOOL_CODE,
    )
}
_TAGGED = (
    HERMES,
    _QWEN_XML,
    _PYTHON_TAG,
    _NEMOTRON,
    _PHI,
    _DEEPSEEK,
    _LFM,
    _GEMMA,
    _TOOL_CODE,
)
"""In this order, where the native format finds no call. Each opening begins with `<`, which no
observation holds, or with a fence on a separate line, so that a copied cell never acts."""
