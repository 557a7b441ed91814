"""The run that is exported: its recipe, its tokenizer, and what it learned of each script."""

from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from envs.prompts import prompt_version
from mtsql.config.run import RunConfig
from mtsql.errors import DataError, ModelError
from mtsql.runs.folder import SCRIPTED, FineTuneFolder, RunFolder
from mtsql.trajectory.attempt import Attempt

LossMasks = dict[tuple[int, ...], deque[list[int]]]


def run_config(run: RunFolder) -> RunConfig:
    """The run's recipe, with the folder where it lies now."""
    note = run.read_note(fix="export with the mtsql that made the run")
    environment = note.recipe.environment
    version = prompt_version(environment.prompt, environment.dialect)
    if note.prompt != version:
        raise DataError(
            f"{run.note}: key 'prompt' is {note.prompt}, and this mtsql's prompt "
            f"{environment.prompt!r} of {environment.dialect!r} is {version}: export with the "
            "mtsql that made the run, or run again"
        )
    return note.recipe.model_copy(update={"run_dir": run.path})


def run_tokenizer(config: RunConfig, run: RunFolder, model: Path | None) -> Any:  # noqa: ANN401 - transformers' tokenizers share no useful type
    from transformers import AutoTokenizer

    own = run.warm_start.base if config.model.is_made else config.model.folder
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
    if path.name != SCRIPTED or not (config.warm_start and config.warm_start.corrections_per_turn):
        return None
    masks: LossMasks = defaultdict(deque)
    folder = FineTuneFolder(path.parent)
    for file in (folder.rows, folder.validation):
        if file.is_file():
            for row in pq.read_table(file).to_pylist():
                masks[tuple(row["input_ids"])].append(row["loss_mask"])
    return masks


def take(masks: LossMasks, row: Attempt, path: Path) -> list[int]:
    found = masks.get((*row.tokens.prompt_ids, *row.tokens.response_ids))
    if not found:
        raise DataError(
            f"{path}: {row.trajectory.turn_id} is not among the rows of "
            f"{FineTuneFolder(path.parent).rows}, which say what of a correction is learned "
            "(warm_start.corrections_per_turn); bring that file back, or run again"
        )
    return found.popleft()
