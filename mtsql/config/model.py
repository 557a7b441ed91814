"""The policy that a run starts from."""

import os
from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from mtsql.config.section import Section


def models_folder() -> Path:
    """Where `mtsql model` puts models: $MTSQL_MODELS, else mtsql/models in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("MTSQL_MODELS") or cache / "mtsql" / "models")


def model_folder(given: str | Path) -> Path:
    """The folder of a model that is given as a path, or by the name that it was fetched by."""
    fetched = models_folder() / given
    return fetched if fetched.is_dir() and not Path(given).exists() else Path(given)


class TinyModelConfig(Section):
    """A Qwen3 and a byte-level BPE tokenizer, both trained from scratch."""

    vocab_size: PositiveInt = 2048
    """Tokens of the tokenizer that is trained with it."""
    hidden_size: PositiveInt = 192
    """Width of a layer."""
    num_layers: PositiveInt = 4
    """Decoder layers."""
    num_heads: PositiveInt = 6
    """Attention heads."""
    num_kv_heads: PositiveInt = 2
    """Heads of keys and values, shared by groups of attention heads."""
    head_dim: int = Field(default=32, ge=32, multiple_of=32)
    """vLLM's CPU attention works on multiples of 32."""
    intermediate_size: PositiveInt = 512
    """Width of the MLP."""
    max_position: PositiveInt = 2048
    """Tokens of prompt and response together, at most."""


class ModelConfig(Section):
    """The policy's starting point: one of the two keys."""

    tiny: TinyModelConfig | None = None
    """Train a tiny model from scratch (the embedded default)."""
    path: str | None = None
    """A Hugging Face model folder, or the name of a model that `mtsql model fetch` brought."""
    thinking: bool = False
    """Passed to chat templates that know `enable_thinking` (Qwen3)."""
    default_system: bool = True
    """What some chat templates write for a prompt without a system message, such as `compact`
    (SmolLM2, Qwen2.5); false: an empty system message instead."""
    wire_tokens: bool = False
    """Each constant text of calls and replies becomes one token, in a copy of the pretrained model
    in the run's folder; the warm start teaches them, so the prompt need not tell the tools."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.tiny is None) == (self.path is None):
            raise ValueError("set exactly one of model.tiny and model.path")
        if self.tiny is not None and self.wire_tokens:
            raise ValueError("model.tiny has the wire's tokens anyway: drop model.wire_tokens")
        return self

    @property
    def is_made(self) -> bool:
        """The run makes the model that it starts from, in its folder."""
        return self.tiny is not None or self.wire_tokens

    @property
    def folder(self) -> Path:
        """The pretrained model; of a recipe with model.path."""
        assert self.path is not None
        return model_folder(self.path)
