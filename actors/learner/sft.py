"""Supervised fine-tuning through verl's trainer: of the warm start and of the self-taught rounds.

A training's folder, with `rows.parquet` and perhaps `validation.parquet` beside it:
    checkpoints/models/step_N      Hugging Face folders
    checkpoints/global_step_N      the newest optimizer state, from which a killed run resumes
    checkpoints/logs/N.jsonl       verl's metrics of the attempt that began after step N
"""

import json
import math
import os
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

from actors.learner.sft_rows import key_of
from actors.run.progress import POLL_S, Tail
from mtsql.config.learning import FineTuneConfig
from mtsql.config.run import RunConfig
from mtsql.errors import ConfigError
from mtsql.parent import die_with_parent

ONE_RANK = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}
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
            f"{key}.num_ranks is {num_ranks}, but there are {num_rows} trajectories to learn: "
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


def train(
    config: RunConfig,
    fine_tune: FineTuneConfig,
    device: str,
    base: Path,
    rows: Path,
    validation: Path | None,
    out: Path,
    *,
    progress: Progress | None = None,
) -> list[Checkpoint]:
    """Run verl's SFT trainer on this machine's devices, from its newest checkpoint if there is one.

    The ranks are processes of their own, so that their memory is free afterwards.

    Args:
        base: Hugging Face folder to start from.
        rows: Parquet of `input_ids` and `loss_mask`; `validation` likewise.
        out: folder of the checkpoints, of this training only.

    Returns:
        The exported checkpoints in order of step; the last only, unless they are to be compared.

    Raises:
        ConfigError: there are fewer rows than ranks.
    """
    files = [rows, *([] if validation is None else [validation])]
    settled = settle(
        fine_tune,
        num_rows=pq.read_metadata(rows).num_rows,
        longest_tokens=max(_longest(path) for path in files),
        num_ranks=fine_tune.num_ranks or config.machine.gpus_per_node,
    )
    if not (out / "models" / f"step_{settled.num_steps}").exists():
        _run_ranks(config, settled, device, base, rows, validation, out, progress)
    losses = {row["step"]: row.get("val_loss") for row in metrics(out)}
    found = [
        Checkpoint(step=int(path.name.removeprefix("step_")), folder=path)
        for path in (out / "models").glob("step_*")
    ]
    return [
        replace(one, val_loss=losses.get(one.step)) for one in sorted(found, key=lambda x: x.step)
    ]


def _run_ranks(
    config: RunConfig,
    settled: FineTuneConfig,
    device: str,
    base: Path,
    rows: Path,
    validation: Path | None,
    out: Path,
    progress: Progress | None,
) -> None:
    num_ranks, num_steps = settled.num_ranks, settled.num_steps
    assert num_ranks is not None
    assert num_steps is not None
    tracker = out / "latest_checkpointed_iteration.txt"
    started = int(tracker.read_text("utf-8")) if tracker.exists() else 0
    # verl empties the file that it logs to, so each attempt has its own.
    log = out / "logs" / f"{started:08d}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    job = {
        "recipe": config.model_dump(mode="json"),
        "fine_tune": settled.model_dump(mode="json"),
        "device": device,
        "base": str(base),
        "rows": str(rows),
        "validation": None if validation is None else str(validation),
        "out": str(out),
    }
    note = out / "job.json"
    note.write_text(json.dumps(job), encoding="utf-8")
    environment = {**os.environ, "VERL_FILE_LOGGER_PATH": str(log.absolute())}
    if num_ranks == 1:
        environment |= ONE_RANK
    else:
        # The ranks share the threads that one process would have.
        threads = max(1, config.machine.learner_threads // num_ranks)
        environment["OMP_NUM_THREADS"] = str(threads)
    words = [sys.executable, "-m", "actors.learner.sft", str(note), str(num_ranks)]
    tail = Tail(log)
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
        raise RuntimeError(f"the trainer ended with exit code {process.returncode}; see above")


def metrics(out: Path) -> list[dict[str, Any]]:
    """One row for each optimizer step: step, loss, lr and, where it was measured, val_loss.

    What an attempt did beyond the checkpoint from which the next one went on counts once.
    """
    names = {"train/loss": "loss", "train/lr": "lr", "val/loss": "val_loss"}
    rows: dict[int, dict[str, Any]] = {}
    for log in sorted((out / "logs").glob("*.jsonl")):
        started = int(log.stem)
        rows = {step: row for step, row in rows.items() if step <= started}
        for text in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if not text.endswith("\n"):
                continue  # the attempt was killed while it wrote
            line = json.loads(text)
            row = rows.setdefault(line["step"], {"step": line["step"]})
            row |= {
                ours: line["data"][name] for name, ours in names.items() if name in line["data"]
            }
    return [rows[step] for step in sorted(rows)]


def main() -> None:
    """`python -m actors.learner.sft JOB NUM_RANKS`: one rank here, or all through torchrun."""
    die_with_parent(by=signal.SIGTERM)
    note, num_ranks = sys.argv[1], int(sys.argv[2])
    if num_ranks > 1 and "RANK" not in os.environ:
        from torch.distributed.run import main as torchrun

        ranks = f"--nproc-per-node={num_ranks}"
        torchrun(["--standalone", ranks, "-m", "actors.learner.sft", note, str(num_ranks)])
        return
    from actors.learner.sft_trainer import run_rank

    job = json.loads(Path(note).read_text(encoding="utf-8"))
    run_rank(
        RunConfig.model_validate(job["recipe"]),
        FineTuneConfig.model_validate(job["fine_tune"]),
        device=job["device"],
        base=Path(job["base"]),
        rows=Path(job["rows"]),
        validation=None if job["validation"] is None else Path(job["validation"]),
        out=Path(job["out"]),
    )


if __name__ == "__main__":
    main()
