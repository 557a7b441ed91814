"""The warm start's rows: ids and loss mask of scripted trajectories, on a dataset made here."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the core install holds no tokenizers")

import pyarrow.parquet as pq

from actors.sft import load_tokenizer, prepare_rows
from actors.sft_dataset import TokenDataset
from mtsql.config import RunConfig
from mtsql.data.embedded import generate
from mtsql.errors import DataError, ModelError
from mtsql.mistakes import ScriptFacts
from mtsql.protocol import DIALECTS, ActionName, ToolCall
from mtsql.store import StoredTrajectory, read_trajectories
from mtsql.supervised_config import WarmStartConfig

NUM_DIALOGUES = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft") / "data"
    generate(folder, seed=1, num_train=NUM_DIALOGUES, num_valid=1, num_test=1, num_test_ood=1)
    return folder


def recipe(data: Path, **model: Any) -> RunConfig:
    tiny = {
        "vocab_size": 800,
        "hidden_size": 32,
        "num_layers": 1,
        "num_heads": 1,
        "num_kv_heads": 1,
        "intermediate_size": 32,
        "max_position": 1024,
    }
    return RunConfig.model_validate(
        {
            "name": "rows",
            "data": {"folder": data},
            "model": model or {"tiny": tiny},
            "environment": {
                "prompt": "compact",
                "max_prompt_tokens": 512,
                "max_response_tokens": 512,
            },
            "sql": {"num_workers": 1},
        }
    )


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm_start")
    base, rows = prepare_rows(recipe(data), WarmStartConfig(), folder)
    assert (base, rows) == (folder / "base", folder / "rows.parquet")
    return folder


def stored(folder: Path) -> list[StoredTrajectory]:
    return read_trajectories(folder / "scripted.parquet")


def test_the_loss_is_on_what_the_policy_says_and_on_nothing_else(prepared: Path) -> None:
    tokenizer = load_tokenizer(prepared / "base")
    rows = pq.read_table(prepared / "rows.parquet").to_pylist()
    assert len(rows) == len(stored(prepared)) > 2 * NUM_DIALOGUES
    for row, kept in zip(rows, stored(prepared), strict=True):
        messages = [step.message for step in kept.trajectory.steps]
        replies = [step.observation for step in kept.trajectory.steps[:-1]]
        pieces: list[tuple[int, list[int]]] = []
        for one, mask in zip(row["input_ids"], row["loss_mask"], strict=True):
            if not pieces or pieces[-1][0] != mask:
                pieces.append((mask, []))
            pieces[-1][1].append(one)
        # prompt, message, reply, message ... message
        assert [mask for mask, _ in pieces] == [0, 1] * len(messages)
        decoded = [tokenizer.decode(ids) for _, ids in pieces]
        assert decoded[1::2] == [f"{message}<|im_end|>" for message in messages]
        assert decoded[2::2] == [
            f"\n<|im_start|>user\n<tool_response>\n{reply}\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n"
            for reply in replies
        ]
        assert decoded[0].endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert kept.question in decoded[0]
        # Each end of a message is one token, and it is learnt.
        assert all(ids[-1] == tokenizer.eos_token_id for mask, ids in pieces if mask)


def test_of_a_drill_only_the_corrections_are_learned(data: Path, tmp_path: Path) -> None:
    warm_start = WarmStartConfig(trajectories_per_turn=1, corrections_per_turn=2)
    base, path = prepare_rows(recipe(data), warm_start, tmp_path)
    tokenizer = load_tokenizer(base)
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    rows = pq.read_table(path).to_pylist()
    drills = list(zip(rows, stored(tmp_path), strict=True))[-facts["num_drills"] :]
    num_turns = len({one.trajectory.turn_id for one in stored(tmp_path)})
    assert len(rows) - len(drills) == num_turns
    assert len(drills) > 2
    for row, kept in drills:
        learned = [
            one for one, mask in zip(row["input_ids"], row["loss_mask"], strict=True) if mask
        ]
        corrections = [
            step.message
            for step in kept.trajectory.steps
            if isinstance(step.action, ToolCall) and step.action.name is ActionName.CORRECT
        ]
        assert corrections
        assert tokenizer.decode(learned) == "".join(f"{text}<|im_end|>" for text in corrections)


@pytest.mark.parametrize("dialect", ["mtsql_r1", "cocte", "short_horizon"])
def test_every_dialect_has_its_rows(data: Path, tmp_path: Path, dialect: str) -> None:
    config = recipe(data)
    environment = config.environment.model_copy(
        update={"dialect": dialect, "prompt": "m_schema", "max_schema_tokens": 300}
    )
    config = config.model_copy(update={"environment": environment})
    warm_start = WarmStartConfig(trajectories_per_turn=1, corrections_per_turn=1, max_tokens=4000)
    base, path = prepare_rows(config, warm_start, tmp_path)
    tokenizer = load_tokenizer(base)
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    assert facts["num_too_long"] == 0
    # One message leaves nothing to correct.
    assert (facts["num_drills"] > 2) is (dialect != "short_horizon")
    rows = pq.read_table(path).to_pylist()
    num_whole = len(rows) - facts["num_drills"]
    for row, kept in zip(rows[:num_whole], stored(tmp_path), strict=False):
        learned = [
            one for one, mask in zip(row["input_ids"], row["loss_mask"], strict=True) if mask
        ]
        said = "".join(f"{step.message}<|im_end|>" for step in kept.trajectory.steps)
        assert tokenizer.decode(learned) == said
        assert "\u3010Schema\u3011" in tokenizer.decode(kept.prompt_ids)
        text = tokenizer.decode(row["input_ids"])
        schema = text.partition("schema:\n")[2].partition("\n\n")[0]
        assert len(tokenizer(schema, add_special_tokens=False)["input_ids"]) <= 300
    # The wire format's constants are single tokens.
    for text in DIALECTS[dialect].fixed_texts:
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1


def test_the_facts_are_counted(prepared: Path) -> None:
    rows = pq.read_table(prepared / "rows.parquet").to_pylist()
    facts = json.loads((prepared / "facts.json").read_text("utf-8"))
    assert facts["num_trajectories"] == len(rows)
    assert facts["num_too_long"] == 0
    lengths = [len(row["input_ids"]) for row in rows]
    assert facts["mean_tokens"] == pytest.approx(sum(lengths) / len(lengths))
    kinds = ScriptFacts.model_validate(facts).mistakes
    assert kinds["wrong_case"].made > 0
    # A trajectory may hold several kinds.
    assert sum(one.made for one in kinds.values()) >= len(rows)
    assert sum(one.share for one in kinds.values()) >= 1
    corrected = sum(len(one.trajectory.proposals) > 1 for one in stored(prepared))
    assert facts["shares"]["corrected"] == pytest.approx(corrected / len(rows))
    assert {one.policy for one in stored(prepared)} == {"scripted"}
    assert {one.reward for one in stored(prepared)} == {None}


def test_rows_that_are_too_long_are_left_out_and_counted(
    data: Path, prepared: Path, tmp_path: Path
) -> None:
    lengths = [one.num_tokens for one in stored(prepared)]
    limit = sorted(lengths)[len(lengths) // 2]
    _, path = prepare_rows(recipe(data), WarmStartConfig(max_tokens=limit), tmp_path)
    kept = [len(row["input_ids"]) for row in pq.read_table(path).to_pylist()]
    assert kept == [length for length in lengths if length <= limit]
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    assert facts["num_too_long"] == len(lengths) - len(kept) > 0


def test_no_row_at_all_names_the_key(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fits warm_start\.max_tokens=5; raise it") as caught:
        prepare_rows(recipe(data), WarmStartConfig(max_tokens=5), tmp_path)
    assert "\n" not in str(caught.value)


def test_items_of_the_dataset(prepared: Path) -> None:
    rows = pq.read_table(prepared / "rows.parquet").to_pylist()
    # verl passes its tokenizer, config and processor too.
    items = TokenDataset(
        parquet_files=str(prepared / "rows.parquet"), tokenizer=None, config=None, max_samples=-1
    )
    assert len(items) == len(rows)
    item = items[1]
    assert item["input_ids"].tolist() == rows[1]["input_ids"]
    assert item["loss_mask"].tolist() == rows[1]["loss_mask"]
    assert item["position_ids"].tolist() == list(range(len(rows[1]["input_ids"])))
    assert len(TokenDataset(str(prepared / "rows.parquet"), max_samples=3)) == 3


def test_a_folder_that_is_no_model_is_named(data: Path, tmp_path: Path) -> None:
    empty = tmp_path / "no-model"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    (broken / "tokenizer.json").write_text("{")
    for path in (empty, broken):
        with pytest.raises(ModelError, match="no Hugging Face model there") as caught:
            prepare_rows(recipe(data, path=str(path)), WarmStartConfig(), tmp_path / "out")
        assert str(caught.value).startswith(f"model.path {str(path)!r}: ")
        assert "\n" not in str(caught.value)
