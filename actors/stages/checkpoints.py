"""One fine-tuning from rows to a published model: train, play validation dialogues, choose."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from actors.learner import sft
from actors.learner.job import SftJob
from actors.learner.sft import Checkpoint
from actors.rollout.codec import load_tokenizer
from actors.rollout.dialogues import play_dialogues
from actors.rollout.player import player_of
from actors.rollout.turns import load_run_data
from actors.stages.evaluation import scored_turn
from mtsql.config.learning import FineTuneConfig
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.files import read_record, write_record, write_whole
from mtsql.runs.folder import FineTuneFolder
from mtsql.runs.records import CheckpointNote, CheckpointScore
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Label

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int, str], None]
"""Told (what, done, all, unit)."""


def fine_tune(
    config: RunConfig,
    fine_tune: FineTuneConfig,
    device: Device,
    base: Path,
    folder: FineTuneFolder,
    metrics: Path,
    *,
    progress: Progress,
) -> Path:
    """Learn the rows in a folder and publish the best checkpoint there, or go on doing so.

    Writes `model/`, `checkpoints.json` (every checkpoint's loss and EX, and which was chosen) and
    the metrics; the other checkpoints and the optimizer's state are removed at the end.

    Args:
        base: Hugging Face folder to start from.
        folder: holds `rows.parquet` and, with a validation share, `validation.parquet`.
        metrics: file of one JSON object for each optimizer step: step, loss, lr, and at checkpoints
            val_loss and valid_ex.

    Returns:
        The published Hugging Face folder.

    Raises:
        ConfigError: there are fewer rows than ranks.
    """
    if not folder.model.exists():
        job = SftJob(
            base=base,
            rows=folder.rows,
            validation=folder.validation if folder.validation.exists() else None,
            out=folder.checkpoints,
            device=device,
            fine_tune=fine_tune,
            recipe=config,
        )
        checkpoints = sft.train(
            job, progress=lambda text, done, total: progress(text, done, total, "steps")
        )
        note = folder.checkpoints_note
        if fine_tune.num_validation_dialogues:
            checkpoints = asyncio.run(
                _played(
                    checkpoints, note, fine_tune.num_validation_dialogues, config, device, progress
                )
            )
        chosen = best(checkpoints)
        _write_note(note, checkpoints, chosen)
        _write_metrics(metrics, sft.metrics(folder.checkpoints), checkpoints)
        # Last: the model's presence says that everything before it is whole.
        chosen.folder.rename(folder.model)
        what = {"step": chosen.step, "ex": chosen.ex, "val_loss": chosen.val_loss}
        what |= {"of": len(checkpoints), "model": folder.model}
        logger.info("checkpoint chosen", extra=what)
    else:
        logger.info("model kept", extra={"model": folder.model})
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return folder.model


def best(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Highest EX, then lowest validation loss, then earliest; the last one if none was played."""
    played = [one for one in checkpoints if one.ex is not None]
    if not played:
        return max(checkpoints, key=lambda one: one.step)

    def rank(one: Checkpoint) -> tuple[float, float, int]:
        loss = float("inf") if one.val_loss is None else one.val_loss
        return (-(one.ex or 0.0), loss, one.step)

    return min(played, key=rank)


async def _played(
    checkpoints: Sequence[Checkpoint],
    note: Path,
    num_dialogues: int,
    config: RunConfig,
    device: Device,
    progress: Progress,
) -> list[Checkpoint]:
    """Each checkpoint with its EX over the first validation dialogues: greedy, gold history.

    What an earlier, killed call has noted is not played again. Each has its own engine: vLLM
    reloads weights into a running one, but where output and input embeddings are tied (as in small
    Qwen3 models) it keeps the old output without a word.
    """
    dataset = load_run_data(config)
    dialogues = dataset.splits.get("valid", [])[:num_dialogues]
    noted = _read_note(note)
    done = [replace(one, **noted.get(one.step, {})) for one in checkpoints]
    if not dialogues or all(one.num_judged is not None for one in done):
        return done
    from actors.rollout.engine import engine  # noqa: PLC0415 - vLLM only where something is played

    label = Label(policy="checkpoint", split="valid", history_mode=config.environment.history)
    async with LocalPool(dataset.databases, **config.sql.pool()) as pool:
        for number, one in enumerate(done):
            if one.num_judged is not None:
                continue
            async with engine(one.folder, config, device) as sample:
                played = await play_dialogues(
                    [(dialogue, label) for dialogue in dialogues],
                    dataset.schemas,
                    player_of(config, pool, load_tokenizer(one.folder), trains=False),
                    sample,
                    max_concurrent=config.evaluation.max_concurrent,
                    progress=partial(_tell, progress, f"checkpoint {one.step}"),
                )
            verdicts = [scored_turn(attempt).ex for attempts in played for attempt in attempts]
            done[number] = replace(
                one,
                num_right=verdicts.count(True),
                num_judged=sum(verdict is not None for verdict in verdicts),
            )
            _write_note(note, done, None)
            what = {"step": one.step, "right": done[number].num_right}
            logger.info("checkpoint played", extra=what | {"judged": done[number].num_judged})
    return done


def _tell(progress: Progress, text: str, num_done: int, num_all: int) -> None:
    progress(text, num_done, num_all, "dialogues")


def _write_note(note: Path, checkpoints: Sequence[Checkpoint], chosen: Checkpoint | None) -> None:
    scores = tuple(
        CheckpointScore(
            step=checkpoint.step,
            val_loss=checkpoint.val_loss,
            ex=checkpoint.ex,
            num_right=checkpoint.num_right,
            num_judged=checkpoint.num_judged,
        )
        for checkpoint in checkpoints
    )
    chosen_step = None if chosen is None else chosen.step
    write_record(note, CheckpointNote(checkpoints=scores, chosen=chosen_step))


def _read_note(note: Path) -> dict[int, dict[str, int | None]]:
    """What a killed call has measured, by step."""
    if not note.exists():
        return {}
    scores = read_record(note, CheckpointNote, fix="remove it and run again").checkpoints
    return {
        score.step: {"num_right": score.num_right, "num_judged": score.num_judged}
        for score in scores
    }


def _write_metrics(
    path: Path, rows: Sequence[dict[str, float]], checkpoints: Sequence[Checkpoint]
) -> None:
    by_step = {one.step: one.ex for one in checkpoints if one.ex is not None}
    lines = [
        {**row, **({"valid_ex": by_step[step]} if (step := int(row["step"])) in by_step else {})}
        for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))
