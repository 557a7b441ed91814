"""Supervised fine-tuning through verl's trainer: of the warm start and of the self-taught rounds.

A training's folder, with `rows.parquet` and perhaps `validation.parquet` in it:
    checkpoints/models/step_N      Hugging Face folders
    checkpoints/global_step_N      the newest optimizer state, from which a killed run resumes
    checkpoints/logs/N.jsonl       verl's metrics of the attempt that began after step N
"""

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors import log
from actors.failures import Failed, death_of, failure_of
from actors.learner.job import SftJob
from actors.learner.sft_rows import key_of
from mtsql.config.learning import FineTuneConfig
from mtsql.errors import ConfigError
from mtsql.files import read_record, write_record
from mtsql.parent import die_with_parent
from mtsql.runs.metrics import POLL_S, Tail
from mtsql.runs.records import Failure

logger = logging.getLogger(__name__)

ONE_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}
FAILURES = "failures"
"""Folder among the checkpoints: why a rank has failed, rank_N.json."""
Progress = Callable[[str, int, int], None]
"""Told (what, done, all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a training has exported at one of its steps."""

    step: int
    folder: Path
    """A complete Hugging Face folder."""
    val_loss: float | None = None
    """Mean over the learned tokens of the validation rows; None without such rows."""
    num_right: int | None = None
    """Turns of validation dialogues with a right answer; None: not played."""
    num_judged: int | None = None
    """Turns played, without faults of the machinery."""

    @property
    def ex(self) -> float | None:
        """None: not played, or nothing was judged."""
        if self.num_right is None or not self.num_judged:
            return None
        return self.num_right / self.num_judged


def settle(
    fine_tune: FineTuneConfig, *, num_rows: int, longest_tokens: int, num_ranks: int
) -> FineTuneConfig:
    """The settings with every number that depends on the rows.

    A batch holds no more rows than there are, its packs hold the longest row, and the warm-up takes
    half of the steps at most.

    Raises:
        ConfigError: there are fewer rows than ranks.
    """
    key = key_of(fine_tune)
    if num_rows < num_ranks:
        raise ConfigError(
            f"{key}.num_ranks is {num_ranks}, but there are {num_rows} rows to learn: "
            f"set {key}.num_ranks=1"
        )
    batch_size = min(fine_tune.batch_size, num_rows // num_ranks * num_ranks)
    num_steps = fine_tune.num_steps or math.ceil(fine_tune.num_epochs * num_rows / batch_size)
    values = {name: getattr(fine_tune, name) for name in FineTuneConfig.model_fields}
    return FineTuneConfig.model_validate(
        values
        | {
            "num_steps": num_steps,
            "batch_size": batch_size,
            "num_ranks": num_ranks,
            "warmup_steps": min(fine_tune.warmup_steps, num_steps // 2),
            "micro_batch_tokens": max(fine_tune.micro_batch_tokens, longest_tokens),
        }
    )


def _longest(path: Path) -> int:
    """Tokens of a file's longest row."""
    ids = pq.read_table(path, columns=["input_ids"]).column("input_ids")
    return int(pc.call_function("max", [pc.call_function("list_value_length", [ids])]).as_py())


def train(job: SftJob, *, progress: Progress | None = None) -> list[Checkpoint]:
    """Run verl's SFT trainer on this machine's devices, from its newest checkpoint if there is one.

    The ranks are separate processes, so that their memory is free afterwards.

    Args:
        job: its fine_tune as the recipe has it.

    Returns:
        The exported checkpoints in order of step; the last only, unless they are to be compared.

    Raises:
        ConfigError: there are fewer rows than ranks.
    """
    files = [job.rows, *([] if job.validation is None else [job.validation])]
    settled = settle(
        job.fine_tune,
        num_rows=pq.read_metadata(job.rows).num_rows,
        longest_tokens=max(_longest(path) for path in files),
        num_ranks=job.fine_tune.num_ranks or job.recipe.machine.gpus_per_node,
    )
    if not (job.out / "models" / f"step_{settled.num_steps}").exists():
        _run_ranks(job.model_copy(update={"fine_tune": settled}), progress)
    losses = {row["step"]: row.get("val_loss") for row in metrics(job.out)}
    exported = [
        Checkpoint(step=int(path.name.removeprefix("step_")), folder=path)
        for path in (job.out / "models").glob("step_*")
    ]
    return [
        replace(checkpoint, val_loss=losses.get(checkpoint.step))
        for checkpoint in sorted(exported, key=lambda checkpoint: checkpoint.step)
    ]


def _run_ranks(job: SftJob, progress: Progress | None) -> None:
    num_ranks, num_steps = job.fine_tune.num_ranks, job.fine_tune.num_steps
    assert num_ranks is not None
    assert num_steps is not None
    tracker = job.out / "latest_checkpointed_iteration.txt"
    started = int(tracker.read_text("utf-8")) if tracker.exists() else 0
    # verl empties the file that it logs to, so each attempt has its own.
    attempt = job.out / "logs" / f"{started:08d}.jsonl"
    attempt.parent.mkdir(parents=True, exist_ok=True)
    attempt.unlink(missing_ok=True)
    failures = job.out / FAILURES
    shutil.rmtree(failures, ignore_errors=True)
    note = write_record(job.out / "job.json", job)
    environment = {**os.environ, "VERL_FILE_LOGGER_PATH": str(attempt.absolute())}
    if num_ranks == 1:
        environment |= ONE_RANK
    else:
        # The ranks share the threads that one process would have.
        threads = max(1, job.recipe.machine.learner_threads // num_ranks)
        environment["OMP_NUM_THREADS"] = str(threads)
    words = [sys.executable, "-m", "actors.learner.sft", str(note)]
    tail = Tail(attempt)
    what = {"ranks": num_ranks, "steps": num_steps, "from_step": started, "out": job.out}
    logger.info("fine-tuning begins", extra=what)
    with subprocess.Popen(words, env=environment) as process:
        is_over = False
        while not is_over:
            time.sleep(POLL_S)
            is_over = process.poll() is not None
            for line in tail.lines():
                if progress is not None and "train/loss" in line["data"]:
                    loss = line["data"]["train/loss"]
                    progress(f"loss {loss:.3f}", line["step"], num_steps)
    if process.returncode != 0:
        failure = _first_failure(failures) or death_of(process.returncode, actor="the trainer")
        logger.error("fine-tuning failed", extra=failure.model_dump())
        raise Failed(failure)
    logger.info("fine-tuning ends", extra={"steps": num_steps})


def _first_failure(failures: Path) -> Failure | None:
    """Of the ranks, the one that failed first: the others lose their connection to it."""
    notes = sorted(failures.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return read_record(notes[0], Failure, fix="start the stage again") if notes else None


def metrics(out: Path) -> list[dict[str, Any]]:
    """One row for each optimizer step: step, loss, lr and, where it was measured, val_loss.

    What an attempt did beyond the checkpoint from which the next one went on counts once.
    """
    names = {"train/loss": "loss", "train/lr": "lr", "val/loss": "val_loss"}
    rows: dict[int, dict[str, Any]] = {}
    for attempt in sorted((out / "logs").glob("*.jsonl")):
        started = int(attempt.stem)
        rows = {step: row for step, row in rows.items() if step <= started}
        for text in attempt.read_text(encoding="utf-8").splitlines(keepends=True):
            if not text.endswith("\n"):
                continue  # the attempt was killed while it wrote
            line = json.loads(text)
            row = rows.setdefault(line["step"], {"step": line["step"]})
            row |= {
                ours: line["data"][name] for name, ours in names.items() if name in line["data"]
            }
    return [rows[step] for step in sorted(rows)]


def main() -> None:
    """`python -m actors.learner.sft JOB`: one rank here, or all through torchrun."""
    die_with_parent(by=signal.SIGTERM)
    log.follow()
    note = Path(sys.argv[1])
    job = read_record(note, SftJob, fix="start the stage again")
    num_ranks = job.fine_tune.num_ranks
    if num_ranks != 1 and "RANK" not in os.environ:
        _all_ranks(note, job)
        return
    from actors.learner.sft_trainer import run_rank

    try:
        run_rank(job)
    except Exception as error:
        rank = os.environ["RANK"]
        logger.error("rank failed", exc_info=error, extra={"rank": rank, "ranks": num_ranks})
        _record(job, rank, failure_of(error, actor=f"rank {rank} of {num_ranks}"))
        raise


def _all_ranks(note: Path, job: SftJob) -> None:
    """Start every rank; one that is killed leaves no record, so it is made here."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    num_ranks = job.fine_tune.num_ranks
    ranks = f"--nproc-per-node={num_ranks}"
    try:
        torchrun(["--standalone", ranks, "-m", "actors.learner.sft", str(note)])
    except ChildFailedError as error:
        rank, failed = error.get_first_failure()
        logger.error("ranks ended", extra={"first": rank, "exit_code": failed.exitcode})
        if failed.exitcode < 0:
            _record(job, str(rank), death_of(failed.exitcode, actor=f"rank {rank} of {num_ranks}"))
        raise


def _record(job: SftJob, rank: str, failure: Failure) -> None:
    folder = job.out / FAILURES
    folder.mkdir(exist_ok=True)
    write_record(folder / f"rank_{rank}.json", failure)


if __name__ == "__main__":
    main()
