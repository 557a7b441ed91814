"""A sentence-embedding model tells how alike trajectories are: `selftaught.selection.embedder`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mtsql.errors import ModelError
from mtsql.selftaught.embedding import Vectors
from mtsql.selftaught.samples import Outline

Pooling = Literal["mean", "first", "last"]
MAX_TOKENS = 1024
"""Of one outline; a longer one is cut at its end."""
_MODE, _SWITCH = "pooling_mode", "pooling_mode_"
_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "first",
    "lasttoken": "last",
}
"""By the names of sentence-transformers."""


class SentenceEmbedder:
    """Embeds the text of an outline; an `Embedder`.

    How the model's token vectors become one is read from the folder: from sentence-transformers'
    `1_Pooling/config.json` (mean, first or last token) where there is one, as in Qwen3-Embedding's;
    otherwise a causal language model (`...ForCausalLM`) gives its last token, which alone has seen
    all others, and any other model the mean. Vectors are L2-normalised.

    Args:
        folder: configuration, tokenizer and weights in Hugging Face's layout; nothing is downloaded
            and no code of the folder runs.
        device: of torch.

    Raises:
        ModelError: the folder holds no such model.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", batch_size: int = 32) -> None:
        self.pooling: Pooling = _pooling_of(folder)
        self._device = device
        self._batch_size = batch_size
        self._tokenizer, self._model, self._max_tokens = _load(folder)
        self._model.to(device).eval()

    def __call__(self, outlines: Sequence[Outline], /) -> Vectors:
        """[n, d], each of length 1."""
        texts = [outline.text for outline in outlines]
        if not texts:
            return np.zeros((0, self._model.config.hidden_size))
        ids: list[list[int]] = self._tokenizer(texts, truncation=True, max_length=self._max_tokens)[
            "input_ids"
        ]
        # Alike lengths share a batch; the longest first, so that memory fails at once or never.
        order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
        vectors = np.zeros((len(ids), self._model.config.hidden_size))
        for at in range(0, len(order), self._batch_size):
            numbers = order[at : at + self._batch_size]
            vectors[numbers] = self._batch([ids[number] for number in numbers])
        return vectors

    @torch.inference_mode()
    def _batch(self, ids: Sequence[Sequence[int]]) -> Vectors:
        # Padded by hand and on the right: not every tokenizer has a padding token, absolute
        # positions stay, and causal attention never looks there.
        lengths = torch.tensor([len(row) for row in ids])
        tokens = torch.zeros((len(ids), int(lengths.max())), dtype=torch.long)
        for row, own in zip(tokens, ids, strict=True):
            row[: len(own)] = torch.tensor(own)
        mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        tokens, mask, lengths = (one.to(self._device) for one in (tokens, mask, lengths))
        hidden = self._model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        pooled = pool(hidden.float(), mask, self.pooling)
        return torch.nn.functional.normalize(pooled, dim=-1).double().cpu().numpy()


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector [B, d] of token vectors [B, T, d] whose mask [B, T] is true for tokens first.

    Example: tokens 1 2 3 and padding: mean 2, first 1, last 3
    """
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _pooling_of(folder: Path) -> Pooling:
    settings = _json(folder / "1_Pooling" / "config.json")
    if settings is None:
        config = _json(folder / "config.json") or {}
        names = config.get("architectures") or ()
        return "last" if any(str(name).endswith("ForCausalLM") for name in names) else "mean"
    # Older files hold a switch for each mode, newer ones `pooling_mode`.
    chosen = [key for key, value in settings.items() if key.startswith(_SWITCH) and value is True]
    chosen = [str(settings[_MODE])] if _MODE in settings else chosen
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise _bad(folder, f"1_Pooling/config.json asks for {chosen}, not for mean, cls or last")
    return _MODES[chosen[0]]


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as error:
        raise _bad(path.parent, f"{path.name} is no JSON") from error
    return found if isinstance(found, dict) else None


def _load(folder: Path) -> tuple[Any, Any, int]:
    """Tokenizer, model and the tokens that fit."""
    if not (folder / "config.json").is_file():
        raise _bad(folder, "no config.json there")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, info = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _bad(folder, lines[0][:120]) from error
    # What is missing would be random. The pooler of BERT is not used.
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise _bad(folder, f"the weights lack {missing[0]}")
    positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    return tokenizer, model, min(MAX_TOKENS, positions, tokenizer.model_max_length)


def _bad(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"selftaught.selection.embedder {folder}: {why}; give a folder with config.json, "
        "tokenizer.json and weights of a sentence-embedding model, or leave the key out"
    )
