"""One stage in its own process: started, followed, its end read."""

import logging
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from actors import log
from actors.failures import death_of
from actors.run.checks import check_databases_again, check_disk_after
from actors.run.machine import process_environment
from actors.run.processes import end_processes
from actors.run.progress import follow
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.errors import MachineError, UserError
from mtsql.files import write_record
from mtsql.runs.folder import RunFolder
from mtsql.runs.records import Failure, StageEnd
from mtsql.runs.stages import Stage

logger = logging.getLogger(__name__)


class StageFailed(Exception):
    """A stage broke without the user being at fault.

    Its text is one line: kind, reason, place, the whole log, and how to go on.

    Args:
        title: of the stage.
        log: what the stage has printed.
    """

    def __init__(self, failure: Failure, *, title: str, log: Path) -> None:
        super().__init__(failure, title, log)
        self.failure = failure
        self.title = title
        self.log = log

    def __str__(self) -> str:
        failure = self.failure
        places = [failure.place and f"at {failure.place}", failure.actor and f"in {failure.actor}"]
        place = ", ".join(part for part in places if part)
        go_on = (
            "the same command resumes"
            if failure.resumable
            else "the same command would meet it again: "
            + (failure.change or "change what the reason names, in the recipe, data or model")
        )
        reason = failure.reason + (f" ({place})" if place else "")
        what = f"{self.title} failed ({failure.kind}): {reason}"
        return f"{what}; the whole log is {self.log}; {go_on}"


def run_stage(
    stage: Stage, config: RunConfig, device: Device, run: RunFolder, console: Console
) -> None:
    """Run one stage unless its result is there already.

    Raises:
        UserError: the stage met a user's mistake, or a database changed while it ran.
        StageFailed: it broke by itself.
    """
    if run.stage_end(stage.name).exists():
        console.print(f"{stage.title}: done before, kept")
        logger.info("stage kept", extra={"of": stage.name})
        return
    run.stage_error(stage.name).unlink(missing_ok=True)
    run.progress.unlink(missing_ok=True)
    output_file = run.stage_log(stage.name)
    logger.info("stage starts", extra={"of": stage.name, "output": output_file})
    started = time.monotonic()
    with output_file.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "actors.stages", stage.name, str(run.path)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=process_environment(config, device) | log.variables(stage.name),
            start_new_session=True,
        )
        try:
            follow(process, stage, config, run, console)
        finally:
            end_processes()
    wall_s = time.monotonic() - started
    failure = None if process.returncode == 0 else _failure(stage, run, process.returncode)
    if failure is not None:
        what = {"of": stage.name, "wall_s": wall_s, "exit_code": process.returncode}
        logger.error("stage failed", extra=what | failure.model_dump())
    if failure is not None and failure.kind in ("user", "machine"):
        raise (MachineError if failure.kind == "machine" else UserError)(failure.reason)
    if stage.kind.key != "data":
        # Also of a stage that failed: a database that changed may be why.
        check_databases_again(stage, config)
    if failure is not None:
        check_disk_after(run.path, stage)
        raise StageFailed(failure, title=stage.title, log=output_file)
    write_record(run.stage_end(stage.name), StageEnd(wall_s=wall_s))
    logger.info("stage ends", extra={"of": stage.name, "wall_s": wall_s})
    console.print(f"{stage.title}: {wall_s:.0f} s")


def _failure(stage: Stage, run: RunFolder, exit_code: int) -> Failure:
    """What the stage has recorded, or what is known of one that died without a word."""
    failure = run.read_failure(stage.name)
    if failure is None:
        failure = death_of(exit_code, log=run.stage_log(stage.name))
        write_record(run.stage_error(stage.name), failure)
    return failure
