"""The folder of a run, made or reopened; and what may differ between a saved recipe and a new one.

A folder that the user's mistake leaves without anything learnt is taken back.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from actors.run.checks import check_free_disk
from envs.prompts import prompt_version
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.errors import ConfigError, UserError
from mtsql.files import write_record
from mtsql.runs.folder import RunFolder
from mtsql.runs.records import EvaluateRequest, RunNote

RESTART = "add --restart to begin again, or set run_dir="


def open_run(config: RunConfig, device: Device, *, restart: bool) -> RunFolder:
    """Make or reopen the run's folder.

    Raises:
        ConfigError: the folder holds a run of another recipe, or something else.
        DataError: the folder's note is not what a run writes.
        MachineError: too little room on the disk.
    """
    run = RunFolder(config.folder)
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError(f"run_dir {run.path} is a file: set name= or run_dir=")
    if restart and run.is_run:
        shutil.rmtree(run.path)
    note = _reopened(run, config) if run.is_run else note_of(config, device)
    if not run.is_run and run.path.exists() and any(run.path.iterdir()):
        raise ConfigError(f"{run.path} is not empty and holds no run: set name= or run_dir=")
    check_free_disk(run.path)
    run.make()
    write_record(run.note, note)
    return run


def note_of(config: RunConfig, device: Device, request: EvaluateRequest | None = None) -> RunNote:
    """What a new run writes of itself."""
    prompt = prompt_version(config.environment.prompt, config.environment.dialect)
    return RunNote(recipe=config, device=device, prompt=prompt, evaluate=request)


def _reopened(run: RunFolder, config: RunConfig) -> RunNote:
    """The saved note with the new recipe, which may differ in the number of rounds only."""
    note = run.read_note(fix=RESTART)
    # Through the types, so that a key that is newer than the run has its default.
    old, new = (recipe.model_dump(mode="json") for recipe in (note.recipe, config))
    if old != new and not _only_rounds_differ(old, new, run):
        raise ConfigError(
            f"{run.path} holds a run of another recipe ({_first_difference(old, new)}): "
            "add --restart to begin again, or set name= to keep both"
        )
    return note.model_copy(update={"recipe": config})


def _only_rounds_differ(old: dict[str, Any], new: dict[str, Any], run: RunFolder) -> bool:
    """More rounds, or fewer, only add or leave out stages, until RL has begun from the last one."""
    if not (old["selftaught"] and new["selftaught"]) or run.rl.path.exists():
        return False
    rounds = {"rounds": new["selftaught"]["rounds"]}
    return {**old, "selftaught": {**old["selftaught"], **rounds}} == new


def _first_difference(old: dict[str, Any], new: dict[str, Any], path: str = "") -> str:
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            return _first_difference(before, after, f"{path}{key}.")
        return f"{path}{key} was {before!r}, is {after!r}"
    return "no difference"


@contextmanager
def taken_back(folder: Path) -> Iterator[None]:
    """Remove a folder that the block makes or fills, if the user's mistake ends it early.

    A folder that held something before stays, and so does one in which something was learnt.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    was_empty = folder.is_dir() and not any(folder.iterdir())
    run = RunFolder(folder)
    try:
        yield
    except (UserError, OSError):
        stages = {path.stem for path in run.stages.glob("*.json")} - {"data"}
        if not stages and not run.warm_start.checkpoints.exists():
            if missing or was_empty:
                shutil.rmtree(folder, ignore_errors=True)
            if was_empty:
                folder.mkdir()
            with suppress(OSError):  # a parent that something else has filled meanwhile
                for parent in missing[1:]:
                    parent.rmdir()
        raise
