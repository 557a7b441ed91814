"""Rows to learn from: ids and loss mask of scripted and of sampled trajectories."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the core install holds no tokenizers")

import pyarrow.parquet as pq

from actors.learner.sft import Checkpoint, settle
from actors.learner.sft_dataset import DrawnDataset, TokenDataset
from actors.learner.sft_rows import learned_history, stored_rows, validation_dialogues, write_rows
from actors.rollout.codec import codec_for, load_tokenizer
from actors.rollout.play import Sampled
from actors.rollout.player import player_of
from actors.rollout.turns import gold_specs, load_run_data
from actors.stages.checkpoints import best
from actors.stages.scripted_rows import prepare_rows
from mtsql.config.learning import FineTuneConfig, WarmStartConfig
from mtsql.config.run import RunConfig
from mtsql.data.embedded import generate
from mtsql.errors import ConfigError, DataError, ModelError
from mtsql.mistakes.kinds import ScriptFacts
from mtsql.protocol import DIALECTS, ActionName, Answer, ToolCall
from mtsql.runs.folder import FineTuneFolder, WarmStartFolder
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.store import read_trajectories, write_trajectories

NUM_DIALOGUES = 8


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
    assert prepare_rows(recipe(data), WarmStartConfig(), WarmStartFolder(folder)) == folder / "base"
    return folder


def stored(folder: Path) -> list[Attempt]:
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
    tokenizer = load_tokenizer(prepare_rows(recipe(data), warm_start, WarmStartFolder(tmp_path)))
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
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


def test_a_mistake_is_shown_and_need_not_be_learned(data: Path, tmp_path: Path) -> None:
    scripts = {"wrong_column": 0.5, "wrong_case": 1.0, "execute": 1.0, "correct": 1.0}
    warm_start = WarmStartConfig.model_validate(
        {"trajectories_per_turn": 1, "learn_mistakes": False, "scripts": scripts}
    )
    tokenizer = load_tokenizer(prepare_rows(recipe(data), warm_start, WarmStartFolder(tmp_path)))
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    num_left_out = 0
    for row, kept in zip(rows, stored(tmp_path), strict=True):
        learned = [
            one for one, mask in zip(row["input_ids"], row["loss_mask"], strict=True) if mask
        ]
        trajectory, wanted = kept.trajectory, ""
        number = -1
        for step in trajectory.steps:
            if step.proposal != number:
                number = step.proposal
                assert number is not None
                if not trajectory.judgements[number].ex:
                    num_left_out += 1
                    continue
            wanted += f"{step.message}<|im_end|>"
        assert tokenizer.decode(learned) == wanted
        # What is left out still stands in the row.
        assert kept.trajectory.steps[0].message in tokenizer.decode(row["input_ids"])
    assert num_left_out > 3


def test_the_sql_of_earlier_turns_can_be_learned_with_the_end_of_its_line(
    data: Path, tmp_path: Path
) -> None:
    warm_start = WarmStartConfig(trajectories_per_turn=1, learn_history=True)
    tokenizer = load_tokenizer(prepare_rows(recipe(data), warm_start, WarmStartFolder(tmp_path)))
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    golds = {one.trajectory.turn_id: one.gold_sql for one in stored(tmp_path)}
    last = {one.dialogue_id: one.trajectory.turn_id for one in stored(tmp_path)}
    lengths: list[int] = []
    for row, kept in zip(rows, stored(tmp_path), strict=True):
        num_prompt = len(kept.tokens.prompt_ids)
        pairs = list(zip(row["input_ids"], row["loss_mask"], strict=True))
        learned = tokenizer.decode([one for one, mask in pairs[:num_prompt] if mask])
        dialogue, _, index = kept.trajectory.turn_id.rpartition("/")
        is_last = last[kept.dialogue_id] == kept.trajectory.turn_id
        earlier = [golds[f"{dialogue}/{number}"] for number in range(int(index) * is_last)]
        # The first token of a query holds the blank before it.
        assert learned == "".join(f" {sql}\n" for sql in earlier)
        assert [mask for _, mask in pairs[num_prompt:]] == list(kept.tokens.response_mask)
        lengths.append(len(earlier))
    assert max(lengths) >= 2


def test_of_the_turns_before_the_last_a_share_is_played(data: Path, tmp_path: Path) -> None:
    def turns(name: str, share: float) -> list[tuple[str, int]]:
        warm_start = WarmStartConfig(trajectories_per_turn=1, turn_share=share)
        folder = WarmStartFolder(tmp_path / name)
        prepare_rows(recipe(data), warm_start, folder)
        return [(one.dialogue_id, one.turn_index) for one in read_trajectories(folder.scripted)]

    every = turns("every", 1.0)
    last = sorted(dict(sorted(every)).items())
    assert sorted(turns("none", 0.0)) == last
    some = turns("some", 0.5)
    assert set(last) < set(some) < set(every)
    # The same seed draws the same turns.
    assert turns("again", 0.5) == some


def test_what_a_prompt_does_not_show_is_not_learned() -> None:
    # One id a character; the second answer is shown otherwise.
    text = "s\nq: x a: A B\nq: y a: C\nq: z"
    mask = learned_history([ord(one) for one in text], ["A B", "D", "C"], chr)
    assert [one for one, learned in zip(text, mask, strict=True) if learned] == [*"A B\n", *"C\n"]


@pytest.mark.parametrize("dialect", ["mtsql_r1", "cocte", "short_horizon"])
def test_every_dialect_has_its_rows(data: Path, tmp_path: Path, dialect: str) -> None:
    config = recipe(data)
    environment = config.environment.model_copy(
        update={"dialect": dialect, "prompt": "m_schema", "max_schema_tokens": 300}
    )
    config = config.model_copy(update={"environment": environment})
    warm_start = WarmStartConfig(trajectories_per_turn=1, corrections_per_turn=1, max_tokens=4000)
    tokenizer = load_tokenizer(prepare_rows(config, warm_start, WarmStartFolder(tmp_path)))
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    assert facts["num_too_long"] == 0
    # One message leaves nothing to correct.
    assert (facts["num_drills"] > 2) is (dialect != "short_horizon")
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    num_whole = len(rows) - facts["num_drills"]
    for row, kept in zip(rows[:num_whole], stored(tmp_path), strict=False):
        learned = [
            one for one, mask in zip(row["input_ids"], row["loss_mask"], strict=True) if mask
        ]
        said = "".join(f"{step.message}<|im_end|>" for step in kept.trajectory.steps)
        assert tokenizer.decode(learned) == said
        assert "\u3010Schema\u3011" in tokenizer.decode(kept.tokens.prompt_ids)
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
    assert (facts["num_rows"], facts["num_row_tokens"]) == (len(rows), sum(lengths))
    assert facts["num_learned_tokens"] == sum(sum(row["loss_mask"]) for row in rows)
    kinds = ScriptFacts.model_validate(facts).mistakes
    assert kinds["wrong_case"].made > 0
    # A trajectory may hold several kinds.
    assert sum(one.made for one in kinds.values()) >= len(rows)
    assert sum(one.share for one in kinds.values()) >= 1
    corrected = sum(len(one.trajectory.statements) > 1 for one in stored(prepared))
    assert facts["shares"]["corrected"] == pytest.approx(corrected / len(rows))
    assert {one.label.policy for one in stored(prepared)} == {"scripted"}
    assert {one.reward for one in stored(prepared)} == {None}


def test_rows_that_are_too_long_are_left_out_and_counted(
    data: Path, prepared: Path, tmp_path: Path
) -> None:
    lengths = [one.tokens.num_tokens for one in stored(prepared)]
    limit = sorted(lengths)[len(lengths) // 2]
    prepare_rows(recipe(data), WarmStartConfig(max_tokens=limit), WarmStartFolder(tmp_path))
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    kept = [len(row["input_ids"]) for row in rows]
    assert kept == [length for length in lengths if length <= limit]
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    assert facts["num_too_long"] == len(lengths) - len(kept) > 0


def test_no_row_at_all_names_the_key(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fits warm_start\.max_tokens=5 .*; raise it") as caught:
        prepare_rows(recipe(data), WarmStartConfig(max_tokens=5), WarmStartFolder(tmp_path))
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
            prepare_rows(
                recipe(data, path=str(path)), WarmStartConfig(), WarmStartFolder(tmp_path / "out")
            )
        assert str(caught.value).startswith(f"model.path {str(path)!r}: ")
        assert "\n" not in str(caught.value)


RENDER = DIALECTS["actions"].render
MESSAGES = (
    RENDER([ToolCall(name=ActionName.PROPOSE, sql="SELECT price FROM nowhere")]),
    RENDER([ToolCall(name=ActionName.EXECUTE)]),
    # No call at all: unreadable, and sampled all the same.
    "let me think",
    RENDER([Answer()]),
)


class Scripted:
    """A policy whose tokens are not what its text is tokenised to: one for each character."""

    def __init__(self, tokenizer: Any, messages: Sequence[str], *, cut: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._left = list(messages)
        self._cut = cut
        """The message of this number is cut short: it has no end."""
        self.sampled: list[tuple[int, ...]] = []

    async def __call__(self, prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
        number = len(self.sampled)
        ids = [
            one
            for character in self._left.pop(0)
            for one in self._tokenizer(character, add_special_tokens=False)["input_ids"]
        ]
        if number != self._cut:
            ids.append(self._tokenizer.eos_token_id)
        self.sampled.append(tuple(ids))
        return Sampled(token_ids=tuple(ids), logprobs=())


@pytest.mark.parametrize("cut", [None, 2])
def test_of_a_sampled_trajectory_exactly_the_sampled_tokens_are_learned(
    data: Path, prepared: Path, tmp_path: Path, cut: int | None
) -> None:
    config = recipe(data)
    tokenizer = load_tokenizer(prepared / "base")
    sample = Scripted(tokenizer, MESSAGES, cut=cut)
    dataset = load_run_data(config)
    spec = gold_specs(dataset, "train")[1]

    async def played() -> Attempt:
        async with LocalPool(dataset.databases, num_workers=1) as pool:
            label = Label(policy="round_1", split="train", history_mode="gold")
            player = player_of(config, pool, tokenizer, trains=True)
            return await player.attempt(spec, sample, label=label, group=spec.turn.turn_id)

    one = asyncio.run(played())
    write_trajectories(tmp_path / "samples.parquet", [one])
    rows = stored_rows(read_trajectories(tmp_path / "samples.parquet"))
    write_rows(rows, FineTuneFolder(tmp_path), FineTuneConfig(validation_share=0), seed=1)
    (row,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()

    # Token by token: the prompt, then each message as it was sampled and the reply to it.
    expected: list[tuple[int, int]] = [(token, 0) for token in one.tokens.prompt_ids]
    steps = one.trajectory.steps
    assert len(sample.sampled) == len(steps) == len(MESSAGES)
    codec = codec_for(DIALECTS["actions"], tokenizer, thinking=False)
    for number, (ids, step) in enumerate(zip(sample.sampled, steps, strict=True)):
        expected += [(token, 1) for token in ids]
        if number + 1 < len(steps):
            assert step.observation is not None
            reply = codec.reply(step.observation, is_closed=number != cut)
            expected += [(token, 0) for token in reply]
    assert list(zip(row["input_ids"], row["loss_mask"], strict=True)) == expected

    # The same as text: what was said is learned, and what was read is not.
    said = tokenizer.decode([token for token, mask in expected if mask])
    ends = ["" if number == cut else "<|im_end|>" for number in range(len(MESSAGES))]
    assert said == "".join(text + end for text, end in zip(MESSAGES, ends, strict=True))
    read = tokenizer.decode([token for token, mask in expected if not mask])
    assert spec.turn.question in read
    assert "no such table" in read
    assert all(text not in read for text in MESSAGES)
    assert all((step.observation or "") in read for step in steps[:-1])
    # The tokeniser would have made fewer tokens of the same text: these are the sampled ones.
    assert len(tokenizer(said, add_special_tokens=False)["input_ids"]) < sum(row["loss_mask"])


def test_validation_dialogues_are_whole_and_always_the_same() -> None:
    names = [f"dialogue-{number}" for number in range(200)]
    held_out = validation_dialogues(names, 0.1, seed=1)
    assert 10 <= len(held_out) <= 30
    assert held_out == validation_dialogues([*reversed(names), *names], 0.1, seed=1)
    assert held_out != validation_dialogues(names, 0.1, seed=2)
    # More dialogues do not move those that were there.
    assert held_out == validation_dialogues([*names, "new"], 0.1, seed=1) - {"new"}
    assert held_out < validation_dialogues(names, 0.2, seed=1)
    # One at least on each side; of a single dialogue, none.
    assert len(validation_dialogues(names[:2], 0.001, seed=1)) == 1
    assert len(validation_dialogues(names[:2], 0.999, seed=1)) == 1
    assert validation_dialogues(names[:1], 0.5, seed=1) == set()
    assert validation_dialogues(names, 0.0, seed=1) == set()


def test_validation_rows_are_of_other_dialogues(data: Path, prepared: Path, tmp_path: Path) -> None:
    trajectories = stored(prepared)
    fine_tune = FineTuneConfig(validation_share=0.3)
    facts = write_rows(stored_rows(trajectories), FineTuneFolder(tmp_path), fine_tune, seed=1)
    held_out = validation_dialogues((one.dialogue_id for one in trajectories), 0.3, seed=1)
    for name, is_held_out in (("rows", False), ("validation", True)):
        ids = pq.read_table(tmp_path / f"{name}.parquet").column("input_ids").to_pylist()
        assert ids == [
            [*one.tokens.prompt_ids, *one.tokens.response_ids]
            for one in trajectories
            if (one.dialogue_id in held_out) is is_held_out
        ]
    assert facts.num_rows == facts.num_trajectories
    assert facts.num_trajectories + facts.num_validation == len(trajectories)
    # A later round without a share leaves no stale file.
    write_rows(
        stored_rows(trajectories),
        FineTuneFolder(tmp_path),
        FineTuneConfig(validation_share=0),
        seed=1,
    )
    assert not (tmp_path / "validation.parquet").exists()


def test_trajectories_share_rows_and_are_split_by_dialogue_before(
    prepared: Path, tmp_path: Path
) -> None:
    trajectories = stored(prepared)
    fine_tune = FineTuneConfig(validation_share=0.3, tree_tokens=600)
    facts = write_rows(stored_rows(trajectories), FineTuneFolder(tmp_path), fine_tune, seed=1)
    held_out = validation_dialogues((one.dialogue_id for one in trajectories), 0.3, seed=1)
    assert (len(held_out) >= 1) is (facts.num_validation > 0)
    for name, is_held_out in (("rows", False), ("validation", True)):
        rows = pq.read_table(tmp_path / f"{name}.parquet").to_pylist()
        part = [one for one in trajectories if (one.dialogue_id in held_out) is is_held_out]
        assert len(rows) < len(part)
        assert sum(len(row["input_ids"]) for row in rows) < sum(
            one.tokens.num_tokens for one in part
        )
        # Each sampled token counts once for each trajectory.
        num_sampled = sum(sum(one.tokens.response_mask) for one in part)
        assert sum(sum(row["loss_mask"]) for row in rows) == num_sampled
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert facts.num_rows == len(rows) < facts.num_trajectories
    assert facts.num_row_tokens == sum(len(row["input_ids"]) for row in rows)
    assert facts.num_learned_tokens == sum(1 for row in rows for one in row["loss_mask"] if one)
    item = TokenDataset(str(tmp_path / "rows.parquet"))[0]
    assert item["position_ids"].tolist() == rows[0]["position_ids"]
    assert item["position_ids"].tolist() != list(range(len(rows[0]["input_ids"])))


def test_the_order_of_a_run_is_drawn_beforehand(prepared: Path) -> None:
    rows = TokenDataset(str(prepared / "rows.parquet"), max_samples=5)
    drawn = DrawnDataset(rows, 5, num_draws=12, seed=3)
    # Twice every row, then two more.
    assert sorted(drawn.order[:5]) == sorted(drawn.order[5:10]) == [0, 1, 2, 3, 4]
    assert drawn.order[:5] != drawn.order[5:10]
    assert len(drawn) == 12
    assert drawn[7]["input_ids"].tolist() == rows[drawn.order[7]]["input_ids"].tolist()
    assert drawn.order == DrawnDataset(rows, 5, num_draws=12, seed=3).order
    assert drawn.order != DrawnDataset(rows, 5, num_draws=12, seed=4).order


def test_what_depends_on_the_rows_is_settled() -> None:
    wanted = WarmStartConfig(
        num_steps=None, num_epochs=2.5, batch_size=32, warmup_steps=30, micro_batch_tokens=1000
    )
    settled = settle(wanted, num_rows=1000, longest_tokens=900, num_ranks=4)
    # 2.5 * 1000 / 32 = 78.1
    assert (settled.num_steps, settled.batch_size, settled.num_ranks) == (79, 32, 4)
    assert (settled.warmup_steps, settled.micro_batch_tokens) == (30, 1000)
    # Ten rows: batches of 8, which 4 ranks share; 2.5 * 10 / 8 = 3.1; a warm-up of half.
    few = settle(wanted, num_rows=10, longest_tokens=1200, num_ranks=4)
    assert (few.num_steps, few.batch_size) == (4, 8)
    assert (few.warmup_steps, few.micro_batch_tokens) == (2, 1200)
    one_step = settle(wanted, num_rows=1, longest_tokens=10, num_ranks=1)
    # With a warm-up the only step would have a learning rate of 0.
    assert (one_step.batch_size, one_step.num_steps, one_step.warmup_steps) == (1, 3, 1)
    given = wanted.model_copy(update={"num_steps": 7})
    assert settle(given, num_rows=10, longest_tokens=10, num_ranks=1).num_steps == 7
    with pytest.raises(
        ConfigError, match=r"selftaught\.fine_tune\.num_ranks is 4, but there are 3"
    ):
        settle(FineTuneConfig(), num_rows=3, longest_tokens=10, num_ranks=4)


def test_the_best_checkpoint() -> None:
    def one(step: int, right: int | None, loss: float | None) -> Checkpoint:
        judged = None if right is None else 10
        return Checkpoint(
            step=step, folder=Path(), val_loss=loss, num_right=right, num_judged=judged
        )

    assert best([one(1, 5, 0.9), one(2, 7, 0.8), one(3, 6, 0.1)]).step == 2
    assert best([one(1, 7, 0.9), one(2, 7, 0.8), one(3, 7, 0.8)]).step == 2
    assert best([one(1, 0, None), one(2, 0, None)]).step == 1
    # Nothing was played: the last one.
    assert best([one(1, None, 0.1), one(2, None, 0.9)]).step == 2
    assert [one(1, 0, None).ex, one(1, 4, None).ex, one(1, None, None).ex] == [0.0, 0.4, None]
