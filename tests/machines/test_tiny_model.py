"""The tiny policy as it is before it learns anything."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from transformers import AutoModelForCausalLM

from actors.tiny_model import create
from mtsql.config.model import TinyModelConfig

TEXTS = ["show the name of shops with city 'Rome' ?"]


def _repeated(tmp_path: Path, **shape: int) -> float:
    """Share of right guesses in the second half of 48 random tokens said twice."""
    config = TinyModelConfig(vocab_size=700, intermediate_size=128, **shape)
    create(tmp_path / "model", TEXTS, config, seed=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    once = torch.randint(0, 300, (16, 48), generator=torch.Generator().manual_seed(1))
    ids = torch.cat([once, once], dim=1)
    with torch.no_grad():
        guesses = model(input_ids=ids).logits[:, 48:-1].argmax(dim=-1)
    return guesses.eq(ids[:, 49:]).float().mean().item()


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 128, "num_heads": 2, "num_kv_heads": 2, "head_dim": 64},
        {"hidden_size": 128, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32},
    ],
)
def test_an_untrained_model_of_two_layers_goes_on_as_an_earlier_place_did(
    tmp_path: Path, shape: dict[str, int]
) -> None:
    assert _repeated(tmp_path, num_layers=2, **shape) > 0.2  # by chance 1 / 704


def test_a_single_layer_cannot_copy_and_is_left_random(tmp_path: Path) -> None:
    shape = {"hidden_size": 128, "num_heads": 2, "num_kv_heads": 2, "head_dim": 64}
    assert _repeated(tmp_path, num_layers=1, **shape) < 0.05


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    config = TinyModelConfig(vocab_size=700, hidden_size=64, num_layers=2, num_heads=2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        create(tmp_path / name, TEXTS, config, seed=seed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
