"""A GGUF file as a Hugging Face folder.

transformers reads GGUF, too, but gives SmolLM2 the wrong end of turn and splits its digits in
another way (5.10.4). Read are models of the architecture `llama` with SmolLM2's tokenizer; others
are refused, for nothing here has proved that they would come out right.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mtsql.errors import MachineError, ModelError

ARCHITECTURE = "llama"
TOKENIZER = "smollm"
_CONTROL = 3
"""llama.cpp's type of special tokens."""
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}

Progress = Callable[[int, int], None]
"""Called with the tensors done and all of them."""


def import_gguf(file: Path, out: Path, *, progress: Progress = lambda _done, _all: None) -> None:
    """Write the model of a GGUF file into a new folder, whole or not at all.

    Weights are stored in bfloat16.

    Raises:
        ModelError: not a GGUF file, or one of another architecture, tokenizer or quantisation; or
            the folder is there.
        MachineError: the package gguf is not installed, or the disk is too small.
    """
    if out.exists():
        raise ModelError(f"{out}: is there already; remove it, or name another folder with --out")
    reader = _opened(file)
    _check(file, reader)
    needed = sum(int(tensor.n_elements) for tensor in reader.tensors) * 2 + 10_000_000
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise MachineError(
            f"{out}: needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free: make free "
            "space, or name another folder"
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write_weights(file, reader, partial, progress)
        _write_config(reader, partial)
        _write_tokenizer(reader, partial)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _opened(file: Path) -> Any:  # noqa: ANN401 - gguf is imported where it is used
    try:
        from gguf import GGUFReader  # noqa: PLC0415 - a core install lacks it
    except ModuleNotFoundError as error:
        raise MachineError("not installed: gguf; run `make env`") from error
    try:
        return GGUFReader(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(
            f"{file}: not a GGUF file, or a damaged one ({str(error).splitlines()[0]}); "
            "fetch it again"
        ) from error


def _value(reader: Any, key: str, default: object = None) -> Any:  # noqa: ANN401 - of many types
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def _check(file: Path, reader: Any) -> None:  # noqa: ANN401 - as above
    for key, wanted, what in (
        ("general.architecture", ARCHITECTURE, "architecture"),
        ("tokenizer.ggml.pre", TOKENIZER, "tokenizer"),
    ):
        found = _value(reader, key)
        if found != wanted:
            raise ModelError(
                f"{file}: a GGUF with the {what} {found!r}, and only {wanted!r} is read; "
                "give the model's Hugging Face folder instead"
            )


def _write_weights(file: Path, reader: Any, out: Path, progress: Progress) -> None:  # noqa: ANN401 - as above
    import torch  # noqa: PLC0415 - seconds
    from gguf import dequantize  # noqa: PLC0415 - see above
    from safetensors.torch import save_file  # noqa: PLC0415 - see above

    heads = {
        "attn_q": _value(reader, "llama.attention.head_count"),
        "attn_k": _value(reader, "llama.attention.head_count_kv"),
    }
    weights: dict[str, torch.Tensor] = {}
    for number, tensor in enumerate(reader.tensors, start=1):
        try:
            plain = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        except NotImplementedError as error:
            raise ModelError(
                f"{file}: the tensor {tensor.name} is quantised as {tensor.tensor_type.name}, "
                "which gguf cannot read; give a file with another quantisation, such as Q8_0"
            ) from error
        name, part = _named(file, tensor.name)
        if part in heads:
            plain = _halves(plain, heads[part])
        weights[name] = plain.to(torch.bfloat16).contiguous()
        progress(number, len(reader.tensors))
    path = out / "model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the library writes it for the user alone


def _named(file: Path, name: str) -> tuple[str, str]:
    """A tensor's name in transformers, and its part of a layer."""
    words = name.split(".")
    if words[0] in _NAMES and words[1:] == ["weight"]:
        return f"{_NAMES[words[0]]}.weight", words[0]
    if words[0] == "blk" and len(words) == 4 and words[2] in _LAYER_NAMES and words[3] == "weight":
        return f"model.layers.{words[1]}.{_LAYER_NAMES[words[2]]}.weight", words[2]
    raise ModelError(
        f"{file}: holds a tensor {name!r}, which a {ARCHITECTURE} model of this form lacks; "
        "give the model's Hugging Face folder instead"
    )


def _halves(weight: Any, num_heads: int) -> Any:  # noqa: ANN401 - torch is imported where it is used
    """Rotary pairs, which llama.cpp stores side by side, as transformers has them: half a head
    apart."""
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _write_config(reader: Any, out: Path) -> None:  # noqa: ANN401 - as above
    hidden, heads = (
        _value(reader, f"llama.{key}") for key in ("embedding_length", "attention.head_count")
    )
    ends = _ends(reader)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(_value(reader, "tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": _value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _value(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _value(reader, "llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "max_position_embeddings": _value(reader, "llama.context_length"),
        "rms_norm_eps": round(_value(reader, "llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_theta": _value(reader, "llama.rope.freq_base", 10000.0),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "dtype": "bfloat16",
        **ends,
    }
    _write_json(out / "config.json", config)
    _write_json(out / "generation_config.json", ends)


def _ends(reader: Any) -> dict[str, int]:  # noqa: ANN401 - as above
    eos = _value(reader, "tokenizer.ggml.eos_token_id")
    return {
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": eos,
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id", eos),
    }


def _write_tokenizer(reader: Any, out: Path) -> None:  # noqa: ANN401 - as above
    from tokenizers import (  # noqa: PLC0415 - a core install lacks it
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
    )

    tokens = _value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in _value(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Each digit by itself, without the space before it: SmolLM2's rule.
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = _value(reader, "tokenizer.ggml.token_type")
    special: Iterator[str] = (
        token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL
    )
    tokenizer.add_special_tokens(
        [AddedToken(one, special=True, normalized=False) for one in special]
    )
    tokenizer.save(str(out / "tokenizer.json"))
    names = {name.removesuffix("_id"): tokens[number] for name, number in _ends(reader).items()}
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **names,
            "model_max_length": _value(reader, "llama.context_length"),
            "clean_up_tokenization_spaces": False,
            "chat_template": _value(reader, "tokenizer.chat_template"),
        },
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
