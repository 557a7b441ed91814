"""Chat messages to token ids and back, once: sampled ids are appended, never re-tokenised."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mtsql.dialogue import Message
from mtsql.errors import ModelError
from mtsql.protocol import Dialect
from mtsql.shown.budget import CountTokens

_MARK = "MTSQL-MARK"
_KEPT_TEXTS = 512
"""Whose ids a codec remembers: trajectories of one turn share their prompt and most replies."""


class Codec:
    """One tokenizer with its chat template.

    Example: a prompt, one sampled message, the environment's reply
        prompt(messages)   <|im_start|>user\\n ... <|im_end|>\\n<|im_start|>assistant\\n
        sampled            <tool_call> ... </tool_call><|im_end|>
        reply(text)        \\n<|im_start|>user\\n<tool_response>\\n ... <|im_start|>assistant\\n
    Joined, they equal the template's rendering of the whole conversation. One exception: without
    thinking, Qwen3's template puts an empty reasoning block before each message and forgets it when
    the next one follows; what the model was given stays here.

    Args:
        tools: JSON schemas for the template; empty for none.
        has_replies: False for a dialect of one message; the template need not know tool replies.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
        tools: Sequence[dict[str, Any]],
        *,
        thinking: bool = False,
        has_replies: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        # An empty list is not the same as none to every template.
        self._tools = list(tools) or None
        self._options = {"enable_thinking": thinking}
        self.end_of_turn = int(tokenizer.eos_token_id)
        self._end_text = str(tokenizer.eos_token)
        self._encode = lru_cache(_KEPT_TEXTS)(self._encoded)
        self._around = self._around_reply() if has_replies else None

    def _render(self, messages: Sequence[Message], *, ask: bool) -> str:
        return self._tokenizer.apply_chat_template(
            list(messages),
            tools=self._tools,
            add_generation_prompt=ask,
            tokenize=False,
            **self._options,
        )

    def _around_reply(self) -> tuple[str, str]:
        """What the template puts between a message's end and the reply, and after the reply."""
        text = self._render(
            [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": _MARK},
                {"role": "tool", "content": _MARK},
            ],
            ask=True,
        )
        parts = text.split(_MARK)
        if len(parts) != 3 or not parts[1].startswith(self._end_text):
            raise ValueError(
                f"the chat template does not end a message with {self._end_text!r} "
                "and keep a tool reply whole"
            )
        return parts[1].removeprefix(self._end_text), parts[2]

    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that come before the first sampled token."""
        return list(self._encode(self._render(messages, ask=True)))

    def reply(self, observation: str, *, is_closed: bool) -> list[int]:
        """The ids between two sampled messages.

        Args:
            observation: the environment's text.
            is_closed: the sampled message ended by itself; otherwise its end is added here,
                unsampled.
        """
        assert self._around is not None, "this codec was made for a dialect without replies"
        before, after = self._around
        ids = list(self._encode(before + observation + after))
        return ids if is_closed else [self.end_of_turn, *ids]

    def written(self, message: str) -> list[int]:
        """The ids of a message that was written as text, its end included."""
        return [*self._encode(message), self.end_of_turn]

    def message(self, sampled_ids: Sequence[int]) -> str:
        """The text of one sampled message, without its end."""
        ids = list(sampled_ids)
        if ids and ids[-1] == self.end_of_turn:
            ids.pop()
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def codec_for(
    dialect: Dialect,
    tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
    *,
    thinking: bool,
) -> Codec:
    """The codec for the tools and replies of a dialect."""
    return Codec(
        tokenizer, dialect.tools, thinking=thinking, has_replies=dialect.reply_role is not None
    )


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
