"""Trajectories for trainers elsewhere: real plays, exported and read back."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mtsql.dialogue import TurnSpec

pytest.importorskip("torch", reason="the core install holds no tokenizers")

import pyarrow as pa
import pyarrow.parquet as pq

from actors.rollout.codec import codec_for
from actors.rollout.play import encode
from actors.rollout.turns import gold_specs, load_run_data
from actors.tiny_model import train_tokenizer
from envs.play import remembered
from envs.prompts import prompt_version
from envs.scripts.policy import scripted_trajectories
from envs.turn import TurnEnv
from helpers.chat_templates import FAMILIES, family_tokenizer
from helpers.tokenizers import qwen_tokenizer
from mtsql.chains.chain import Query
from mtsql.config.environment import HistoryMode
from mtsql.config.learning import ScriptConfig
from mtsql.config.run import RunConfig
from mtsql.data.embedded import generate
from mtsql.errors import DataError, ModelError
from mtsql.protocol import DIALECTS, HERMES, ActionName, CallFormat
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Attempt, Label, attempt_at
from mtsql.trajectory.export import DATASET_INFO, message_weights
from mtsql.trajectory.factory import TEMPLATES
from mtsql.trajectory.records import Ending, Fault, FaultKind, Trajectory
from mtsql.trajectory.store import read_trajectories, write_trajectories
from mtsql.trajectory.tokens import TokenSequence
from recipes.export.run import export
from recipes.main import main

EMPTY = "<think>\n\n</think>\n\n"
SCRIPTS = ScriptConfig(wrong_case=1, execute=1, correct=1, verify_execution=0.5, verify_memory=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "data"
    generate(folder, seed=1, num_train=3, num_valid=1, num_test=1, num_test_ood=1)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen") / "model"
    qwen_tokenizer().save_pretrained(folder)
    return folder


def recipe(data: Path, model: Path, **environment: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "run",
            "data": {"folder": data},
            "model": {"path": str(model)},
            "environment": environment,
            "sql": {"num_workers": 1},
        }
    )


def scripts_of(
    config: RunConfig, call_format: CallFormat = HERMES
) -> tuple[list[TurnSpec], list[Trajectory]]:
    dataset = load_run_data(config)
    specs = gold_specs(dataset, "train")

    async def played() -> list[Trajectory]:
        async with LocalPool(dataset.databases, num_workers=1) as pool:
            limits = config.sql.limits()
            scripted = await scripted_trajectories(
                specs,
                pool,
                config.environment,
                limits,
                SCRIPTS,
                seed=1,
                per_turn=1,
                call_format=call_format,
            )
            return [one.trajectory for one in scripted]

    return specs, asyncio.run(played())


def stored(
    config: RunConfig,
    tokenizer: Any,
    specs: Sequence[TurnSpec],
    trajectories: Sequence[Trajectory],
    history: HistoryMode = "gold",
) -> list[Attempt]:
    """As the warm start stores its scripts."""
    codec = codec_for(
        DIALECTS[config.environment.dialect], tokenizer, thinking=config.model.thinking
    )
    databases = load_run_data(config).databases

    async def prompts() -> list[list[dict[str, str]]]:
        async with LocalPool(databases, num_workers=1) as pool:
            limits = config.sql.limits()
            return [await TurnEnv(spec, pool, config.environment, limits).start() for spec in specs]

    return [
        attempt_at(
            spec,
            trajectory=trajectory,
            tokens=encode(trajectory, codec.prompt(prompt), codec),
            reward=None,
            label=Label(policy="scripted", split="train", history_mode=history),
            group="g",
        )
        for spec, trajectory, prompt in zip(
            specs, trajectories, asyncio.run(prompts()), strict=True
        )
    ]


def write_run(folder: Path, config: RunConfig, rows: Sequence[Attempt]) -> Path:
    environment = config.environment
    note = {
        "recipe": config.model_dump(mode="json"),
        "device": "cpu",
        "prompt": prompt_version(environment.prompt, environment.dialect),
    }
    write_trajectories(folder / "warm_start" / "scripted.parquet", rows)
    (folder / "run.json").write_text(json.dumps(note), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(data: Path, qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = recipe(data, qwen)
    rows = stored(config, qwen_tokenizer(), *scripts_of(config))
    return write_run(tmp_path_factory.mktemp("run"), config, rows)


def scripted(run: Path) -> list[Attempt]:
    return read_trajectories(run / "warm_start" / "scripted.parquet")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def as_messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """A row of LLaMA-Factory's in the other format."""
    roles = {"human": "user", "gpt": "assistant", "observation": "tool"}
    system = [{"role": "system", "content": row["system"]}] if row["system"] else []
    said = [{"role": roles[one["from"]], "content": one["value"]} for one in row["conversations"]]
    return [*system, *said]


def tools_message(tokenizer: Any, tools: list[dict[str, Any]]) -> str:
    """The template's own system message about tools."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q"}], tools=tools or None, tokenize=False
    )
    opening, _, rest = text.partition("<|im_start|>system\n")
    assert opening == "" or not tools
    return rest.partition("<|im_end|>")[0]


@pytest.mark.parametrize("prompt", ["full", "m_schema"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_exported_is_what_was_played(
    data: Path, qwen: Path, tmp_path: Path, dialect: str, prompt: str
) -> None:
    config = recipe(data, qwen, dialect=dialect, prompt=prompt)
    tokenizer = qwen_tokenizer()
    rows = stored(config, tokenizer, *scripts_of(config))
    folder = write_run(tmp_path / "run", config, rows)
    tools = list(DIALECTS[dialect].tools)
    done = export(folder, "messages", tmp_path / "messages")
    found = lines(done.path)
    assert len(found) == len(rows) > 5
    assert (done.num_other_tokens, done.left_out.total()) == (0, 0)
    for row, one in zip(rows, found, strict=True):
        assert one.get("tools", []) == tools
        *system, question = [m for m in one["messages"] if m["role"] in ("system", "user")]
        assert (len(system), question["role"]) == (dialect != "mtsql_r1", "user")
        said = one["messages"][len(system) + 1 :]
        texts = [text for step in row.trajectory.steps for text in (step.message, step.observation)]
        assert [message["content"] for message in said] == texts[:-1]
        assert {message["role"] for message in said[::2]} == {"assistant"}
        assert {message["role"] for message in said[1::2]} <= {"tool"}
        # The model's own template gives the tokens that were stored, but for the empty block that
        # it forgets of all messages but the last.
        text = tokenizer.apply_chat_template(one["messages"], tools=tools or None, tokenize=False)
        played = tokenizer.decode([*row.tokens.prompt_ids, *row.tokens.response_ids])
        assert played.replace(EMPTY, "") == text.removesuffix("\n").replace(EMPTY, "")
    assert done.num_rendered == sum(len(row.trajectory.steps) == 1 for row in rows)

    done = export(folder, "llama_factory", tmp_path / "factory")
    factory = lines(done.path)
    made = {"role": "system", "content": tools_message(tokenizer, tools)}
    own = [made] if dialect == "mtsql_r1" else []
    assert [as_messages(row) for row in factory] == [own + row["messages"] for row in found]
    assert [row["id"] for row in factory] == [row["id"] for row in found]
    assert len({row["id"] for row in found}) == len(found)
    # Where the tools are a system message by themselves, they stand there.
    shown = [] if dialect == "mtsql_r1" else tools
    assert [json.loads(row["tools"] or "[]") for row in factory] == [shown] * len(rows)
    assert json.loads((tmp_path / "factory" / "dataset_info.json").read_text()) == DATASET_INFO
    longest = max(len(row.tokens.prompt_ids) + len(row.tokens.response_ids) for row in rows)
    assert any(
        f"dataset: mtsql, template: qwen3, enable_thinking: false, cutoff_len: {longest + 1}"
        in line
        for line in done.lines("llama_factory")
    )


def test_verl_reads_the_messages_as_the_same_tokens_and_mask(data: Path, tmp_path: Path) -> None:
    # A template without Qwen3's empty reasoning: what verl renders message by message is the whole.
    from verl.utils.dataset.multiturn_sft_dataset import (  # noqa: PLC0415 - it loads for seconds
        MultiTurnSFTDataset,
    )

    texts = ["shop : id , name , city", '{"ok": true}']
    tokenizer: Any = train_tokenizer(texts, 500)
    tokenizer.save_pretrained(tmp_path / "model")
    config = recipe(data, tmp_path / "model")
    rows = stored(config, tokenizer, *scripts_of(config))
    done = export(write_run(tmp_path / "run", config, rows), "messages", tmp_path / "out")
    assert done.num_rendered == len(rows)
    pq.write_table(pa.Table.from_pylist(lines(done.path)), tmp_path / "verl.parquet")
    options = {"pad_mode": "no_padding", "max_length": 10_000}
    dataset = MultiTurnSFTDataset(str(tmp_path / "verl.parquet"), tokenizer, options)  # pyright: ignore[reportArgumentType]
    end, newline = tokenizer.eos_token_id, tokenizer("\n")["input_ids"]
    for row, one in zip(rows, [dataset[number] for number in range(len(rows))], strict=True):
        ids = [*row.tokens.prompt_ids, *row.tokens.response_ids]
        assert one["input_ids"].tolist() == [*ids, *newline]
        mask = [0] * len(row.tokens.prompt_ids) + [*row.tokens.response_mask, 0]
        # verl learns the line break behind a message's end too; we do not.
        ends = [at for at, token in enumerate(ids) if token == end and mask[at]]
        for at in ends:
            mask[at + 1] = 1
        assert one["loss_mask"].tolist() == mask
        assert len(ends) == len(row.trajectory.steps)


def with_drills(run: Path, folder: Path) -> Path:
    """The run again, with every trajectory that corrects as a drill."""
    rows = scripted(run)
    note = json.loads((run / "run.json").read_text(encoding="utf-8"))
    note["recipe"]["warm_start"]["corrections_per_turn"] = 1
    write_trajectories(folder / "warm_start" / "scripted.parquet", rows)
    (folder / "run.json").write_text(json.dumps(note), encoding="utf-8")
    masks: list[list[int]] = []
    for row in rows:
        mask = list(row.tokens.response_mask)
        steps = row.trajectory.steps
        if any(step.calls(ActionName.CORRECT) for step in steps):
            begin = 0
            for step, end in zip(steps, row.tokens.step_ends, strict=True):
                if not step.calls(ActionName.CORRECT):
                    mask[begin : end + 1] = [0] * (end + 1 - begin)
                begin = end + 1
        masks.append([0] * len(row.tokens.prompt_ids) + mask)
    ids = [[*row.tokens.prompt_ids, *row.tokens.response_ids] for row in rows]
    table = pa.table({"input_ids": ids, "loss_mask": masks})
    pq.write_table(table, folder / "warm_start" / "rows.parquet")
    return folder


def corrects(row: Attempt) -> bool:
    return any(step.calls(ActionName.CORRECT) for step in row.trajectory.steps)


def test_of_a_drill_only_the_corrections_have_weight(run: Path, tmp_path: Path) -> None:
    folder = with_drills(run, tmp_path / "run")
    done = export(folder, "messages", tmp_path / "out")
    rows = scripted(folder)
    num_drills = sum(map(corrects, rows))
    assert 0 < num_drills < len(rows)
    for row, one in zip(rows, lines(done.path), strict=True):
        said = [message for message in one["messages"] if message["role"] == "assistant"]
        if corrects(row):
            learned = ['"name": "correct"' in message["content"] for message in said]
            assert [message["weight"] for message in said] == learned
            assert {0, 1} == set(learned)
        else:
            assert all("weight" not in message for message in said)
        assert all("weight" not in one for one in one["messages"] if one["role"] != "assistant")
    assert f"{num_drills} are learned in part" in "\n".join(done.lines("messages"))

    done = export(folder, "llama_factory", tmp_path / "factory")
    why = "learned in part (its corrections), and LLaMA-Factory knows no weights"
    assert dict(done.left_out) == {why: num_drills}
    assert len(lines(done.path)) == len(rows) - num_drills


def test_the_weights_of_a_mask(run: Path) -> None:
    row = replace(
        scripted(run)[0],
        tokens=TokenSequence(
            prompt_ids=(1, 2),
            response_ids=(7, 8, 4, 9),
            response_mask=(1, 1, 0, 1),
            step_ends=(1, 3),
        ),
    )
    assert message_weights(row, [0, 0, 0, 0, 0, 1]) == (0, 1)
    assert message_weights(row, [0, 0, 1, 1, 0, 1]) == (1, 1)
    with pytest.raises(DataError, match="learned in part"):
        message_weights(row, [0, 0, 1, 0, 0, 1])


def test_only_what_is_right_and_whole_is_exported(run: Path, tmp_path: Path) -> None:
    rows = scripted(run)
    is_right = [one.trajectory.judgements[-1].ex for one in rows]
    assert all(is_right)
    right, wrong, cut, broken, silent = rows[:5]
    judgement = replace(wrong.trajectory.judgements[-1], em=False)
    mistaken_row = replace(wrong, trajectory=replace(wrong.trajectory, judgements=(judgement,)))
    fault = Fault(kind=FaultKind.SQL_POOL, message="worker lost")
    no_end = [*cut.tokens.response_ids]
    no_end[cut.tokens.step_ends[0]] = 5
    write_trajectories(
        run / "trajectories" / "some.parquet",
        [
            right,
            mistaken_row,
            replace(cut, tokens=replace(cut.tokens, response_ids=tuple(no_end))),
            replace(
                broken,
                trajectory=replace(broken.trajectory, ending=Ending.INFRA_FAULT, fault=fault),
            ),
            replace(
                silent,
                trajectory=replace(silent.trajectory, steps=()),
                tokens=replace(silent.tokens, step_ends=()),
            ),
        ],
    )
    some = run / "trajectories" / "some.parquet"
    reasons = {
        "a message was cut off at its token limit": 1,
        "the machinery failed": 1,
        "the model said nothing": 1,
    }
    done = export(some, "messages", tmp_path / "all")
    assert (len(done.conversations), dict(done.left_out)) == (2, reasons)
    done = export(some, "messages", tmp_path / "right", only_right=True)
    assert dict(done.left_out) == reasons | {"not right (EX and EM)": 1}
    assert [one["id"] for one in lines(done.path)] == [f"{right.trajectory.turn_id}/scripted/0"]
    write_trajectories(some, [mistaken_row])
    with pytest.raises(DataError, match=r"no trajectory to export \(1: not right \(EX and EM\)\)"):
        export(some, "messages", tmp_path / "none", only_right=True)
    assert not (tmp_path / "none").exists()


def test_the_rounds_of_a_run_come_before_its_scripts(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    rows = scripted(run)
    for number, row in ((10, rows[2]), (1, rows[0]), (2, rows[1])):
        kept = replace(row, label=replace(row.label, policy=f"round_{number}"))
        write_trajectories(folder / "rounds" / str(number) / "selected.parquet", [kept, kept])
    done = export(folder, "messages", tmp_path / "out")
    turns = [row.trajectory.turn_id for row in rows[:3]]
    assert [one["id"] for one in lines(done.path)] == [
        f"{turn_id}/round_{number}/{copy}"
        for turn_id, number in zip(turns, (1, 2, 10), strict=True)
        for copy in (0, 1)
    ]


def test_predicted_history_is_made_from_the_answers_in_the_file(
    data: Path, qwen: Path, tmp_path: Path
) -> None:
    config = recipe(data, qwen)
    dataset = load_run_data(config)
    specs, trajectories = scripts_of(config)
    with_answers: list[TurnSpec] = []
    for spec in specs:
        past = [
            remembered(one, replace(trajectory, proposals=(Query("SELECT 1"),)))
            for one, trajectory in zip(specs, trajectories, strict=True)
            if one.dialogue_id == spec.dialogue_id and one.turn_index < spec.turn_index
        ]
        with_answers.append(replace(spec, history=tuple(past)))
    assert dataset.splits["train"]
    answered = [replace(one, proposals=(Query("SELECT 1"),)) for one in trajectories]
    rows = stored(config, qwen_tokenizer(), with_answers, answered, history="predicted")
    folder = write_run(tmp_path / "run", config, rows)
    done = export(folder, "messages", tmp_path / "out")
    users = [one["messages"][1]["content"] for one in lines(done.path)]
    assert ["SQL: SELECT 1\n" in text for text in users] == [spec.turn_index > 0 for spec in specs]
    write_run(tmp_path / "run", config, [row for row in rows if row.turn_index != 0])
    with pytest.raises(DataError, match="remembers answers that the file does not hold"):
        export(folder, "messages", tmp_path / "parts")


def test_reasoning_that_llama_factory_would_remove_is_left_out_there(
    data: Path, qwen: Path, tmp_path: Path
) -> None:
    config = recipe(data, qwen)
    specs, trajectories = scripts_of(config)
    first, *others = trajectories
    step, *rest = first.steps
    thinks = replace(step, message=f"<think>\nhm\n</think>\n\n{step.message}")
    trajectories = [replace(first, steps=(thinks, *rest)), *others]
    folder = write_run(
        tmp_path / "run", config, stored(config, qwen_tokenizer(), specs, trajectories)
    )
    assert not export(folder, "messages", tmp_path / "messages").left_out
    done = export(folder, "llama_factory", tmp_path / "factory")
    assert done.left_out.total() == 1
    # With thinking the template opens no block, and LLaMA-Factory is told to add none.
    config = config.model_copy(update={"model": config.model.model_copy(update={"thinking": True})})
    folder = write_run(
        tmp_path / "thinks", config, stored(config, qwen_tokenizer(), specs, trajectories)
    )
    done = export(folder, "llama_factory", tmp_path / "whole")
    assert not done.left_out
    assert "template: qwen3_nothink, cutoff_len" in "\n".join(done.lines("llama_factory"))


FACTORY_TEMPLATES = {
    "smollm2": "chatml",
    "llama3.1": "llama3",
    "llama3.2": "llama3",
    "gemma1": "gemma",
    "gemma3": "gemma",
    "phi3": "phi",
    "qwen2.5": "qwen3_nothink",
    "mistral": None,
    "glm4": None,
    "deepseek_r1": None,
}


@pytest.mark.parametrize("name", FACTORY_TEMPLATES)
def test_each_family_is_exported_in_its_own_tokens(data: Path, tmp_path: Path, name: str) -> None:
    tokenizer = family_tokenizer(name)
    tokenizer.save_pretrained(tmp_path / "model")
    config = recipe(data, tmp_path / "model")
    codec = codec_for(DIALECTS["actions"], tokenizer, thinking=False)
    rows = stored(config, tokenizer, *scripts_of(config, codec.call_format))
    folder = write_run(tmp_path / "run", config, rows)
    played = [tokenizer.decode([*row.tokens.prompt_ids, *row.tokens.response_ids]) for row in rows]

    done = export(folder, "messages", tmp_path / "messages")
    assert done.num_other_tokens == 0
    is_whole = FAMILIES[name].is_rendered_whole
    assert (done.num_rendered == len(rows)) is is_whole
    said = "\n".join(done.lines("messages"))
    assert ("and what was played" in said) is not is_whole
    assert ("writes today's date, and the run's prompts name 26 July 2024" in said) is (
        name == "llama3.2"
    )
    if is_whole:
        # What a trainer renders from the rows, on the day that the prompts name.
        for row, text in zip(lines(done.path), played, strict=True):
            rendered = tokenizer.apply_chat_template(
                row["messages"],
                tools=row.get("tools"),
                tokenize=False,
                strftime_now=datetime(2024, 7, 26).strftime,
            )
            assert rendered.startswith(text.removesuffix(FAMILIES[name].end))

    done = export(folder, "llama_factory", tmp_path / "factory")
    said = "\n".join(done.lines("llama_factory"))
    template = FACTORY_TEMPLATES[name]
    if template is None:
        assert "no template of LLaMA-Factory gives these tokens" in said
        assert "template: " not in said
        return
    assert f", template: {template}, " in said
    frame = next(one for one in TEMPLATES if one.name == template)
    for row, text in zip(lines(done.path), played, strict=True):
        if row["tools"]:
            continue  # Qwen's words about tools are LLaMA-Factory's.
        made = frame.prefix + (
            frame.system[0] + row["system"] + frame.system[1]
            if frame.system and row["system"]
            else ""
        )
        for one in row["conversations"]:
            before, behind = {
                "human": frame.user,
                "observation": frame.tool,
                "gpt": ("", frame.end),
            }[one["from"]]
            made += before + one["value"] + behind
        assert made.removesuffix("\n") == text


def test_qwens_newer_form_has_a_template_of_its_own(data: Path, tmp_path: Path) -> None:
    tokenizer = family_tokenizer("qwen3.5")
    # The family's template puts an empty thought where thinking is off.
    tokenizer.save_pretrained(tmp_path / "model")
    config = recipe(data, tmp_path / "model")
    codec = codec_for(DIALECTS["actions"], tokenizer, thinking=False)
    rows = stored(config, tokenizer, *scripts_of(config, codec.call_format))
    folder = write_run(tmp_path / "run", config, rows)
    done = export(folder, "llama_factory", tmp_path / "factory")
    said = "\n".join(done.lines("llama_factory"))
    assert "template: qwen3_5, enable_thinking: false, cutoff_len" in said


def mistaken(run: Path, out: Path, **options: Any) -> str:
    with pytest.raises((DataError, ModelError)) as error:
        export(run, "messages", out, **options)
    assert not out.exists()
    return str(error.value)


def test_mistakes_name_the_file_the_key_and_the_fix(
    run: Path, data: Path, qwen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    scripts = folder / "warm_start" / "scripted.parquet"
    note = json.loads((folder / "run.json").read_text(encoding="utf-8"))

    def write(**changes: Any) -> None:
        (folder / "run.json").write_text(json.dumps(note | changes), encoding="utf-8")

    alone = tmp_path / "alone.parquet"
    shutil.copy(scripts, alone)
    assert "lies in no run's folder" in mistaken(alone, out)
    assert "holds no run (run.json)" in mistaken(data, out)
    assert mistaken(folder / "run.json", out).startswith(f"{folder / 'run.json'}: not a Parquet")
    assert "--model" in mistaken(folder, out, model=tmp_path)

    write(prompt="000000000000")
    assert "key 'prompt' is 000000000000" in mistaken(folder, out)
    write(recipe=note["recipe"] | {"sede": 1})
    assert "unknown key 'recipe.sede'; did you mean 'seed'?" in mistaken(folder, out)
    (folder / "run.json").write_text("[]", encoding="utf-8")
    assert "export with the mtsql that made the run" in mistaken(folder, out)
    environment = note["recipe"]["environment"] | {"max_steps": 3}
    write(recipe=note["recipe"] | {"environment": environment})
    assert "its prompt is not the one that" in mistaken(folder, out)
    write(recipe=note["recipe"] | {"data": {"folder": str(data), "num_train_dialogues": 1}})
    assert "is not in split 'train' of the run's data" in mistaken(folder, out)
    write(recipe=note["recipe"] | {"warm_start": {"corrections_per_turn": 1}})
    assert "rows.parquet" in mistaken(folder, out)
    write()
    scripts.unlink()
    assert "neither rounds/*/selected.parquet nor" in mistaken(folder, out)
    out.mkdir()
    (out / "kept.txt").write_text("mine")
    with pytest.raises(DataError, match=r"kept\.txt/out: cannot be written \(.*\); choose another"):
        export(folder, "messages", out / "kept.txt" / "out")
    with pytest.raises(DataError, match="not an empty folder"):
        export(run, "messages", out)
    assert [one.name for one in out.iterdir()] == ["kept.txt"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["alone.parquet", "out", "run"]


def test_the_command_says_what_was_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(run), "--format", "llama_factory", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    first, last = capsys.readouterr().out.splitlines()
    num = len(scripted(run))
    assert first == f"{num} trajectories (train {num}) in {tmp_path / 'out' / 'mtsql.jsonl'}"
    assert last.startswith(f"LLaMA-Factory: dataset_dir: {tmp_path / 'out'}, dataset: mtsql, ")
    assert main(words) == 2
    assert "not an empty folder" in capsys.readouterr().err
