"""Chat messages to token ids and back, once: sampled ids are appended, never re-tokenised."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from actors.rollout.template import ChatTemplate, TemplateFacts, read_template
from envs.replies import JSON_TEXTS
from mtsql.config.run import RunConfig
from mtsql.dialogue import Message
from mtsql.errors import ModelError
from mtsql.protocol import DIALECTS, Dialect
from mtsql.shown.budget import CountTokens

_WORD = "SELECT"
_THOUGHT_END = "\n</think>\n\n"
_KEPT_TEXTS = 512
"""Whose ids a codec remembers: trajectories of one turn share their prompt and most replies."""


class Codec:
    """One tokenizer with its chat template.

    Example: a prompt, one sampled message, the environment's reply
        prompt(messages)   <|im_start|>user\\n ... <|im_end|>\\n<|im_start|>assistant\\n
        sampled            <tool_call> ... </tool_call><|im_end|>
        reply(text)        \\n<|im_start|>user\\n<tool_response>\\n ... <|im_start|>assistant\\n
    Joined, they equal the template's rendering of the whole conversation. Some templates render
    earlier messages again: without thinking, Qwen3's puts an empty reasoning block before each
    message and forgets it when the next one follows. What the model was given stays here.

    Args:
        tools: JSON schemas for the template; empty for none.
        default_system: keep what the template says where the prompt has no system message.
        has_replies: False for a dialect of one message; the template need not know tool replies.

    Raises:
        ModelError: the template cannot serve these tools and replies.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
        tools: Sequence[dict[str, Any]],
        *,
        thinking: bool = False,
        default_system: bool = True,
        has_replies: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, thinking=thinking)
        self.facts = read_template(tokenizer, tools, thinking=thinking, has_replies=has_replies)
        self._told = _task_text(tools, self.facts)
        self._leaves_system_empty = self.facts.adds_system and not default_system
        self._closes_thought = self.facts.opens_thought and not thinking
        self.call_format = self.facts.call_format
        """How the model's template writes a call."""
        if self.facts.opens_thought and thinking:
            self.call_format = replace(self.call_format, lead=_THOUGHT_END)
        self.tools = tuple(tools) if self.facts.shows_tools else ()
        """What the template is given; () where the prompt tells the tools, or nothing does."""
        self.end_of_turn = self.facts.end_of_turn
        self._encode = lru_cache(_KEPT_TEXTS)(self._encoded)
        # Tokenizers in SentencePiece's way put a space before what stands alone.
        alone = self._ids(_WORD)
        self._apart = _pieces_of_replies(tokenizer)
        self._is_anchored = self._ids(self.facts.end_text + _WORD) != [self.end_of_turn, *alone]

    def given(self, messages: Sequence[Message]) -> list[Message]:
        """The first messages as the template gets them, with what it lacks and drops."""
        first, *others = messages
        if self._told and first["role"] == "system":
            first = {**first, "content": f"{first['content']}\n\n{self._told}"}
        elif self._told:
            first = {**first, "content": f"{self._told}\n\n{first['content']}"}
        if first["role"] == "system" and not self.facts.keeps_system:
            asked, *others = others
            first = {**asked, "content": f"{first['content']}\n\n{asked['content']}"}
        if self._leaves_system_empty and first["role"] != "system":
            return [{"role": "system", "content": ""}, first, *others]
        return [first, *others]

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _encoded(self, text: str, before: str) -> tuple[int, ...]:
        """The ids of a text.

        Args:
            before: where it is not the conversation's beginning, the text that it follows.
        """
        if before and self._is_anchored:
            anchor, whole = self._ids(before), self._ids(before + text)
            if whole[: len(anchor)] == anchor:
                return tuple(whole[len(anchor) :])
        return tuple(self._ids(text))

    def _thoughtless(self, asking: str) -> str:
        """A text before the model's message, closing what it opened where thinking is off."""
        if self._closes_thought and asking.rstrip().endswith("<think>"):
            return f"{asking.rstrip()}\n{_THOUGHT_END}"
        return asking

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that come before the first sampled token.

        A question is not JSON, so it could hold what is constant in replies: there are no such
        tokens here.
        """
        text = self._template.render(self.given(messages), tools=self.tools, ask=True)
        ids = self._encode(self._thoughtless(text), "")
        return [piece for one in ids for piece in self._apart.get(one, (one,))]

    def rendered(self, messages: Sequence[Message]) -> str:
        """The template's own rendering of a whole conversation, to compare with what was played.

        Args:
            messages: the first ones as `given` gives them, replies with the keys of `facts.reply`.
        """
        return self._template.rendered(messages, tools=self.tools, ask=False) or ""

    def reply(self, observation: str, *, is_closed: bool) -> list[int]:
        """The ids between two sampled messages.

        Args:
            observation: the environment's text.
            is_closed: the sampled message ended by itself; otherwise its end is added here,
                unsampled.
        """
        facts = self.facts
        assert facts.reply, "this codec was made for a dialect without replies"
        text = facts.before_reply + observation + self._thoughtless(facts.after_reply)
        ids = list(self._encode(text, facts.end_text))
        return ids if is_closed else [self.end_of_turn, *ids]

    def written(self, message: str) -> list[int]:
        """The ids of a message that was written as text, its end included."""
        before = self.facts.after_reply or self.facts.end_text
        return [*self._encode(message, before), self.end_of_turn]

    def message(self, sampled_ids: Sequence[int]) -> str:
        """The text of one sampled message, without its end."""
        ids = list(sampled_ids)
        if ids and ids[-1] == self.end_of_turn:
            ids.pop()
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def _pieces_of_replies(tokenizer: Any) -> dict[int, list[int]]:  # noqa: ANN401 - as above
    """By the id of each token that is a text of replies, ids of the same text without any."""
    added = tokenizer.get_added_vocab()
    texts = {added[text]: text for text in JSON_TEXTS if text in added}

    def pieces(text: str) -> list[int]:
        # What begins in the middle of such a text may be one, too.
        parts = [tokenizer(part, add_special_tokens=False) for part in (text[:1], text[1:])]
        ids = [one for part in parts for one in part["input_ids"]]
        return [piece for one in ids for piece in (pieces(texts[one]) if one in texts else (one,))]

    return {one: pieces(text) for one, text in texts.items()}


def _task_text(tools: Sequence[dict[str, Any]], facts: TemplateFacts) -> str:
    """What the prompt says of the tools in the template's place."""
    if not facts.task_text:
        return ""
    form = (
        f"Call a tool by its name, with its arguments, in this form:\n{facts.call_format.example()}"
    )
    if facts.task_text == "calls":
        return form
    schemas = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    return f"Your tools, one JSON schema a line:\n{schemas}\n\n{form}"


def codec_for(
    dialect: Dialect,
    tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
    *,
    thinking: bool,
    default_system: bool = True,
) -> Codec:
    """The codec for the tools and replies of a dialect."""
    return Codec(
        tokenizer,
        dialect.tools,
        thinking=thinking,
        default_system=default_system,
        has_replies=dialect.reply_role is not None,
    )


def run_codec(tokenizer: Any, config: RunConfig) -> Codec:  # noqa: ANN401 - as above
    """The codec of a tokenizer in a run.

    Raises:
        ModelError: its chat template cannot serve the run's dialect.
    """
    return codec_for(
        DIALECTS[config.environment.dialect],
        tokenizer,
        thinking=config.model.thinking,
        default_system=config.model.default_system,
    )


def model_codec(model: str | Path, config: RunConfig) -> Codec:
    """The codec of a model folder in a run, from its tokenizer's files alone.

    Raises:
        ModelError: no model there, or its chat template cannot serve the run's dialect.
    """
    return run_codec(load_tokenizer(model), config)


def token_counter(tokenizer: Any) -> CountTokens:  # noqa: ANN401 - as above
    """Measures prompt texts as the model's tokenizer does."""
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def load_tokenizer(model: str | Path) -> Any:  # noqa: ANN401 - as above
    """The tokenizer of a model folder.

    Raises:
        ModelError: the folder holds none.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds that few users of this file need

    try:
        return AutoTokenizer.from_pretrained(str(model))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model.path {str(model)!r}: no Hugging Face model there "
            f"({str(error).splitlines()[0][:120]}); give a folder with config.json, "
            "tokenizer.json and weights"
        ) from error
