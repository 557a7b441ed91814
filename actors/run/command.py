"""The command's side of a run: stages one after another, each in its own process, with progress.

Imports nothing heavy, so that the command answers at once and Ctrl-C is always heard.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from actors import log
from actors.run.checks import (
    check_data,
    check_model,
    check_models,
    check_policy,
    check_template,
)
from actors.run.folder import note_of, open_run, taken_back
from actors.run.machine import device_of
from actors.run.processes import owned_processes
from actors.run.stage import run_stage
from mtsql.config.environment import HistoryMode
from mtsql.config.model import model_folder
from mtsql.config.run import RunConfig
from mtsql.data.dataset import MANIFEST
from mtsql.errors import ConfigError
from mtsql.files import write_record
from mtsql.runs.folder import RunFolder
from mtsql.runs.records import EvaluateRequest
from mtsql.runs.rounds import is_needless
from mtsql.runs.stages import Stage, stage_named, stages_of
from mtsql.runs.summary import gold_line, gold_summary, write_summary

logger = logging.getLogger(__name__)


def train(
    config: RunConfig,
    *,
    restart: bool = False,
    log_level: str = "info",
    console: Console | None = None,
) -> Path:
    """Run every stage of a recipe that has not run yet, then write summary and report.

    Args:
        restart: forget an earlier run in the same folder.
        log_level: lowest level of the records in RUN/logs/mtsql.jsonl.

    Returns:
        The run's folder.

    Raises:
        UserError: a mistake in recipe, data, model or machine.
        StageFailed: a stage broke; its text says whether the same command resumes it.
    """
    return _run_stages(
        config,
        stages_of(config),
        restart=restart,
        log_level=log_level,
        console=console or Console(),
    )


def selftaught(
    config: RunConfig,
    *,
    rounds: int | None = None,
    restart: bool = False,
    log_level: str = "info",
    console: Console | None = None,
) -> Path:
    """Run a recipe up to the end of its self-taught rounds; `train` goes on from there.

    Args:
        rounds: in place of the recipe's; an earlier run in the same folder gets more of them.

    Raises:
        As `train`; ConfigError too for a recipe without the section.
    """
    if config.selftaught is None:
        raise ConfigError(
            f"recipe {config.name!r} has no section 'selftaught'; see "
            "recipes/selftaught_demo_cpu.yaml, or add selftaught.rounds=2"
        )
    if rounds is not None:
        taught = config.selftaught.model_copy(update={"rounds": rounds})
        config = config.model_copy(update={"selftaught": taught})
    stages = [stage for stage in stages_of(config) if stage.kind.part != "after"]
    return _run_stages(
        config, stages, restart=restart, log_level=log_level, console=console or Console()
    )


def _run_stages(
    config: RunConfig,
    stages: Sequence[Stage],
    *,
    restart: bool,
    log_level: str,
    console: Console,
) -> Path:
    device = device_of(config)
    check_models(config)
    check_data(config)
    if config.model.path is not None:
        check_template(config.model.folder, config, device)  # last, for it takes seconds
    with taken_back(config.folder):
        run = open_run(config, device, restart=restart)
        console.print(f"[bold]{config.name}[/bold] on {device}, in {run.path}")
        with log.written_to(run.log, log_level), owned_processes():
            what = {"recipe": config.name, "device": device, "folder": run.path}
            logger.info("run begins", extra=what | {"stages": [stage.name for stage in stages]})
            for stage in stages:
                if is_needless(run, stage):
                    logger.info("stage left out: nothing new to learn", extra={"of": stage.name})
                else:
                    run_stage(stage, config, device, run, console)
                if stage.kind.key == "data":
                    _say_golds(run, console)
    from mtsql.report.page import write_report  # imports matplotlib
    from mtsql.report.scores import summary_tables

    with log.written_to(run.log, log_level):
        summary = write_summary(run)
        report = write_report(run)
        logger.info("run ends", extra={"wall_s": sum(summary.wall_s.values())})
    for table in summary_tables(summary):
        console.print(table)
    console.print(f"report: {report}")
    return run.path


def _say_golds(run: RunFolder, console: Console) -> None:
    """Before anything is learned: what the golds lack as a measure, in one line."""
    note = run.read_golds()
    if note is not None and (line := gold_line(gold_summary(note))):
        console.print(line)


def evaluate(
    config: RunConfig,
    *,
    model: Path | None,
    policy: str,
    splits: Sequence[str] | None,
    histories: Sequence[HistoryMode] | None,
    out: Path | None,
    log_level: str = "info",
    console: Console | None = None,
) -> Path:
    """Evaluate one model with a recipe's data and environment.

    Args:
        model: a Hugging Face folder, or the name of a fetched model; None takes `policy` of the
            recipe's run.
        policy: `warm_start`, `round_N` or `rl`; with `model`, only a label.
        out: folder for the result; None: `RUN/evaluation`.
        log_level: lowest level of the records in the log of the recipe's run; those of an
            evaluation without a run stay only if it fails.

    Returns:
        The folder that holds `POLICY-HISTORY.json`.
    """
    console = console or Console()
    device = device_of(config)
    run = RunFolder(config.folder)
    chosen = (model_folder(model) if model is not None else run.model(policy)).absolute()
    name = "--model" if model is not None else "the run's model"
    check_model(chosen, name, given=model)
    check_policy(chosen, name, config)
    if not (config.data_folder / MANIFEST).is_file():
        raise ConfigError(
            f"{config.data_folder}: no prepared data; run `mtsql train` or `mtsql data` first"
        )
    evaluation = config.evaluation.model_copy(
        update={
            "splits": tuple(splits or config.evaluation.splits),
            "histories": tuple(histories or config.evaluation.histories),
        }
    )
    target = (out if out is not None else run.evaluation).absolute()
    recipe = config.model_copy(
        update={
            "evaluation": evaluation,
            # The data stays where the run has it.
            "data": config.data.model_copy(update={"folder": config.data_folder}),
        }
    )
    check_data(recipe)
    check_template(chosen, config, device)  # last, for it takes seconds
    # A folder like a run's, for the one stage.
    scratch = RunFolder(target / ".stage")
    shutil.rmtree(scratch.path, ignore_errors=True)
    request = EvaluateRequest(model=chosen, policy=policy, out=target)
    with taken_back(scratch.path):
        scratch.make()
        write_record(scratch.note, note_of(recipe, device, request))
        log_file = run.log if run.is_run else scratch.log
        with log.written_to(log_file, log_level), owned_processes():
            what = {"model": chosen, "policy": policy, "out": target, "device": device}
            logger.info("evaluation begins", extra=what)
            run_stage(stage_named("evaluate"), recipe, device, scratch, console)
    shutil.rmtree(scratch.path)
    return target
