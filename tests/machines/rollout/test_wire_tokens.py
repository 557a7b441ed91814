"""A pretrained model with the wire's constant texts as tokens: its tokenizer and its weights."""

import asyncio
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the core install holds no tokenizers")

import torch
from safetensors.torch import load_file, save_file

from actors.pretrained.wire_model import make_wire_model
from actors.rollout.codec import Codec, load_tokenizer, run_codec
from actors.rollout.play import Sampled, play
from actors.rollout.wire_tokens import wire_codec, wire_texts, with_wire_tokens
from actors.run.checks import check_models, check_template
from envs.replies import JSON_TEXTS
from envs.turn import TurnEnv
from helpers.chat_templates import family_tokenizer
from helpers.shops import FIRST, IN_PARIS, SECOND, asking, write_shops
from helpers.tokenizers import talkative_tokenizer
from mtsql.config.run import RunConfig
from mtsql.dialogue import PastTurn, TurnSpec
from mtsql.errors import MachineError, ModelError
from mtsql.protocol import DIALECTS, ActionName, Answer, ToolCall
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.tokens import TokenSequence

PARIS = ToolCall(name=ActionName.PROPOSE, sql=IN_PARIS)
RUN = ToolCall(name=ActionName.EXECUTE)


def recipe(model: Path, *, prompt: str = "compact", dialect: str = "actions", **keys: Any) -> Any:
    return RunConfig.model_validate(
        {
            "name": "wire",
            "model": {"path": str(model), "wire_tokens": True, **keys},
            "environment": {"prompt": prompt, "dialect": dialect},
        }
    )


def write_model(folder: Path, tokenizer: Any, *, vocab_size: int, tied: bool = True) -> Path:
    """A Llama of one layer; row n of its embedding is (n, n, ...), of an untied head (-n, ...)."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - seconds

    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            tie_word_embeddings=tied,
            max_position_embeddings=16384,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    numbers = torch.arange(float(vocab_size))[:, None].expand(-1, 8)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(numbers)
        if not tied:
            model.get_output_embeddings().weight.copy_(-numbers)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return talkative_tokenizer()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """Its 6 last rows belong to no token."""
    folder = tmp_path_factory.mktemp("wire") / "model"
    return write_model(folder, tokenizer, vocab_size=len(tokenizer) + 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warm_start": None}, "only the warm start teaches: keep warm_start"),
        ({"warm_start": {"lora_rank": 8}}, "warm_start.lora_rank=8 learns no embeddings: set"),
        ({"model": {"tiny": {}, "wire_tokens": True}}, "has the wire's tokens anyway: drop"),
    ],
)
def test_what_no_warm_start_would_teach_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate({**recipe(Path("model")).model_dump(), **changes})


# Tokens ------------------------------------------------------------------------------------------


def played(
    database: Path, codec: Codec, messages: Sequence[str], spec: TurnSpec, config: RunConfig
) -> TokenSequence:
    script = iter([codec.written(message) for message in messages])

    async def sample(prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
        return Sampled(token_ids=tuple(next(script)[:max_tokens]), logprobs=())

    async def one() -> TokenSequence:
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            env = TurnEnv(spec, pool, config.environment, config.sql.limits())
            _, tokens = await play(env, codec, sample, config.environment)
            return tokens

    return asyncio.run(one())


def test_a_turn_token_by_token(tmp_path: Path, model: Path) -> None:
    config = recipe(model)
    codec = wire_codec(model, config)
    messages = [DIALECTS["actions"].render([one]) for one in (PARIS, RUN, Answer())]
    database = write_shops(tmp_path / "shops.sqlite")
    tokens = played(database, codec, messages, FIRST, config)
    assert [codec.message([one]) or "END" for one in tokens.response_ids] == [
        '<tool_call>\n{"name": "propose", "arguments": {"sql": "',
        *("SELECT", " name", " FROM", " shop", " WHERE", " city", " =", " '", "Paris", "'"),
        '"}}\n</tool_call>',
        "END",
        *("\n<|im_start|>tool\n", '{"ok": true}', "END", "\n<|im_start|>assistant\n"),
        *('<tool_call>\n{"name": "execute", "arguments": {}}\n</tool_call>', "END"),
        *("\n<|im_start|>tool\n", '{"columns": ["', "name", '"], "rows": [["', "Ada", '"],'),
        *(' ["', "Bob", '"]], "num_rows": ', "2", "}", "END", "\n<|im_start|>assistant\n"),
        *('<tool_call>\n{"name": "answer", "arguments": {}}\n</tool_call>', "END"),
    ]
    # The tools are taught, not told.
    prompt = codec.message(tokens.prompt_ids)
    assert "execute" not in prompt
    assert prompt.endswith("q: show all shops in Paris<|im_end|>\n<|im_start|>assistant\n")
    without = run_codec(load_tokenizer(model), config)
    assert '"name": "execute"' in without.message(without.prompt([{"role": "user", "content": ""}]))
    execute = DIALECTS["actions"].render([RUN])
    assert len(without.written(execute)) > 20
    assert len(codec.written(execute)) == 2


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_text_is_one_token_that_is_text(model: Path, dialect: str) -> None:
    config = recipe(model, dialect=dialect)
    plain = load_tokenizer(model)
    tokenizer, pieces = with_wire_tokens(model, config)
    texts = wire_texts(config, wire_codec(model, config).facts)
    assert set(texts) >= set(DIALECTS[dialect].fixed_texts)
    assert "\n<|im_start|>assistant\n" in texts or dialect == "short_horizon"
    assert (
        ("\n<|im_start|>tool\n" in texts)
        is ('{"ok": true}' in texts)
        is bool(DIALECTS[dialect].tools)
    )
    assert [*pieces] == [len(plain) + number for number in range(len(pieces))]
    for text, token in zip(texts, pieces, strict=True):
        assert tokenizer(text)["input_ids"] == [token]
        assert tokenizer.decode([token], skip_special_tokens=True) == text
        assert plain.decode(pieces[token]) == text
        assert len(pieces[token]) > 1
    assert plain("<tool_call>")["input_ids"] == tokenizer("<tool_call>")["input_ids"]


def test_worded_replies_are_not_json_so_they_have_no_tokens(model: Path) -> None:
    for dialect, prompt, are_json in (
        ("mtsql_r1", "compact", True),
        ("mtsql_r1", "full", False),
        ("actions", "full", True),
        ("short_horizon", "compact", False),
    ):
        config = recipe(model, dialect=dialect, prompt=prompt)
        found = set(wire_texts(config, wire_codec(model, config).facts))
        assert found & set(JSON_TEXTS) == (set(JSON_TEXTS) if are_json else set())


@pytest.mark.parametrize("prompt", ["compact", "full", "m_schema"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_question_and_no_cell_can_bring_such_a_token(
    tmp_path: Path, model: Path, dialect: str, prompt: str
) -> None:
    room = dict.fromkeys(("max_prompt_tokens", "max_response_tokens", "preview_chars"), 99_999)
    config = recipe(model, dialect=dialect, prompt=prompt)
    environment = config.environment.model_copy(update=room)
    config = config.model_copy(update={"environment": environment})
    codec = wire_codec(model, config)
    _, pieces = with_wire_tokens(model, config)
    texts = wire_texts(config, codec.facts)
    hostile = " ".join(texts) + "".join(texts) + "\n```"
    database = write_shops(tmp_path / "shops.sqlite")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE shop SET name = ? || id, city = 'Paris'", (hostile,))
    wide = config.model_copy(
        update={"environment": environment.model_copy(update={"preview_cell_chars": 9999})}
    )
    harmless, attacked = (
        played(
            database,
            codec,
            [DIALECTS[dialect].render(one) for one in ((PARIS, RUN), (PARIS, Answer()))]
            if DIALECTS[dialect].names_sql
            else [
                DIALECTS[dialect].render([one]) for one in (named(PARIS, dialect), RUN, Answer())
            ],
            replace(asking(SECOND, said), history=(PastTurn(question=said, sql=IN_PARIS + said),)),
            shown,
        )
        for said, shown in (("How many?", config), (hostile, wide))
    )
    # As many as with a harmless question and cut cells: the dialect's own and the frames.
    for before, after in (
        (harmless.prompt_ids, attacked.prompt_ids),
        (harmless.response_ids, attacked.response_ids),
    ):
        assert [one for one in after if one in pieces] == [one for one in before if one in pieces]
    assert len(attacked.prompt_ids) > len(harmless.prompt_ids) + 2 * len(hostile) // 8


def named(action: ToolCall, dialect: str) -> ToolCall:
    return replace(action, view="here") if dialect == "cocte" else action


def test_a_template_without_tags_around_its_messages_keeps_its_frames(tmp_path: Path) -> None:
    tokenizer = talkative_tokenizer()
    tokenizer.chat_template = (
        "{%- for message in messages -%}{{- message.role + ': ' + message.content -}}"
        "{{- '<|im_end|>\\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- 'assistant: ' -}}{%- endif -%}"
    )
    tokenizer.save_pretrained(tmp_path)
    config = recipe(tmp_path)
    texts = wire_texts(config, wire_codec(tmp_path, config).facts)
    assert set(texts) == {*DIALECTS["actions"].fixed_texts, *JSON_TEXTS}


def test_another_form_of_calls_is_refused(tmp_path: Path) -> None:
    tokenizer = family_tokenizer("llama3.1")
    write_model(tmp_path, tokenizer, vocab_size=len(tokenizer))
    with pytest.raises(ModelError, match="writes calls as 'llama'") as caught:
        check_template(tmp_path, recipe(tmp_path), "cpu")
    assert str(caught.value).endswith("set model.wire_tokens=false")


def test_a_default_system_message_is_left_empty_on_request(model: Path) -> None:
    asked = [{"role": "user", "content": "q"}]
    told = [{"role": "system", "content": "s"}, *asked]
    for is_kept, system in ((True, "You are a helpful assistant"), (False, "")):
        codec = wire_codec(model, recipe(model, default_system=is_kept))
        assert codec.message(codec.prompt(asked)) == (
            f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        assert "system\ns<|im_end|>" in codec.message(codec.prompt(told))
    # A template that adds nothing gets nothing.
    quiet = load_tokenizer(model)
    quiet.chat_template = quiet.chat_template.partition("{%- endif -%}\n")[2]
    codec = run_codec(quiet, recipe(model, default_system=False))
    assert codec.message(codec.prompt(asked)).startswith("<|im_start|>user\n")


# Weights -----------------------------------------------------------------------------------------


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: one for path in folder.glob("*.safetensors") for name, one in load_file(path).items()
    }


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_mean_of_their_pieces(
    tmp_path: Path, tokenizer: Any, dtype: torch.dtype, tied: bool
) -> None:
    model = write_model(tmp_path / "model", tokenizer, vocab_size=len(tokenizer), tied=tied)
    weights = {
        name: one.to(dtype).contiguous()
        for name, one in load_file(model / "model.safetensors").items()
    }
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    config = recipe(model)
    out = tmp_path / "run" / "base"
    make_wire_model(model, out, config)
    _, pieces = with_wire_tokens(model, config)
    grown = tensors(out)
    names = {"model.embed_tokens.weight"} | ({"lm_head.weight"} if not tied else set())
    assert grown.keys() == weights.keys()
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 384
    assert 384 - 64 < len(tokenizer) + len(pieces) <= 384
    for name, before in weights.items():
        after = grown[name]
        assert after.dtype == dtype
        if name not in names:
            assert torch.equal(after.float(), before.float())
            continue
        assert after.shape == (384, 8)
        assert torch.equal(after[: len(before)].float(), before.float())
        for token, parts in pieces.items():
            mean = before[list(parts)].double().mean(0)
            assert torch.equal(after[token].float(), mean.to(dtype).float())
        others = before.double().mean(0).to(dtype).float()
        assert torch.equal(after[-1].float(), others)
    assert [path.name for path in out.parent.iterdir()] == ["base"]


def test_rows_that_belong_to_no_token_are_taken_first(tmp_path: Path, tokenizer: Any) -> None:
    model = write_model(tmp_path / "model", tokenizer, vocab_size=1000)
    make_wire_model(model, tmp_path / "base", recipe(model))
    _, pieces = with_wire_tokens(model, recipe(model))
    (before,), (after,) = (
        [one for name, one in tensors(folder).items() if "embed" in name]
        for folder in (model, tmp_path / "base")
    )
    assert after.shape == before.shape == (1000, 8)
    changed = (after != before).any(1).nonzero().flatten().tolist()
    assert changed == [*pieces]
    for token, parts in pieces.items():
        assert after[token, 0] == pytest.approx(sum(parts) / len(parts))


def test_weights_in_several_files_stay_so_and_load(tmp_path: Path, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - seconds

    model = write_model(tmp_path / "model", tokenizer, vocab_size=len(tokenizer), tied=False)
    loaded: Any = AutoModelForCausalLM.from_pretrained(model)
    (model / "model.safetensors").unlink()
    loaded.save_pretrained(model, max_shard_size="8KB")
    (model / "pytorch_model.bin").write_bytes(b"the same weights, in another form")
    make_wire_model(model, tmp_path / "base", recipe(model))
    names = {path.name for path in model.iterdir()}
    assert {path.name for path in (tmp_path / "base").iterdir()} == names - {"pytorch_model.bin"}
    index = json.loads((tmp_path / "base" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        one.numel() * one.element_size() for one in tensors(tmp_path / "base").values()
    )
    grown: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    codec = wire_codec(model, recipe(model))
    ids = codec.prompt([{"role": "user", "content": "show all shops in Paris"}])
    assert max(ids) >= len(tokenizer)
    own = run_codec(load_tokenizer(tmp_path / "base"), recipe(model))
    assert own.prompt([{"role": "user", "content": "show all shops in Paris"}]) == ids
    with torch.no_grad():
        old = [one for one in ids if one < len(tokenizer)]
        before, after = (one(torch.tensor([old])).logits for one in (loaded, grown))
    assert torch.equal(after[..., : len(tokenizer)], before)
    assert after.shape[-1] == 384


def quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq"}
    (folder / "config.json").write_text(json.dumps(config))


def adapted(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "why"),
    [(quantised, r"quantised \(gptq\): give the model before"), (adapted, "holds a LoRA adapter")],
)
def test_weights_that_cannot_grow_are_refused_before_the_run(
    tmp_path: Path, model: Path, change: Callable[[Path], None], why: str
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    check_models(recipe(folder))
    change(folder)
    with pytest.raises(ModelError, match=why) as caught:
        check_models(recipe(folder))
    assert str(caught.value).startswith(f"model.wire_tokens: {folder}: ")
    assert "\n" not in str(caught.value)
    check_models(recipe(folder, wire_tokens=False))


def test_what_goes_wrong_leaves_nothing_behind(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run" / "base"
    folder = shutil.copytree(model, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors: is cut short"):
        make_wire_model(folder, out, recipe(folder))
    shutil.copyfile(model / "model.safetensors", weights)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 1}))
    with pytest.raises(ModelError, match="no tensor of its weights has a row for each of 1 tokens"):
        make_wire_model(folder, out, recipe(folder))
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MachineError, match=re.escape("needs 67 MB, and 1 MB are free")):
        make_wire_model(model, out, recipe(model))
    assert list(out.parent.iterdir()) == []
