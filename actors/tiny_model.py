"""The embedded default policy: a byte-level BPE tokenizer and a small Qwen3, both from scratch.

The tokenizer knows the protocol's constant strings as single tokens, so that a step costs the tiny
model a handful of tokens; text goes through the same chat template, parser and loop as Qwen3's.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from mtsql.config.model import TinyModelConfig
from mtsql.protocol import ACTIONS

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
# The roles and the reply's frame. Like the wire format's fixed texts they are not "special": they
# survive decoding, as text must.
FRAME = (
    "<|im_start|>system\n",
    "<|im_start|>user\n",
    "<|im_start|>assistant\n",
    "<tool_response>\n",
    "\n</tool_response>",
)
# Qwen3's layout without the rendering of tool schemas: a tiny model learns the tools by example.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content -}}
{{- '\\n</tool_response><|im_end|>\\n' -}}
{%- else -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, fixed_texts: Sequence[str] = ACTIONS.fixed_texts
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in Qwen's layout.

    Args:
        texts: contents of prompts, messages and observations.
        vocab_size: at most; all 256 bytes and the constants are included.
        fixed_texts: of the dialect; each becomes one token.
    """
    constants = (*FRAME, *fixed_texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(constants),
        special_tokens=[END_OF_TEXT, END_OF_TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in constants])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TURN, pad_token=END_OF_TEXT
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def create(
    folder: Path,
    texts: Iterable[str],
    config: TinyModelConfig,
    *,
    seed: int,
    fixed_texts: Sequence[str] = ACTIONS.fixed_texts,
) -> int:
    """Write tokenizer and randomly initialised model as a Hugging Face folder.

    Args:
        folder: replaced if it exists; complete or absent, never half-written.
        texts: what the tokenizer learns from.
        seed: of the weights.
        fixed_texts: constant strings of the dialect's wire format.

    Returns:
        The number of parameters.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    tokenizer: Any = train_tokenizer(
        texts, config.vocab_size, fixed_texts
    )  # its ids are typed too widely
    tokenizer.save_pretrained(partial)
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            # A multiple of 64 keeps matrix shapes friendly to the CPU's kernels.
            vocab_size=(len(tokenizer) + 63) // 64 * 64,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.max_position,
            tie_word_embeddings=True,
            # The library's 0.02 suits wide layers; a narrow one learns in a fifth fewer steps so.
            initializer_range=config.hidden_size**-0.5,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return model.num_parameters()
