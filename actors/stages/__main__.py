"""One stage of a run in a process of its own: `python -m actors.stages STAGE RUN_FOLDER`.

The command that waits for it (actors.run.command) reads `progress.jsonl` as it grows. A user's
mistake ends with exit code 2 and one line in `stages/STAGE.error`.
"""

import asyncio
import errno
import json
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actors.run.processes import adopt_orphans, end_processes, kill_as_interrupt
from mtsql.config.run import RunConfig
from mtsql.errors import MachineError, UserError
from mtsql.parent import die_with_parent
from mtsql.runs.stages import model_folder, part_of, round_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """Where a stage works."""

    config: RunConfig
    device: str
    folder: Path

    def report(self, text: str, done: int, total: int, unit: str) -> None:
        """Tell the waiting command how far the stage is, counted in `unit`s."""
        with (self.folder / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"text": text, "done": done, "total": total, "unit": unit}) + "\n"
            )

    @property
    def warm_start_model(self) -> Path:
        if self.config.warm_start is None:
            assert self.config.model.path is not None
            return Path(self.config.model.path)
        return self.folder / "warm_start" / "model"

    def round_model(self, number: int) -> Path:
        """The newest model of the self-taught rounds up to `number`, or the warm start's."""
        for one in range(number, 0, -1):
            model = model_folder(self.folder, f"round_{one}")
            if model.exists():
                return model
        return self.warm_start_model

    @property
    def rl_base(self) -> Path:
        """What RL begins with."""
        taught = self.config.selftaught
        return self.round_model(taught.rounds if taught is not None else 0)

    @property
    def rl_model(self) -> Path:
        return self.folder / "rl" / "model"


def _data(context: StageContext) -> None:
    config = context.config
    if config.data_folder.exists():
        from mtsql.data.dataset import load_dataset

        load_dataset(config.data_folder)
        return
    if config.data.source == "embedded":
        from mtsql.data.embedded import generate

        sizes = {
            "num_train": config.data.num_train_dialogues,
            "num_valid": config.data.num_valid_dialogues,
            "num_test": config.data.num_test_dialogues,
            "num_test_ood": config.data.num_test_ood_dialogues,
        }
        generate(
            config.data_folder,
            seed=config.data.seed,
            **{name: size for name, size in sizes.items() if size is not None},
        )
    else:
        from mtsql.data.prepare import prepare

        assert config.data.source_dir is not None
        prepare(
            config.data.source,
            source=config.data.source_dir / config.data.source,
            out=config.data_folder,
            seed=config.data.seed,
        )


def _warm_start(context: StageContext) -> None:
    from actors.stages import scripted_rows
    from actors.stages.checkpoints import fine_tune

    config = context.config
    assert config.warm_start is not None
    folder = context.folder / "warm_start"
    base_note = folder / "base.txt"
    if not base_note.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        base = scripted_rows.prepare_rows(
            config,
            config.warm_start,
            folder,
            progress=lambda done, total: context.report(
                "scripts played", done, total, "trajectories"
            ),
        )
        # Written last: its presence says that everything before it is whole.
        base_note.write_text(str(base), encoding="utf-8")
    fine_tune(
        config,
        config.warm_start,
        context.device,
        Path(base_note.read_text("utf-8")),
        folder,
        context.folder / "metrics" / "warm_start.jsonl",
        progress=context.report,
    )


def _publish(exported: Path, model: Path) -> None:
    """Copy a Hugging Face folder to its public place, whole or not at all."""
    partial = model.with_name(model.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(exported, partial)
    shutil.rmtree(model, ignore_errors=True)
    partial.rename(model)


def _rl(context: StageContext) -> None:
    from actors.learner import rl

    exported = rl.train(context.config, context.device, context.rl_base, context.folder)
    _publish(exported, context.rl_model)


def _evaluate(policy: str) -> Callable[[StageContext], None]:
    def run(context: StageContext) -> None:
        from actors.stages.evaluation import evaluate

        config = context.config
        model = context.warm_start_model
        if policy != "warm_start":
            model = model_folder(context.folder, policy)
        asyncio.run(
            evaluate(
                model,
                policy,
                config,
                context.device,
                context.folder / "evaluation",
                context.folder / "trajectories",
                splits=config.evaluation.splits,
                histories=config.evaluation.histories,
                progress=lambda history, done, total: context.report(
                    f"{history} history", done, total, "dialogues"
                ),
            )
        )

    return run


def _evaluate_any(context: StageContext) -> None:
    """What `mtsql eval` asks for: any model with the recipe's data."""
    from actors.stages.evaluation import evaluate

    saved = json.loads((context.folder / "run.json").read_text(encoding="utf-8"))["evaluate"]
    asyncio.run(
        evaluate(
            Path(saved["model"]),
            saved["policy"],
            context.config,
            context.device,
            Path(saved["out"]),
            Path(saved["out"]),
            splits=context.config.evaluation.splits,
            histories=context.config.evaluation.histories,
            progress=lambda history, done, total: context.report(
                f"{history} history", done, total, "dialogues"
            ),
        )
    )


STAGES: dict[str, Callable[[StageContext], None]] = {
    "data": _data,
    "warm_start": _warm_start,
    "evaluate_warm_start": _evaluate("warm_start"),
    "rl": _rl,
    "evaluate_rl": _evaluate("rl"),
    "evaluate": _evaluate_any,
}


def work_of(stage: str) -> Callable[[StageContext], None]:
    found = round_of(stage)
    if found is None:
        return STAGES[stage]
    number, part = found
    if part == "evaluate":
        return _evaluate(f"round_{number}")
    from actors.stages import rounds

    return lambda context: rounds.PARTS[part](context, number)


CLEAN_UP_WITHIN_S = 15.0
"""Of a stage whose command was killed; what is saved by then stays."""
ON_A_GPU_NODE = (
    "warm_start",
    "evaluate_warm_start",
    "sample",
    "select",
    "fine_tune",
    "evaluate_rl",
    "evaluate",
)
"""Stages that compute in their own process, which on a cluster must lie on a node with GPUs."""


def run_here_or_there(stage: str, context: StageContext) -> None:
    """Run a stage in this process, or on a GPU node of the cluster that the recipe joins.

    The run's folder must be visible on every node.
    """
    address = context.config.machine.ray_address
    if address is None or part_of(stage) not in ON_A_GPU_NODE:
        work_of(stage)(context)
        return
    import ray

    num_gpus = context.config.machine.gpus_per_node if context.device == "gpu" else 0
    ray.init(address=address, namespace="mtsql")
    # A failed stage is resumed by a person or a supervisor, never silently run twice.
    task = ray.remote(num_gpus=num_gpus, num_cpus=1, max_retries=0)(_run_there)
    mistake = ray.get(task.remote(stage, str(context.folder.absolute())))
    if mistake is not None:
        raise UserError(mistake)


def _run_there(stage: str, folder: str) -> str | None:
    """The text of a user's mistake, or None."""
    try:
        work_of(stage)(load_context(Path(folder)))
    except UserError as error:
        return str(error)
    return None


def load_context(folder: Path) -> StageContext:
    """Read what the waiting command wrote into the run's folder."""
    saved = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return StageContext(
        config=RunConfig.model_validate(saved["recipe"]), device=saved["device"], folder=folder
    )


def explain_os_error(error: OSError) -> UserError | None:
    """A full disk or a taken port in words; None for anything else."""
    if error.errno == errno.ENOSPC:
        where = f" while writing {error.filename}" if error.filename else ""
        return MachineError(
            f"no space left on the disk{where}: free some, or set run_dir to another disk"
        )
    if error.errno == errno.EADDRINUSE:
        return MachineError("no free port on this machine: end what holds it, or try again")
    return None


def main() -> int:
    # The waiting command may be killed without a word; what the stage has started must end then.
    adopt_orphans()
    die_with_parent(by=signal.SIGTERM)
    stage, folder = sys.argv[1], Path(sys.argv[2])
    try:
        with kill_as_interrupt(within_s=CLEAN_UP_WITHIN_S):
            _run(stage, folder)
    except UserError as error:
        (folder / "stages" / f"{stage}.error").write_text(str(error), encoding="utf-8")
        return 2
    except KeyboardInterrupt:
        end_processes()
        return 130
    return 0


def _run(stage: str, folder: Path) -> None:
    try:
        run_here_or_there(stage, load_context(folder))
    except OSError as error:
        known = explain_os_error(error)
        if known is None:
            raise
        raise known from error


if __name__ == "__main__":
    sys.exit(main())
