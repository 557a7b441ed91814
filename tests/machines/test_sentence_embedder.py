"""Sentence-embedding models, tiny and random: pooling, batches, and folders that hold none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the core install holds no transformers")

import torch
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from actors.sentence_embedder import SentenceEmbedder, pool
from helpers.tokenizers import tiny_tokenizer
from mtsql.errors import ModelError
from mtsql.selftaught.samples import Outline

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}
SHORT = Outline(actions=("propose", "answer"), proposals=("SELECT name FROM shop",))
LONG = Outline(
    actions=("propose", "execute:empty", "correct", "execute:ok", "answer"),
    proposals=(
        "SELECT name FROM shop WHERE city = 'PARIS'",
        "SELECT name FROM shop WHERE city = 'Paris'",
    ),
)
OUTLINES = [SHORT, LONG, SHORT, Outline(actions=("answer",), proposals=())]


def save(folder: Path, model: PreTrainedModel) -> Path:
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    return save(tmp_path_factory.mktemp("bert"), BertModel(BertConfig(vocab_size=600, **SIZES)))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Qwen3-Embedding is published: a causal language model's architecture."""
    torch.manual_seed(1)
    config = Qwen3Config(vocab_size=600, num_key_value_heads=1, head_dim=16, **SIZES)
    return save(tmp_path_factory.mktemp("qwen"), Qwen3ForCausalLM(config))


def by_hand(embedder: SentenceEmbedder, outline: Outline) -> np.ndarray:
    """All token vectors [T, d] of one outline alone."""
    ids = embedder._tokenizer(outline.text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return embedder._model(input_ids=ids).last_hidden_state[0].double().numpy()


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_an_encoder_gives_the_mean_of_its_tokens(bert: Path) -> None:
    embedder = SentenceEmbedder(bert, batch_size=2)
    assert embedder.pooling == "mean"
    vectors = embedder(OUTLINES)
    assert vectors.shape == (4, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    for vector, outline in zip(vectors, OUTLINES, strict=True):
        assert vector == pytest.approx(unit(by_hand(embedder, outline).mean(axis=0)), abs=1e-5)


def test_a_causal_model_gives_its_last_token(qwen: Path) -> None:
    embedder = SentenceEmbedder(qwen, batch_size=3)
    assert embedder.pooling == "last"
    for vector, outline in zip(embedder(OUTLINES), OUTLINES, strict=True):
        assert vector == pytest.approx(unit(by_hand(embedder, outline)[-1]), abs=1e-5)


def test_neither_order_nor_batches_matter(bert: Path) -> None:
    forward = SentenceEmbedder(bert, batch_size=4)(OUTLINES)
    backward = SentenceEmbedder(bert, batch_size=1)(OUTLINES[::-1])[::-1]
    assert forward == pytest.approx(backward, abs=1e-6)
    assert forward[0] == pytest.approx(forward[2], abs=1e-6)
    assert SentenceEmbedder(bert)([]).shape == (0, 32)


def test_a_long_text_is_cut(qwen: Path) -> None:
    far = Outline(actions=("propose", "answer"), proposals=("SELECT name, " * 500,))
    farther = Outline(actions=("propose", "answer"), proposals=("SELECT name, " * 900,))
    vectors = SentenceEmbedder(qwen)([far, farther])
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)


def with_pooling(folder: Path, model: Path, settings: object) -> Path:
    """The model in a folder of its own, with sentence-transformers' settings."""
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "last"),
        ({"word_embedding_dimension": 32, "pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_the_folder_says_how_to_pool(settings, pooling, bert: Path, tmp_path: Path) -> None:
    embedder = SentenceEmbedder(with_pooling(tmp_path / "model", bert, settings))
    assert embedder.pooling == pooling
    tokens = by_hand(embedder, LONG)
    expected = {"first": tokens[0], "last": tokens[-1], "mean": tokens.mean(axis=0)}[pooling]
    assert embedder([LONG])[0] == pytest.approx(unit(expected), abs=1e-5)


def test_padding_is_not_pooled() -> None:
    hidden = torch.tensor([[[1.0], [2.0], [3.0], [99.0]], [[5.0], [99.0], [99.0], [99.0]]])
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0], [5.0]]
    assert pool(hidden, mask, "first").tolist() == [[1.0], [5.0]]
    assert pool(hidden, mask, "last").tolist() == [[3.0], [5.0]]


@pytest.mark.parametrize(
    "settings",
    [{"pooling_mode_max_tokens": True}, {"pooling_mode": "weightedmean"}, {}],
)
def test_another_pooling_is_refused(settings, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"1_Pooling/config\.json asks for"):
        SentenceEmbedder(with_pooling(tmp_path / "model", bert, settings))


def test_a_folder_without_a_model_is_named(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"embedder .*nothing: no config.json there; give"):
        SentenceEmbedder(tmp_path / "nothing")
    for missing in ("tokenizer.json", "model.safetensors"):
        folder = with_pooling(tmp_path / missing, bert, {"pooling_mode": "mean"})
        (folder / missing).unlink()
        with pytest.raises(ModelError, match=f"embedder {folder}"):
            SentenceEmbedder(folder)


def test_a_damaged_folder_is_named(bert: Path, tmp_path: Path) -> None:
    for name, text in (("config.json", "{"), ("config.json", "{}"), ("model.safetensors", "x")):
        folder = with_pooling(tmp_path / f"{name}-{len(text)}", bert, {"pooling_mode": "mean"})
        (folder / name).unlink()
        (folder / name).write_text(text)
        with pytest.raises(ModelError, match=f"embedder {folder}"):
            SentenceEmbedder(folder)


def test_weights_of_another_model_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = with_pooling(tmp_path / "model", bert, {"pooling_mode": "mean"})
    config = json.loads((bert / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"the weights lack encoder\.layer\.2"):
        SentenceEmbedder(folder)
