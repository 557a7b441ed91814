"""Tokenizers trained in the blink of an eye."""

from collections.abc import Sequence
from typing import Any

from helpers.shops import DIALOGUE

TEXTS = [
    "shop : id , name , city",
    *(turn.question for turn in DIALOGUE.turns),
    *(turn.gold_sql for turn in DIALOGUE.turns),
    '{"ok": true}',
    '{"columns": ["name"], "rows": [["Ada"], ["Bob"]], "num_rows": 2}',
] * 2

# The parts of Qwen3's layout that matter to a codec: a section of tools in the system message, tool
# replies as a user's message, a reasoning block that is kept after the last question only, put
# before the last assistant message even when it is empty, and opened and closed by the template
# itself when thinking is off.
QWEN_TEMPLATE = """\
{%- set first = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if tools -%}
{{- '<|im_start|>system\\n' + (first + '\\n\\n' if first else '') + '# Tools\\n\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\\n</tools><|im_end|>\\n' -}}
{%- elif first -%}
{{- '<|im_start|>system\\n' + first + '<|im_end|>\\n' -}}
{%- endif -%}
{%- set seen = namespace(question=0) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{%- set seen.question = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' -}}
{%- elif message.role == 'assistant' -%}
{%- set thought, said = '', message.content -%}
{%- if '</think>' in said -%}
{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
{%- set said = said.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if loop.index0 > seen.question and (loop.last or thought) -%}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- said + '<|im_end|>\\n' -}}
{%- elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}
{{- '<|im_start|>user' -}}
{%- endif -%}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and not enable_thinking -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}"""


def tiny_tokenizer() -> Any:
    from actors.tiny_model import train_tokenizer

    return train_tokenizer(TEXTS, 500)


def byte_level_bpe(special: Sequence[str], tags: Sequence[str] = ()) -> Any:
    """A tokenizer of 500 tokens.

    Args:
        special: texts kept whole that no decoded text should hold.
        tags: texts kept whole that are text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    inner.add_tokens([AddedToken(text, normalized=False, special=False) for text in tags])
    return inner


def qwen_tokenizer() -> Any:
    """Byte-level BPE with Qwen3's own tokens and a template in its layout."""
    from transformers import PreTrainedTokenizerFast

    tags = ("think", "tool_call", "tool_response")
    inner = byte_level_bpe(
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        tags=[text for tag in tags for text in (f"<{tag}>", f"</{tag}>")],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = QWEN_TEMPLATE
    return tokenizer


# ChatML as SmolLM2 has it: replies are a role of their own, and without a system message the
# template writes one.
TALKATIVE_TEMPLATE = """\
{%- if messages[0].role != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def talkative_tokenizer() -> Any:
    """Byte-level BPE that knows nothing of tools, with a template that adds a system message."""
    from transformers import PreTrainedTokenizerFast

    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(special),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = TALKATIVE_TEMPLATE
    return tokenizer
