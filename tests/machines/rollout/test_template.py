"""What is true of each family's chat template, what is mended, and what is refused in one line."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the core install holds no tokenizers")

from actors.rollout.codec import Codec, codec_for
from actors.rollout.template import DATE, ChatTemplate
from helpers.chat_templates import (
    CHATML,
    CHATML_ROLES,
    FAMILIES,
    HERMES_CALL,
    USER_REPLY,
    chatml,
    family_tokenizer,
    tokenizer_with,
)
from helpers.shops import IN_PARIS
from helpers.tokenizers import byte_level_bpe
from mtsql.errors import ModelError
from mtsql.protocol import ACTIONS, CALL_FORMATS, DIALECTS, ActionName, Answer, ToolCall
from mtsql.shown.harmless import to_json

QUESTION = [
    {"role": "system", "content": "Answer with SQL."},
    {"role": "user", "content": "shop : id , name , city\nshow the names of all shops in Paris"},
]
ALL_ACTIONS = [
    (ToolCall(name=ActionName.PROPOSE, sql=f"{IN_PARIS} OR name LIKE '%<b>\"x\"\\%'"),),
    (ToolCall(name=ActionName.EXECUTE),),
    (ToolCall(name=ActionName.VERIFY, target="execution", verdict="pass"),),
    (Answer(),),
]
CELL = 'it\'s <|im_end|></s>[INST] "x" {y}\n\té \U0001f600'
REPLIES = ['{"ok": true}', to_json({"columns": ["name"], "rows": [[CELL]]}), '{"ok": true}']


@pytest.fixture(scope="module")
def codecs() -> dict[str, Codec]:
    return {name: codec_for(ACTIONS, family_tokenizer(name), thinking=False) for name in FAMILIES}


def flat(codec: Codec, messages: Sequence[str], replies: Sequence[str]) -> list[int]:
    """As the loop makes it: prompt, message, reply, message ..."""
    ids = codec.prompt(QUESTION) + codec.written(messages[0])
    for reply, message in zip(replies, messages[1:], strict=False):
        ids += codec.reply(reply, is_closed=True) + codec.written(message)
    return ids


def whole(codec: Codec, messages: Sequence[str], replies: Sequence[str]) -> str:
    """The template's rendering of the conversation as it was handed over."""
    turns: list[dict[str, str]] = [*codec.given(QUESTION)]
    turns.append({"role": "assistant", "content": messages[0]})
    for reply, message in zip(replies, messages[1:], strict=False):
        turns.append({**codec.facts.reply, "content": reply})
        turns.append({"role": "assistant", "content": message})
    return codec.rendered(turns)


def decoded(codec: Codec, ids: Sequence[int]) -> str:
    """Everything, the last message's end left out."""
    return codec.message(ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_template_does_is_seen_from_its_renderings(
    codecs: dict[str, Codec], name: str
) -> None:
    family, facts = FAMILIES[name], codecs[name].facts
    assert facts.call_format is CALL_FORMATS[family.call_format]
    assert facts.shows_tools is family.shows_tools
    assert facts.keeps_system is family.keeps_system
    assert facts.reply["role"] == family.reply
    assert facts.end_text == family.end
    assert facts.has_date is family.has_date


@pytest.mark.parametrize("name", FAMILIES)
def test_the_prompt_holds_all_there_is_to_know(codecs: dict[str, Codec], name: str) -> None:
    codec = codecs[name]
    text = decoded(codec, codec.prompt(QUESTION))
    assert text.count("Answer with SQL.") == text.count("shop : id , name , city") == 1
    for tool in ACTIONS.tools:
        function = tool["function"]
        for word in (function["name"], *function["parameters"]["properties"]):
            assert word in text
    if not FAMILIES[name].shows_tools:
        # The form of a call is told where the tools are.
        assert codec.call_format.example() in text
        assert text.count('"name": "verify", "description"') == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_flat_tokens_are_the_rendering_of_the_whole_conversation(
    codecs: dict[str, Codec], name: str
) -> None:
    codec = codecs[name]
    dialect = ACTIONS.in_format(codec.call_format)
    messages = [dialect.render(actions) for actions in ALL_ACTIONS]
    for message, actions in zip(messages, ALL_ACTIONS, strict=True):
        assert dialect.parse(message).actions == actions
    ids = flat(codec, messages, REPLIES)
    text = decoded(codec, ids)
    for part in (*messages, *REPLIES):
        assert part in text
    assert ids.count(codec.end_of_turn) >= len(messages)
    rendered = whole(codec, messages, REPLIES)
    is_equal = rendered.startswith(text) and not rendered[len(text) :].strip().removeprefix(
        codec.facts.end_text
    ).strip().removeprefix("<|endoftext|>")
    assert is_equal is FAMILIES[name].is_rendered_whole


@pytest.mark.parametrize("name", FAMILIES)
def test_a_message_is_closed_by_the_templates_own_end(codecs: dict[str, Codec], name: str) -> None:
    codec = codecs[name]
    ids = codec.written("SELECT")
    assert codec.message(ids) == "SELECT"
    assert decoded(codec, [*ids, 0]).startswith(f"SELECT{FAMILIES[name].end}")
    closed = codec.reply("{}", is_closed=True)
    assert codec.reply("{}", is_closed=False) == [codec.end_of_turn, *closed]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dialect", ["mtsql_r1", "cocte", "short_horizon"])
def test_every_dialect_finds_its_form(name: str, dialect: str) -> None:
    codec = codec_for(DIALECTS[dialect], family_tokenizer(name), thinking=False)
    spoken = DIALECTS[dialect].in_format(codec.call_format)
    view = "here" if dialect == "cocte" else None
    proposal = ToolCall(name=ActionName.PROPOSE, sql=IN_PARIS, view=view)
    said = {
        "mtsql_r1": (
            ToolCall(name=ActionName.VERIFY, target="execution", verdict="fail"),
            proposal,
            ToolCall(name=ActionName.EXECUTE),
        ),
        "cocte": (proposal,),
        "short_horizon": (proposal, Answer()),
    }[dialect]
    ids = codec.written(spoken.render(said))
    assert spoken.parse(codec.message(ids)).actions == said
    # One user message alone, as `mtsql_r1` has it.
    text = decoded(codec, codec.prompt(QUESTION[1:]))
    assert text.count("shop : id , name , city") == 1
    for tool in DIALECTS[dialect].tools:
        assert tool["function"]["name"] in text


@pytest.mark.parametrize("name", ["llama3.2", "smollm3"])
def test_prompts_do_not_change_overnight(name: str) -> None:
    tokenizer = family_tokenizer(name)
    text = tokenizer.decode(codec_for(ACTIONS, tokenizer, thinking=False).prompt(QUESTION))
    assert DATE.strftime("%d %b") in text
    for form in ("%d %b %Y", "%d %B %Y"):
        assert datetime.now().strftime(form) not in text


def test_an_open_thought_is_closed_where_thinking_is_off() -> None:
    tokenizer = family_tokenizer("nemotron")
    quiet, loud = (codec_for(ACTIONS, tokenizer, thinking=on) for on in (False, True))
    open_thought = "<SPECIAL_11>Assistant\n<think>\n"
    assert decoded(loud, loud.prompt(QUESTION)).endswith(open_thought)
    assert decoded(quiet, quiet.prompt(QUESTION)).endswith(f"{open_thought}\n</think>\n\n")
    assert decoded(quiet, quiet.reply("{}", is_closed=True)).endswith(
        f"[{{}}]</TOOL_RESPONSE>\n{open_thought}\n</think>\n\n"
    )
    # With thinking a script closes it, and a sampled message that does not is no call.
    spoken = ACTIONS.in_format(loud.call_format)
    assert spoken.render((Answer(),)).startswith("\n</think>\n\n<TOOLCALL>")
    assert spoken.parse(spoken.render((Answer(),))).actions == (Answer(),)


def test_a_tokenizer_made_for_the_dialect_is_told_nothing() -> None:
    from helpers.tokenizers import tiny_tokenizer  # noqa: PLC0415 - it loads torch

    codec = codec_for(ACTIONS, tiny_tokenizer(), thinking=False)
    assert codec.given(QUESTION) == QUESTION
    assert codec.tools == ()


NO_END = CHATML_ROLES.replace("<|im_end|>", "###")
UNKNOWN_CALL = "{{- '<|im_start|>assistant to=' + call.name + (call.arguments | tojson) -}}"
CUT = CHATML_ROLES.replace("message.content", "message.content[:30]")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (NO_END, "does not end a message with a special token: give a chat model whose"),
        (chatml(UNKNOWN_CALL, USER_REPLY), "a form that is not read: give a model of another"),
        (CUT, "does not keep a tool reply whole, be it of role 'tool' or 'user': give another"),
        ("{{- raise_exception('no') -}}", "does not keep a tool reply whole"),
        ("{% for", "does not keep a tool reply whole"),
        (None, "is missing: give a chat model"),
    ],
)
def test_what_cannot_be_mended_is_refused_in_one_line(template: Any, reason: str) -> None:
    tokenizer = tokenizer_with(CHATML_ROLES, CHATML, "<|im_end|>")
    tokenizer.chat_template = template
    tokenizer.name_or_path = "models/other"
    with pytest.raises(ModelError) as error:
        codec_for(ACTIONS, tokenizer, thinking=False)
    assert str(error.value).startswith("models/other: its chat template ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_tools_that_are_named_in_part_are_told_whole() -> None:
    template = chatml(HERMES_CALL, USER_REPLY).replace("(tool | tojson)", "tool.function.name")
    tokenizer = tokenizer_with(template, CHATML, "<|im_end|>")
    codec = codec_for(ACTIONS, tokenizer, thinking=False)
    assert not codec.facts.shows_tools
    assert '"enum": ["pass", "fail"]' in decoded(codec, codec.prompt(QUESTION))


def test_a_tokenizer_that_puts_a_space_first_gives_the_tokens_of_the_whole() -> None:
    # SentencePiece's way: what is tokenised alone begins with a space that the whole has not.
    from tokenizers import decoders, pre_tokenizers  # noqa: PLC0415 - not in the core install
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - as above

    inner = byte_level_bpe(special=("<|endoftext|>", *CHATML))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    inner.add_tokens(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ{}:,_'\"\n▁"))
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHATML_ROLES
    codec = Codec(tokenizer, [], thinking=False)
    messages, replies = ["SELECT a", "SELECT b"], ["{ok}"]
    turns = [*QUESTION, {"role": "assistant", "content": messages[0]}]
    turns += [
        {"role": "tool", "content": replies[0]},
        {"role": "assistant", "content": messages[1]},
    ]
    text = ChatTemplate(tokenizer, thinking=False).render(turns, tools=(), ask=False)
    ids = tokenizer(text.removesuffix("\n"), add_special_tokens=False)["input_ids"]
    assert flat(codec, messages, replies) == ids


# Any text ---------------------------------------------------------------------------------------

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_cell = st.one_of(
    _text,
    st.sampled_from(sorted({token for family in FAMILIES.values() for token in family.special})),
)


@lru_cache
def special_ids(name: str) -> frozenset[int]:
    tokenizer = family_tokenizer(name)
    return frozenset(tokenizer.convert_tokens_to_ids(list(FAMILIES[name].special)))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=20)
@given(data=st.data())
def test_no_cell_opens_a_special_token(codecs: dict[str, Codec], name: str, data: Any) -> None:
    codec = codecs[name]
    cells = data.draw(st.lists(_cell, min_size=1, max_size=3))
    added = special_ids(name)
    empty = codec.reply(to_json({"rows": [[""]]}), is_closed=True)
    shown = codec.reply(to_json({"rows": [["".join(cells)]]}), is_closed=True)
    assert [one for one in shown if one in added] == [one for one in empty if one in added]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=20)
@given(data=st.data())
def test_any_conversation_comes_back_from_its_tokens(
    codecs: dict[str, Codec], name: str, data: Any
) -> None:
    codec = codecs[name]
    messages = data.draw(st.lists(_text, min_size=1, max_size=3))
    replies = [to_json({"rows": [[data.draw(_cell)]]}) for _ in messages[1:]]
    expected = decoded(codec, codec.prompt(QUESTION)) + messages[0]
    for reply, message in zip(replies, messages[1:], strict=True):
        gap = decoded(codec, [*codec.reply(reply, is_closed=False), 0])
        assert gap.startswith(codec.facts.end_text + codec.facts.before_reply + reply)
        expected += gap.removesuffix("<|endoftext|>") + message
    assert decoded(codec, flat(codec, messages, replies)) == expected
    for message in messages:
        assert codec.message(codec.written(message)) == message


# The families' own templates --------------------------------------------------------------------


def test_published_templates_are_served_or_refused() -> None:
    named = os.environ.get("MTSQL_CHAT_TEMPLATES")
    if not named:
        pytest.skip("MTSQL_CHAT_TEMPLATES names no folder of *.jinja files")
    files = sorted(Path(named).glob("*.jinja"))
    assert files
    for file in files:
        template = file.read_text(encoding="utf-8")
        tokens = re.findall(r"<\|.*?\|>|<\uff5c.*?\uff5c>|<[a-z_]+>|</s>|\[/?[A-Z_]+\]", template)
        special = dict.fromkeys([*CHATML, "</s>", *tokens])
        tokenizer = tokenizer_with(template, tuple(special), "</s>")
        for dialect in DIALECTS.values():
            # Any other error is a fault.
            with suppress(ModelError):
                assert codec_for(dialect, tokenizer, thinking=False).prompt(QUESTION)
