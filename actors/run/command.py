"""The command's side of a run: stages one after another, each in its own process, with progress.

Imports nothing heavy, so that the command answers at once and Ctrl-C is always heard.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.run.machine import device_of, process_environment
from actors.run.processes import end_processes, owned_processes
from actors.run.progress import follow
from envs.prompts import prompt_version
from mtsql.config.environment import HistoryMode
from mtsql.config.run import RunConfig
from mtsql.data.dataset import MANIFEST, SPLITS, check_databases, load_dataset
from mtsql.errors import ConfigError, DataError, MachineError, ModelError, UserError
from mtsql.files import write_whole
from mtsql.runs.stages import is_needless, model_folder, part_of, round_title, stages_of_round
from mtsql.runs.summary import write_summary

MIN_FREE_GB = 2.0
FULL_DISK_MB = 50
TITLES = {
    "data": "data",
    "warm_start": "warm start",
    "evaluate_warm_start": "evaluate warm start",
    "rl": "reinforcement learning",
    "evaluate_rl": "evaluate RL",
}
LEARNING = ("warm_start", "rl", "fine_tune", "sample")
"""Stages that keep what they have so far when they are interrupted."""


IGNORED = re.compile(r"^Exception ignored in.*?^\w+(?:Error|Exception)\b.*?$", re.M | re.S)
"""What a dying interpreter says behind its traceback: never the cause."""


def title_of(stage: str) -> str:
    """In words, e.g. `round 2: fine-tune`."""
    return TITLES.get(stage) or round_title(stage) or stage


class StageFailed(Exception):
    """A stage broke without the user being at fault; its text names the log."""


def stages_of(config: RunConfig) -> list[str]:
    """The stages that this recipe asks for, in order."""
    stages = ["data"]
    if config.warm_start is not None:
        stages.append("warm_start")
    stages.append("evaluate_warm_start")
    if config.selftaught is not None:
        for number in range(1, config.selftaught.rounds + 1):
            stages += stages_of_round(number)
    if config.rl is not None:
        stages += ["rl", "evaluate_rl"]
    return stages


def train(config: RunConfig, *, restart: bool = False, console: Console | None = None) -> Path:
    """Run every stage of a recipe that has not run yet, then write summary and report.

    Args:
        restart: forget an earlier run in the same folder.

    Returns:
        The run's folder.

    Raises:
        UserError: a mistake in recipe, data, model or machine.
        StageFailed: a stage broke; the same command resumes it.
    """
    return _run_stages(config, stages_of(config), restart=restart, console=console or Console())


def selftaught(
    config: RunConfig,
    *,
    rounds: int | None = None,
    restart: bool = False,
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
    stages = [stage for stage in stages_of(config) if stage not in ("rl", "evaluate_rl")]
    return _run_stages(config, stages, restart=restart, console=console or Console())


def _run_stages(
    config: RunConfig, stages: Sequence[str], *, restart: bool, console: Console
) -> Path:
    device = device_of(config)
    if config.model.path is not None:
        check_model(Path(config.model.path), "model.path")
    if config.selftaught is not None and config.selftaught.selection.embedder is not None:
        # Not only when a round has been sampled for hours.
        check_model(config.selftaught.selection.embedder, "selftaught.selection.embedder")
    _check_data(config)
    with _taken_back(config.folder):
        folder = open_run(config, device, restart=restart)
        console.print(f"[bold]{config.name}[/bold] on {device}, in {folder}")
        with owned_processes():
            for stage in stages:
                if is_needless(folder, stage):
                    continue
                run_stage(stage, config, device, folder, console)
    from mtsql.report.page import summary_tables, write_report  # imports matplotlib

    summary = write_summary(folder)
    report = write_report(folder)
    for table in summary_tables(summary):
        console.print(table)
    console.print(f"report: {report}")
    return folder


def evaluate(
    config: RunConfig,
    *,
    model: Path | None,
    policy: str,
    splits: Sequence[str] | None,
    histories: Sequence[HistoryMode] | None,
    out: Path | None,
    console: Console | None = None,
) -> Path:
    """Evaluate one model with a recipe's data and environment.

    Args:
        model: a Hugging Face folder; None takes `policy` of the recipe's run.
        policy: `warm_start`, `round_N` or `rl`; with `model`, only a label.
        out: folder for the result; None: `RUN/evaluation`.

    Returns:
        The folder that holds `POLICY-HISTORY.json`.
    """
    console = console or Console()
    device = device_of(config)
    chosen = (model if model is not None else model_folder(config.folder, policy)).absolute()
    check_model(chosen, "--model" if model is not None else "the run's model")
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
    target = (out if out is not None else config.folder / "evaluation").absolute()
    scratch = target / ".stage"
    recipe = config.model_copy(
        update={
            "evaluation": evaluation,
            # The data stays where the run has it.
            "data": config.data.model_copy(update={"folder": config.data_folder}),
        }
    )
    _check_data(recipe)
    shutil.rmtree(scratch, ignore_errors=True)
    request = {"model": str(chosen), "policy": policy, "out": str(target)}
    with _taken_back(scratch):
        for name in ("stages", "logs", "metrics"):
            (scratch / name).mkdir(parents=True)
        _write_json(
            scratch / "run.json",
            {"recipe": recipe.model_dump(mode="json"), "device": device, "evaluate": request},
        )
        with owned_processes():
            run_stage("evaluate", recipe, device, scratch, console)
    shutil.rmtree(scratch)
    return target


def open_run(config: RunConfig, device: str, *, restart: bool) -> Path:
    """Make or reopen the run's folder.

    Raises:
        ConfigError: the folder holds a run of another recipe.
        MachineError: too little room on the disk.
    """
    folder = config.folder
    recipe = config.model_dump(mode="json")
    saved = folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir {folder} is a file: set name= or run_dir=")
    if restart and saved.exists():
        shutil.rmtree(folder)
    if saved.exists():
        try:
            note = json.loads(saved.read_text(encoding="utf-8"))
            # Through the types, so that a key that is newer than the run has its default.
            old = RunConfig.model_validate(note["recipe"]).model_dump(mode="json")
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{saved}: not what a run writes: add --restart to begin anew, or set run_dir="
            ) from error
        if old != recipe and not _only_rounds_differ(old, recipe, folder):
            raise ConfigError(
                f"{folder} holds a run of another recipe ({_first_difference(old, recipe)}): "
                "add --restart to begin anew, or set name= to keep both"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and holds no run: set name= or run_dir=")
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    if free_gb < MIN_FREE_GB:
        raise MachineError(
            f"{folder}: {free_gb:.1f} GB free on that disk, a run needs {MIN_FREE_GB:g}: "
            "free some, or set run_dir="
        )
    for name in ("stages", "logs", "metrics", "trajectories", "evaluation"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if saved.exists() and old != recipe:
        _write_json(saved, {**note, "recipe": recipe})
    elif not saved.exists():
        # The prompt is part of the policy, and its file may change under a recipe that stays.
        prompt = prompt_version(config.environment.prompt, config.environment.dialect)
        _write_json(saved, {"recipe": recipe, "device": device, "prompt": prompt})
    return folder


def _only_rounds_differ(old: dict[str, Any], new: dict[str, Any], folder: Path) -> bool:
    """More rounds, or fewer, only add or leave out stages, until RL has begun from the last one."""
    if not (old["selftaught"] and new["selftaught"]) or (folder / "rl").exists():
        return False
    rounds = {"rounds": new["selftaught"]["rounds"]}
    return {**old, "selftaught": {**old["selftaught"], **rounds}} == new


def run_stage(stage: str, config: RunConfig, device: str, folder: Path, console: Console) -> None:
    """Run one stage unless its result is there already.

    Raises:
        UserError: the stage met a user's mistake, or a database changed while it ran.
        StageFailed: it broke by itself.
    """
    done = folder / "stages" / f"{stage}.json"
    title = title_of(stage)
    if done.exists():
        console.print(f"{title}: done before, kept")
        return
    (folder / "stages" / f"{stage}.error").unlink(missing_ok=True)
    (folder / "progress.jsonl").unlink(missing_ok=True)
    log = folder / "logs" / f"{stage}.log"
    environment = process_environment(config, device)
    environment["VERL_FILE_LOGGER_PATH"] = str(
        (folder / "metrics" / f"{stage}-verl.jsonl").absolute()
    )
    started = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "actors.stages", stage, str(folder)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            follow(process, stage, title_of(stage), config, folder, console)
        finally:
            end_processes()
    mistake = folder / "stages" / f"{stage}.error"
    if process.returncode == 2 and mistake.is_file() and mistake.stat().st_size:
        raise UserError(mistake.read_text(encoding="utf-8"))
    if stage != "data":
        # Also of a stage that failed: a database that changed may be why.
        _check_databases_again(stage, config)
    free_mb = shutil.disk_usage(folder).free / 1e6
    if process.returncode != 0 and free_mb < FULL_DISK_MB:
        # Whoever met the full disk first (torch, Ray, SQLite) has words of its own for it.
        raise MachineError(
            f"{folder}: no space left ({free_mb:.0f} MB), so {title} stopped: free some, and the "
            "same command resumes; or set run_dir= to another disk"
        )
    if process.returncode != 0:
        raise StageFailed(
            f"{title} failed (exit code {process.returncode}): {_last_error(log)}; "
            f"the whole log is {log}; the same command resumes"
        )
    wall_s = time.monotonic() - started
    _write_json(done, {"wall_s": wall_s})
    console.print(f"{title}: {wall_s:.0f} s")


def _check_databases_again(stage: str, config: RunConfig) -> None:
    """A stage counts only if the databases at its end are those of its start.

    Raises:
        DataError: one is not; the text names it.
    """
    try:
        check_databases(config.data_folder)
    except DataError as error:
        lost = f"{title_of(stage)} does not count"
        if part_of(stage) in LEARNING:
            lost += ", nor what it saved: add --restart"
        raise DataError(f"{error}; {lost}") from error


def _last_error(log: Path) -> str:
    """The last line of a log that names an error, or its last line."""
    # What a dying interpreter says behind its traceback is never the cause.
    text = log.read_text("utf-8", "replace")
    text = re.sub(
        r"^Exception ignored in.*?^\w+(Error|Exception)\b.*?$", "", text, flags=re.M | re.S
    )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "error:" in line]
    return (errors or lines or ["no output"])[-1][:300]


def check_model(folder: Path, name: str) -> None:
    """Look whether a folder holds a Hugging Face model, without loading it.

    Args:
        name: the key or option that names the folder.

    Raises:
        ModelError: configuration, tokenizer or weights are missing.
    """
    fix = "give the folder of a Hugging Face model, e.g. one that `mtsql train` made"
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except OSError as error:
        raise ModelError(f"{name} {folder}: no config.json there; {fix}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name} {folder}: config.json names no model_type; {fix}") from error
    for part, pattern in (("weights", "*.safetensors"), ("tokenizer", "tokenizer*.json")):
        if not any(folder.glob(pattern)):
            raise ModelError(f"{name} {folder}: {kind} without {part} ({pattern}); {fix}")


def _check_data(config: RunConfig) -> None:
    """Look at data from outside the run's folder before an earlier run is touched.

    Raises:
        DataError: the prepared folder is not whole, or there is no release.
        ConfigError: a split that no dataset has.
    """
    data = config.data
    if data.folder is not None and data.folder.exists():
        load_dataset(data.folder)
    elif data.source != "embedded":
        if data.source_dir is None:
            raise DataError(
                f"data.folder {data.folder}: no such folder; make it with `mtsql data prepare`, "
                "or set data.source_dir"
            )
        if not (data.source_dir / data.source).is_dir():
            raise DataError(
                f"data.source_dir {data.source_dir}: no folder {data.source} there; "
                "name the folder that holds it"
            )
    for name in config.evaluation.splits:
        if name not in SPLITS:
            raise ConfigError(
                f"evaluation.splits: no split {name!r}; choose from {', '.join(SPLITS)}"
            )


@contextmanager
def _taken_back(folder: Path) -> Iterator[None]:
    """Remove a folder that the block makes or fills, if the user's mistake ends it early.

    A folder that held something before stays, and so does one in which something was learnt.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    was_empty = folder.is_dir() and not any(folder.iterdir())
    try:
        yield
    except (UserError, OSError):
        stages = {path.stem for path in (folder / "stages").glob("*.json")} - {"data"}
        if not stages and not (folder / "warm_start" / "checkpoints").exists():
            if missing or was_empty:
                shutil.rmtree(folder, ignore_errors=True)
            if was_empty:
                folder.mkdir()
            with suppress(OSError):  # a parent that something else has filled meanwhile
                for parent in missing[1:]:
                    parent.rmdir()
        raise


def _first_difference(old: dict[str, Any], new: dict[str, Any], path: str = "") -> str:
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            return _first_difference(before, after, f"{path}{key}.")
        return f"{path}{key} was {before!r}, is {after!r}"
    return "no difference"


def _write_json(path: Path, value: object) -> None:
    write_whole(path, json.dumps(value, indent=1))
