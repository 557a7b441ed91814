"""Flat tokens and the chat template's own rendering say the same."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="the core install holds no tokenizers")

from actors.rollout.codec import Codec
from helpers.messages import ANSWER, EXECUTE, propose
from helpers.shops import IN_PARIS
from helpers.tokenizers import qwen_tokenizer, tiny_tokenizer
from mtsql.errors import ModelError
from mtsql.protocol import ACTIONS

TOOLS = list(ACTIONS.tools)
QUESTION = [
    {"role": "system", "content": "Answer with SQL."},
    {"role": "user", "content": "shop : id , name , city\nshow all shops in Paris"},
]
REPLIES = ['{"ok": true}', '{"columns": ["name"], "rows": [["Ada"]], "num_rows": 1}']
MESSAGES = [propose(IN_PARIS), EXECUTE, ANSWER]
NO_THOUGHT = "<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def tiny() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def qwen() -> Any:
    return qwen_tokenizer()


def conversation(messages: list[str]) -> list[dict[str, str]]:
    """The question, then the messages with a reply between each two of them."""
    turns = [*QUESTION, {"role": "assistant", "content": messages[0]}]
    for reply, message in zip(REPLIES, messages[1:], strict=False):
        turns += [{"role": "tool", "content": reply}, {"role": "assistant", "content": message}]
    return turns


def flat(codec: Codec, messages: list[str]) -> list[int]:
    """The same as the loop makes it: prompt, message, reply, message ..."""
    ids = codec.prompt(QUESTION) + codec.written(messages[0])
    for reply, message in zip(REPLIES, messages[1:], strict=False):
        ids += codec.reply(reply, is_closed=True) + codec.written(message)
    return ids


def rendered(tokenizer: Any, messages: list[str], **options: bool) -> str:
    text = tokenizer.apply_chat_template(
        conversation(messages), tools=TOOLS, tokenize=False, **options
    )
    # After its last message the template breaks the line; a loop has nothing to say there.
    assert text.endswith("<|im_end|>\n")
    return text.removesuffix("\n")


def encoded(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("num_messages", [1, 2, 3])
def test_flat_tokens_are_the_rendering_of_the_whole_conversation(
    tiny: Any, num_messages: int
) -> None:
    messages = MESSAGES[:num_messages]
    text = rendered(tiny, messages)
    assert flat(Codec(tiny, TOOLS), messages) == encoded(tiny, text)
    assert text.count("<|im_start|>assistant\n") == num_messages


def test_a_short_conversation_by_hand(tiny: Any) -> None:
    codec = Codec(tiny, TOOLS)
    ask = [{"role": "user", "content": "shop"}]
    ids = [
        *codec.prompt(ask),
        *codec.written("name"),
        *codec.reply("{}", is_closed=True),
        *codec.written("city"),
    ]
    assert tiny.decode(ids) == (
        "<|im_start|>user\nshop<|im_end|>\n"
        "<|im_start|>assistant\nname<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n{}\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\ncity<|im_end|>"
    )


@pytest.mark.parametrize("num_messages", [1, 2, 3])
def test_a_thinking_qwen_too(qwen: Any, num_messages: int) -> None:
    messages = [f"<think>\nshop and city\n</think>\n\n{text}" for text in MESSAGES[:num_messages]]
    text = rendered(qwen, messages, enable_thinking=True)
    assert flat(Codec(qwen, TOOLS, thinking=True), messages) == encoded(qwen, text)
    assert text.count("shop and city") == num_messages
    assert '"name": "propose"' in text.split("<|im_end|>")[0]


def test_a_qwen_that_does_not_think_keeps_every_empty_block(qwen: Any) -> None:
    # The template forgets the empty block of each message but the last. The model was given one
    # before every message, and what it was given stays: that is the one difference.
    ids = flat(Codec(qwen, TOOLS), MESSAGES)
    text = rendered(qwen, MESSAGES, enable_thinking=False)
    assert text.count(NO_THOUGHT) == 1
    start = "<|im_start|>assistant\n"
    everywhere = text.replace(NO_THOUGHT, "").replace(start, start + NO_THOUGHT)
    assert ids == encoded(qwen, everywhere)
    # With one message nothing is forgotten.
    one = rendered(qwen, MESSAGES[:1], enable_thinking=False)
    assert flat(Codec(qwen, TOOLS), MESSAGES[:1]) == encoded(qwen, one)


def test_the_thinking_switch_reaches_the_template(qwen: Any) -> None:
    quiet, loud = Codec(qwen, TOOLS), Codec(qwen, TOOLS, thinking=True)
    block = encoded(qwen, NO_THOUGHT)
    assert quiet.prompt(QUESTION) == loud.prompt(QUESTION) + block
    assert quiet.reply("{}", is_closed=True) == loud.reply("{}", is_closed=True) + block


@pytest.mark.parametrize(
    "message",
    [
        *MESSAGES,
        "",
        "two  spaces , a comma ; it 's \n\n a line",
        "Zoë 東京 \U0001f600",
        "<think>\nno\n</think>\n\n<tool_call>\n{}",
    ],
)
@pytest.mark.parametrize("make", [tiny_tokenizer, qwen_tokenizer], ids=["tiny", "qwen"])
def test_message_inverts_written(make: Any, message: str) -> None:
    codec = Codec(make(), TOOLS)
    ids = codec.written(message)
    assert ids[-1] == codec.end_of_turn
    assert codec.message(ids) == codec.message(ids[:-1]) == message


def test_an_unclosed_message_is_ended_by_the_reply(tiny: Any) -> None:
    codec = Codec(tiny, TOOLS)
    closed = codec.reply("{}", is_closed=True)
    assert codec.end_of_turn not in closed[:1]
    assert codec.reply("{}", is_closed=False) == [codec.end_of_turn, *closed]
    cut = codec.written(EXECUTE)[:-1]
    assert cut + codec.reply("{}", is_closed=False) == codec.written(EXECUTE) + closed


def test_a_template_that_cannot_be_cut_is_refused(tiny: Any) -> None:
    other = tiny_tokenizer()
    other.chat_template = tiny.chat_template.replace("message.content", "message.content[:4]")
    with pytest.raises(ModelError, match="keep a tool reply whole"):
        Codec(other, TOOLS)
    other.chat_template = tiny.chat_template.replace("<|im_end|>", "###")
    with pytest.raises(ModelError, match="does not end a message"):
        Codec(other, TOOLS)


def test_the_end_of_a_message_is_the_templates_own(tiny: Any) -> None:
    other = tiny_tokenizer()
    other.chat_template = tiny.chat_template.replace("<|im_end|>", "<|endoftext|>")
    codec = Codec(other, TOOLS)
    assert codec.end_of_turn == other.convert_tokens_to_ids("<|endoftext|>") != other.eos_token_id
    assert codec.message(codec.written(EXECUTE)) == EXECUTE
