"""`mtsql export`: a run's trajectories for users who fine-tune elsewhere.

A stored trajectory holds its prompt in tokens only. The text is made again from the run's own data
and recipe, and counts only if its tokens are those that were stored.
"""

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from actors.rollout.codec import Codec, codec_for, token_counter
from actors.rollout.prompt_texts import played_specs, prompts_of, specs_by_turn
from actors.rollout.turns import load_run_data
from envs.prompts import prompt_version
from mtsql.config.load import explain
from mtsql.config.run import RunConfig
from mtsql.dialogue import TurnSpec
from mtsql.errors import DataError, ModelError
from mtsql.protocol import DIALECTS
from mtsql.trajectory.export import (
    DATASET,
    FILES,
    Conversation,
    ExportFormat,
    check_out,
    conversation,
    message_weights,
    sources,
    why_left_out,
    why_not_for_llama_factory,
    write_export,
)
from mtsql.trajectory.store import StoredTrajectory, read_trajectories


@dataclass(slots=True, kw_only=True)
class Exported:
    """What an export did, for the terminal."""

    path: Path
    conversations: list[Conversation] = field(default_factory=list)
    splits: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    """Trajectories by reason."""
    num_other_tokens: int = 0
    """Sampled in tokens that their text does not give back."""
    num_rendered: int = 0
    """Those of which the model's chat template renders the text that was played."""
    longest: int = 0
    """Tokens of the longest conversation."""
    has_empty_reasoning: bool
    """The run's prompts end in an empty reasoning block (Qwen3 without thinking)."""
    shows_tools: bool
    """The run's prompts hold the tools."""

    def add(self, row: StoredTrajectory, one: Conversation) -> None:
        self.conversations.append(one)
        self.splits[row.split] += 1
        self.longest = max(self.longest, row.num_tokens)

    def lines(self, format: ExportFormat) -> Iterator[str]:
        num = len(self.conversations)
        splits = ", ".join(f"{name} {count}" for name, count in sorted(self.splits.items()))
        yield f"{num} trajectories ({splits}) in {self.path}"
        for reason, count in sorted(self.left_out.items()):
            yield f"left out {count}: {reason}"
        if self.num_other_tokens:
            yield f"{self.num_other_tokens} were sampled in tokens that no text gives back"
        if not self.shows_tools and (format == "messages" or self._has_system):
            yield "the run's own chat template shows no tools; a trainer that does shows more"
        yield from self._for_llama_factory() if format == "llama_factory" else self._for_messages()

    @property
    def _has_system(self) -> bool:
        return any(one.messages[0]["role"] == "system" for one in self.conversations)

    def _for_llama_factory(self) -> Iterator[str]:
        # One more: it closes the last line.
        cutoff = f"cutoff_len: {self.longest + 1}"
        template = "qwen3, enable_thinking: false" if self.has_empty_reasoning else "qwen3_nothink"
        yield (
            f"LLaMA-Factory: dataset_dir: {self.path.parent}, dataset: {DATASET}, "
            f"template: {template}, {cutoff}"
        )

    def _for_messages(self) -> Iterator[str]:
        num_other = len(self.conversations) - self.num_rendered
        yield (
            f"the model's chat template renders {self.num_rendered} of them as they were played"
            + (
                "; Qwen3's puts empty reasoning before the last message and before no other"
                if num_other
                else ""
            )
        )
        if num := sum(not one.is_whole for one in self.conversations):
            yield f"{num} are learned in part: a trainer must read `weight`, or leave them out"


def export(
    source: Path,
    format: ExportFormat,
    out: Path,
    *,
    only_right: bool = False,
    model: Path | None = None,
) -> Exported:
    """Write the trajectories of a run's folder, or of one Parquet file in it.

    Args:
        source: of a folder, what its self-taught rounds selected, else the warm start's scripts.
        only_right: leave out what is not right by EX and EM.
        model: has the tokenizer that the run used; None: the recipe's.

    Raises:
        DataError: no run, no trajectories, or data and prompts that are not those of the run.
        ModelError: the tokenizer is not there.
    """
    check_out(out)
    folder, paths = sources(source)
    config = _config(folder)
    tokenizer = _tokenizer(config, folder, model)
    dialect = DIALECTS[config.environment.dialect]
    codec = codec_for(dialect, tokenizer, thinking=config.model.thinking)
    frame = _first_prompt(codec, tokenizer)
    result = Exported(
        path=out / FILES[format],
        has_empty_reasoning=frame.endswith("<think>\n\n</think>\n\n"),
        shows_tools=all(f'"{tool["function"]["name"]}"' in frame for tool in dialect.tools),
    )
    dataset = load_run_data(config)
    specs = specs_by_turn(dataset)
    kept: list[tuple[Path, StoredTrajectory, TurnSpec, Sequence[int] | None]] = []
    for path in paths:
        rows = read_trajectories(path)
        masks = _loss_masks(path, config)
        for row, spec in zip(rows, played_specs(path, rows, specs), strict=True):
            why = why_left_out(row, only_right=only_right, end_of_turn=codec.end_of_turn)
            weights = None if masks is None else message_weights(row, _take(masks, row, path))
            if why:
                result.left_out[why] += 1
            else:
                kept.append((path, row, spec, weights))
    prompts = asyncio.run(
        prompts_of(config, dataset, [spec for _, _, spec, _ in kept], token_counter(tokenizer))
    )
    numbers: Counter[str] = Counter()
    for (path, row, _, weights), prompt in zip(kept, prompts, strict=True):
        if codec.prompt(prompt) != list(row.prompt_ids):
            raise DataError(
                f"{path}: {row.trajectory.turn_id}: its prompt is not the one that "
                f"{config.data_folder} and the tokenizer give now; bring back the run's data and "
                "model (--model DIR), or run again"
            )
        name = f"{row.trajectory.turn_id}/{row.policy}"
        one = conversation(
            row,
            name=f"{name}/{numbers[name]}",
            prompt=prompt,
            tools=dialect.tools,
            weights=weights,
        )
        numbers[name] += 1
        why = (
            why_not_for_llama_factory(one, has_empty_reasoning=result.has_empty_reasoning)
            if format == "llama_factory"
            else ""
        )
        if why:
            result.left_out[why] += 1
            continue
        result.add(row, one)
        result.num_other_tokens += _text_ids(row, codec) != _played_ids(row)
        rendered = tokenizer.apply_chat_template(
            list(one.messages), tools=list(one.tools) or None, tokenize=False
        )
        result.num_rendered += rendered.removesuffix("\n") == tokenizer.decode(_played_ids(row))
    if not result.conversations:
        reasons = "; ".join(f"{count}: {why}" for why, count in sorted(result.left_out.items()))
        raise DataError(f"{source}: no trajectory to export ({reasons or 'the files are empty'})")
    write_export(out, format, result.conversations, _system_message(frame))
    return result


def _config(folder: Path) -> RunConfig:
    """The run's recipe, with the folder where it lies now."""
    path = folder / "run.json"
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        config = RunConfig.model_validate(note["recipe"])
    except ValidationError as error:
        raise DataError(
            f"{path}: {explain(error, RunConfig)}; export with the mtsql that made the run"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not what a run writes; it holds no recipe") from error
    environment = config.environment
    version = prompt_version(environment.prompt, environment.dialect)
    # A run that is older than the note is judged by its tokens alone.
    if note.get("prompt", version) != version:
        raise DataError(
            f"{path}: key 'prompt' is {note['prompt']}, and this mtsql's prompt "
            f"{environment.prompt!r} of {environment.dialect!r} is {version}: export with the "
            "mtsql that made the run, or run again"
        )
    return config.model_copy(update={"run_dir": folder})


def _tokenizer(config: RunConfig, folder: Path, model: Path | None) -> Any:  # noqa: ANN401 - transformers' tokenizers share no useful type
    from transformers import AutoTokenizer

    own = folder / "warm_start" / "base" if config.model.path is None else config.model.path
    chosen = model or own
    try:
        return AutoTokenizer.from_pretrained(str(chosen), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        key = "--model" if model else "the run's model"
        raise ModelError(
            f"{key} {chosen}: no tokenizer there ({str(error).splitlines()[0][:120]}); name the "
            "folder of the run's model with --model DIR"
        ) from error


def _first_prompt(codec: Codec, tokenizer: Any) -> str:  # noqa: ANN401 - as above
    """The run's chat template around a question, to see what it does to every prompt."""
    return tokenizer.decode(codec.prompt([{"role": "user", "content": "q"}]))


def _system_message(frame: str) -> str:
    """What the chat template puts there by itself: the tools, or nothing."""
    opening = "<|im_start|>system\n"
    if not frame.startswith(opening):
        return ""
    return frame.removeprefix(opening).partition("<|im_end|>")[0]


LossMasks = dict[tuple[int, ...], deque[list[int]]]


def _loss_masks(path: Path, config: RunConfig) -> LossMasks | None:
    """What the warm start learns of its scripts, by their tokens; None: all that was said."""
    if path.name != "scripted.parquet" or not (
        config.warm_start and config.warm_start.corrections_per_turn
    ):
        return None
    masks: LossMasks = defaultdict(deque)
    for name in ("rows.parquet", "validation.parquet"):
        file = path.with_name(name)
        if file.is_file():
            for row in pq.read_table(file).to_pylist():
                masks[tuple(row["input_ids"])].append(row["loss_mask"])
    return masks


def _take(masks: LossMasks, row: StoredTrajectory, path: Path) -> list[int]:
    found = masks.get((*row.prompt_ids, *row.response_ids))
    if not found:
        raise DataError(
            f"{path}: {row.trajectory.turn_id} is not among the rows of "
            f"{path.with_name('rows.parquet')}, which say what of a correction is learned "
            "(warm_start.corrections_per_turn); bring that file back, or run again"
        )
    return found.popleft()


def _played_ids(row: StoredTrajectory) -> list[int]:
    """Prompt and response, up to the last message's end."""
    return [*row.prompt_ids, *row.response_ids[: row.step_ends[-1] + 1]]


def _text_ids(row: StoredTrajectory, codec: Codec) -> list[int]:
    """The same, had each message been written as text."""
    ids = list(row.prompt_ids)
    *steps, last = row.trajectory.steps
    for step in steps:
        ids += codec.written(step.message)
        ids += codec.reply(step.observation or "", is_closed=True)
    return [*ids, *codec.written(last.message)]
