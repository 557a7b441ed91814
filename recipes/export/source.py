"""The run that is exported: its recipe, its tokenizer, and what it learned of each script."""

import json
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from envs.prompts import prompt_version
from mtsql.config.load import explain
from mtsql.config.run import RunConfig
from mtsql.errors import DataError, ModelError
from mtsql.trajectory.attempt import Attempt

LossMasks = dict[tuple[int, ...], deque[list[int]]]


def run_config(folder: Path) -> RunConfig:
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


def run_tokenizer(config: RunConfig, folder: Path, model: Path | None) -> Any:  # noqa: ANN401 - transformers' tokenizers share no useful type
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


def loss_masks(path: Path, config: RunConfig) -> LossMasks | None:
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


def take(masks: LossMasks, row: Attempt, path: Path) -> list[int]:
    found = masks.get((*row.tokens.prompt_ids, *row.tokens.response_ids))
    if not found:
        raise DataError(
            f"{path}: {row.trajectory.turn_id} is not among the rows of "
            f"{path.with_name('rows.parquet')}, which say what of a correction is learned "
            "(warm_start.corrections_per_turn); bring that file back, or run again"
        )
    return found.popleft()
