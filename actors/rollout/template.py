"""What a model's chat template does with a dialect, seen from its own renderings.

Templates differ: some drop tools, refuse a system message, want roles to alternate, write a tool's
reply as JSON in JSON, close messages with another token than the end of text, or hold today's date.
`read_template` tries each of these once, corrects what it can, and names what it cannot.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from jinja2 import TemplateError

from mtsql.dialogue import Message
from mtsql.errors import ModelError
from mtsql.protocol.call_formats import CALL_FORMATS, HERMES, Call, CallFormat, scan
from mtsql.protocol.records import ParseFailure
from mtsql.protocol.wire import plain_call, tools_by_name

DATE = datetime(2024, 7, 26)
"""What a template takes for today: prompts must not change overnight, within a run or after it."""
_OTHER_DATE = datetime(2031, 3, 4)
_SYSTEM, _USER, _SAID, _VALUE = "MTSQL-SYSTEM", "MTSQL-USER", "MTSQL-SAID", "MTSQLVALUE"
_REPLY = (
    'MTSQL-REPLY {"a": ["it\'s", "\\\\u003c", null], "b": {}}\n<x> & {{ y }} é 東 \U0001f600\n'
    "\tMTSQL-END"
)
"""Quotes, braces, line breaks, tags and letters of all kinds: a reply that must come out whole."""

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFacts:
    """One template with one dialect's tools.

    Example: Qwen3 keeps all; Gemma 3 has no tools, and a reply is a user's message
        call_format      hermes          hermes
        shows_tools      True            False
        keeps_system     True            True
        reply            role: tool      role: user
        end_text         <|im_end|>      <end_of_turn>
    """

    call_format: CallFormat
    """The one that the template renders, else one whose tag is a token, else `hermes`."""
    knows_calls: bool
    """The template renders such calls, or the tag is a token: the model has learned them."""
    shows_tools: bool
    """The tools stand in the prompt with their names and arguments."""
    keeps_system: bool
    """A system message stands in the prompt; otherwise it goes into the first user message."""
    adds_system: bool
    """Where there is no system message it writes one of its own, and none for an empty one."""
    reply: Mapping[str, str]
    """The keys of a reply's message other than its content; empty: the dialect has no replies."""
    before_reply: str
    """Between a message's end and the reply."""
    after_reply: str
    """Between the reply and the next message."""
    end_text: str
    """What closes a message of the model: the template's own, which need not be the end of text."""
    end_of_turn: int
    """Its id."""
    opens_thought: bool
    """Its prompt ends in an open <think>, whether thinking is on or off."""
    has_date: bool
    """It writes today's date, which is `DATE` here."""
    is_taught_by_example: bool
    """The tokenizer was made for the dialect, so its model needs no word about the tools."""

    @property
    def task_text(self) -> Literal["", "calls", "all"]:
        """What the prompt must say of the tools, because the template does not."""
        if self.is_taught_by_example:
            return ""
        if not self.shows_tools:
            return "all"
        return "" if self.knows_calls else "calls"


class ChatTemplate:
    """A tokenizer's template with the options of a run."""

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
        *,
        thinking: bool,
        today: datetime = DATE,
    ) -> None:
        self._tokenizer = tokenizer
        self._options = {
            "enable_thinking": thinking,
            # DeepSeek V3.1's word for it.
            "thinking": thinking,
            "strftime_now": today.strftime,
        }

    def render(self, messages: Sequence[Mapping[str, Any]], *, tools: Tools, ask: bool) -> str:
        """The text of a conversation.

        Args:
            tools: () for none.
            ask: the model's next message begins at its end.
        """
        return self._tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            # An empty list is not the same as none to every template.
            tools=list(tools) or None,
            add_generation_prompt=ask,
            tokenize=False,
            **self._options,
        )

    def rendered(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Tools, ask: bool
    ) -> str | None:
        """As `render`; None where the template refuses."""
        try:
            return self.render(messages, tools=tools, ask=ask)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError):
            return None


def read_template(
    tokenizer: Any,  # noqa: ANN401 - as above
    tools: Tools,
    *,
    thinking: bool,
    has_replies: bool,
) -> TemplateFacts:
    """What the tokenizer's template does, the same for the same template.

    Raises:
        ModelError: it cannot serve the dialect; the text names model, lack and fix.
    """
    if not tokenizer.chat_template:
        raise _refused(
            tokenizer, "is missing", "give a chat model, or put chat_template.jinja there"
        )
    template = json.dumps(tokenizer.chat_template, sort_keys=True)
    return _read(tokenizer, template, json.dumps(list(tools)), thinking, has_replies)


@lru_cache(maxsize=8)
def _read(
    tokenizer: Any,  # noqa: ANN401 - as above
    _template: str,
    tools_json: str,
    thinking: bool,
    has_replies: bool,
) -> TemplateFacts:
    tools: list[dict[str, Any]] = json.loads(tools_json)
    template = ChatTemplate(tokenizer, thinking=thinking)
    ask: list[Message] = [{"role": "user", "content": _USER}]
    prompt = template.rendered(ask, tools=tools, ask=True) or ""
    told = [{"role": "system", "content": _SYSTEM}, *ask]
    unsaid = template.rendered([{"role": "system", "content": ""}, *ask], tools=tools, ask=True)
    with_system = template.rendered(told, tools=tools, ask=True) or ""
    other_day = ChatTemplate(tokenizer, thinking=thinking, today=_OTHER_DATE)
    shows_tools = _names_all(prompt, tools)
    rendered = _rendered_format(tokenizer, template, tools) if tools else None
    learned = _learned_format(tokenizer)
    reply, end_text, before, after = _frame(
        tokenizer, template, tools if shows_tools else (), has_replies=has_replies
    )
    if _USER not in prompt:
        raise _refused(tokenizer, "drops the user's message", "give a chat model")
    return TemplateFacts(
        call_format=rendered or learned or HERMES,
        knows_calls=bool(rendered or learned),
        shows_tools=shows_tools,
        keeps_system=0 <= with_system.find(_SYSTEM) < with_system.find(_USER),
        adds_system=unsaid is not None and _USER in unsaid and len(unsaid) < len(prompt),
        reply=reply,
        before_reply=before,
        after_reply=after,
        end_text=end_text,
        end_of_turn=int(tokenizer.convert_tokens_to_ids(end_text)),
        opens_thought=prompt.rstrip().endswith("<think>"),
        has_date=other_day.rendered(ask, tools=tools, ask=True) != prompt,
        is_taught_by_example=not tools
        or any(text.startswith('<tool_call>\n{"name": "') for text in tokenizer.get_added_vocab()),
    )


def _refused(tokenizer: Any, lack: str, fix: str) -> ModelError:  # noqa: ANN401 - as above
    name = getattr(tokenizer, "name_or_path", "") or "the model"
    return ModelError(f"{name}: its chat template {lack}: {fix}")


def _names_all(text: str, tools: Tools) -> bool:
    """Every tool and every argument is named in the text."""
    names = [name for tool, keys in tools_by_name(tools).items() for name in (tool, *keys)]
    return all(re.search(rf"\b{re.escape(name)}\b", text) for name in names)


def _learned_format(tokenizer: Any) -> CallFormat | None:  # noqa: ANN401 - as above
    """The format whose opening tag the tokenizer keeps whole."""
    tokens = tokenizer.get_added_vocab()
    found = [
        one
        for one in CALL_FORMATS.values()
        if any(one.opening.fullmatch(token) for token in tokens)
    ]
    # <tool_call> is a token of many families, and `hermes` is the most common form after it.
    others = [one for one in found if not one.opening.fullmatch("<tool_call>")]
    return next(iter(others), HERMES if found else None)


def _rendered_format(
    tokenizer: Any,  # noqa: ANN401 - as above
    template: ChatTemplate,
    tools: Tools,
) -> CallFormat | None:
    """The format in which the template renders a call; None: it renders none."""
    by_name = tools_by_name(tools)
    name = next((one for one, keys in by_name.items() if keys), next(iter(by_name)))
    arguments = dict.fromkeys(by_name[name][:1], _VALUE)
    said = next(_rendered_calls(template, tools, name, arguments), None)
    if said is None:
        return None
    squeezed = "".join(said.split())
    written = {"".join(one.render(name, arguments).split()): one for one in CALL_FORMATS.values()}
    # The longest first: a format with tags holds one without.
    for text in sorted(written, key=len, reverse=True):
        if text in squeezed:
            return written[text]
    call = {"name": name, "arguments": arguments}
    for one in CALL_FORMATS.values():
        pieces = scan(said, one) if one.opening.search(said) else ()
        if isinstance(pieces, ParseFailure):
            continue
        values = [piece.value for piece in pieces if isinstance(piece, Call)]
        if [plain_call(value, by_name) for value in values] == [call]:
            return one
    shown = " ".join(said.split())[-90:]
    raise _refused(
        tokenizer,
        f"writes a tool call as {shown!r}, a form that is not read",
        "give a model of another family, or put a template without tools into its folder",
    )


def _rendered_calls(
    template: ChatTemplate, tools: Tools, name: str, arguments: Mapping[str, str]
) -> Iterator[str]:
    """What follows the question where the model made a call, by each way to hand it over."""
    for given in (dict(arguments), json.dumps(arguments)):
        for content in ("", None):
            call = {"id": "mtsqlcall", "type": "function"}
            function = {"name": name, "arguments": given}
            said = {
                "role": "assistant",
                "content": content,
                "tool_calls": [{**call, "function": function}],
            }
            ask = {"role": "user", "content": _USER}
            text = template.rendered([ask, said], tools=tools, ask=False)
            behind = (text or "").rpartition(_USER)[2]
            if _VALUE in behind:
                yield behind


_REPLIES: Sequence[Mapping[str, str]] = (
    {"role": "tool"},
    # Mistral's templates write it, and ask for nine characters.
    {"role": "tool", "tool_call_id": "mtsqlcall"},
    {"role": "user"},
)
"""Ways to hand over a reply, the best first."""


def _frame(
    tokenizer: Any,  # noqa: ANN401 - as above
    template: ChatTemplate,
    tools: Tools,
    *,
    has_replies: bool,
) -> tuple[Mapping[str, str], str, str, str]:
    """How a reply is handed over, what ends a message, what stands before and after the reply."""
    if not has_replies:
        for reply in ({"role": "user"}, None):
            around = _around(template, tools, reply)
            end = _end(tokenizer, around[0]) if around else None
            if end is not None:
                return {}, end, "", ""
        raise _unclosed(tokenizer)
    has_whole = False
    for reply in _REPLIES:
        around = _around(template, tools, reply)
        if around and _names_some(around[0], tools):
            # It tells the tools before the last question, which is not part of a reply.
            around = _around(template, (), reply)
        if around is None or any(
            "".join(around).count(left) != "".join(around).count(right)
            for left, right in ("{}", "[]")
        ):
            continue
        has_whole = True
        if end := _end(tokenizer, around[0]):
            return reply, end, around[0].lstrip().removeprefix(end), around[1]
    if has_whole:
        raise _unclosed(tokenizer)
    raise _refused(
        tokenizer,
        "does not keep a tool reply whole, be it of role 'tool' or 'user'",
        "give another model, or environment.dialect=short_horizon, which has no replies",
    )


def _unclosed(tokenizer: Any) -> ModelError:  # noqa: ANN401 - as above
    return _refused(
        tokenizer,
        "does not end a message with a special token",
        "give a chat model whose messages end in one, as <|im_end|>",
    )


def _around(
    template: ChatTemplate, tools: Tools, reply: Mapping[str, str] | None
) -> tuple[str, str] | None:
    """What stands between a message and what follows it, and after that.

    Args:
        reply: its keys other than the content; None: nothing follows.
    """
    messages = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _SAID}]
    if reply is not None:
        messages.append({**reply, "content": _REPLY})
    text = template.rendered(messages, tools=tools, ask=reply is not None)
    parts = (text or "").split(_SAID)
    if len(parts) != 2:
        return None
    if reply is None:
        return parts[1], ""
    around = parts[1].split(_REPLY)
    return (around[0], around[1]) if len(around) == 2 else None


def _names_some(text: str, tools: Tools) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", text) for name in tools_by_name(tools))


def _end(tokenizer: Any, text: str) -> str | None:  # noqa: ANN401 - as above
    """The special token that a text begins with, space before it left out."""
    text = text.lstrip()
    special = [one.content for one in tokenizer.added_tokens_decoder.values() if one.special]
    found = [one for one in special if one and text.startswith(one)]
    return max(found, key=len, default=None)
