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
ROPE_THETA = 1e6
SLOW = 1 / 150
"""Radians a token: what turns less than this compares tokens over a prompt of some hundred."""
RESIDUAL_SCALE = 0.05
SKETCH_SCALE, LOOK_SHARPNESS = 0.3, 2.5
SAID_SCALE, MATCH_SHARPNESS = 0.6, 2.0
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


@torch.no_grad()
def start_copying(model: Qwen3ForCausalLM) -> None:
    """Let the attention of the first two layers begin as an induction circuit.

    A head of the first layer looks at the token before and leaves a sketch of it. The heads of the
    second look for the place whose sketch fits the current token, and say what stands there: after
    "FROM ni" comes "ght_guard" if the schema has it, whether training has seen the word or not.
    Such heads also form by learning (Olsson et al., arXiv 2209.11895), but from many times the
    tokens that a small model sees in ten minutes. Everything else stays random, and everything is
    trained. To begin with attention that is known to be of use is the idea of mimetic
    initialisation (Trockman and Kolter, arXiv 2305.09828).

    Args:
        model: random weights; one with a single layer is left as it is.
    """
    config: Any = model.config
    layers: Any = model.model.layers  # modules are typed too widely
    if len(layers) < 2:
        return
    for layer in layers:
        # What a token is must stay readable under what the layers add to it.
        layer.self_attn.o_proj.weight.mul_(RESIDUAL_SCALE)
        layer.mlp.down_proj.weight.mul_(RESIDUAL_SCALE)
    width, dim = config.hidden_size, config.head_dim
    pairs = dim // 2  # rotary turns dimension i together with i + pairs
    speed = ROPE_THETA ** (-torch.arange(pairs) / pairs)  # radians a token

    # A direction that all tokens share, so that a head can look by place whatever stands there.
    shared = torch.nn.functional.normalize(torch.randn(width), dim=0)
    table: Any = model.model.embed_tokens.weight
    table -= torch.outer(table @ shared, shared)
    table += table.norm(dim=1).mean() * shared

    look = layers[0].self_attn
    query, key = torch.zeros(dim), torch.zeros(dim)
    # The two fastest pairs tell neighbours apart: turned by one token, key and query are the same.
    query[:2] = 1.0
    key[:2], key[pairs : pairs + 2] = torch.cos(speed[:2]), torch.sin(speed[:2])
    read, write = _orthonormal(dim, width), _orthonormal(dim, width)
    look.q_proj.weight[:dim] = torch.outer(query, shared) + 0.02 * torch.randn(dim, width)
    look.k_proj.weight[:dim] = torch.outer(key, shared) + 0.02 * torch.randn(dim, width)
    look.v_proj.weight[:dim] = read - torch.outer(read @ shared, shared)
    look.o_proj.weight[:, :dim] = SKETCH_SCALE * write.T
    look.q_norm.weight.fill_(LOOK_SHARPNESS)
    look.k_norm.weight.fill_(LOOK_SHARPNESS)

    match = layers[1].self_attn
    slow = (speed < SLOW).nonzero().flatten()
    slow = torch.cat([slow, slow + pairs])
    shares = config.num_attention_heads // config.num_key_value_heads
    for head in range(config.num_key_value_heads):
        own = slice(head * dim, (head + 1) * dim)
        chosen = torch.zeros(dim, dim)
        chosen[slow] = torch.randn(len(slow), dim) * dim**-0.5
        said = _orthonormal(dim, width)
        match.k_proj.weight[own] = chosen @ write
        match.v_proj.weight[own] = said
        for asking in range(head * shares, (head + 1) * shares):
            asked = slice(asking * dim, (asking + 1) * dim)
            match.q_proj.weight[asked] = chosen @ look.v_proj.weight[:dim]
            match.o_proj.weight[:, asked] = SAID_SCALE / shares * said.T
    match.q_norm.weight.fill_(MATCH_SHARPNESS)
    match.k_norm.weight.fill_(MATCH_SHARPNESS)


def _orthonormal(rows: int, columns: int) -> torch.Tensor:
    """[rows, columns]: orthogonal rows of length 1, or columns if there are fewer of those."""
    weight = torch.empty(rows, columns)
    torch.nn.init.orthogonal_(weight)
    return weight


def create(
    folder: Path,
    texts: Iterable[str],
    config: TinyModelConfig,
    *,
    seed: int,
    fixed_texts: Sequence[str] = ACTIONS.fixed_texts,
) -> int:
    """Write tokenizer and untrained model as a Hugging Face folder.

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
            # The slower half of a head's dimensions must stay in phase over a whole prompt, or
            # nothing far back can be matched by what it says.
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    start_copying(model)
    model.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return model.num_parameters()
