"""One stage of a run in its own process: `python -m actors.stages STAGE RUN_FOLDER`.

The command that waits for it (actors.run.command) reads `progress.jsonl` as it grows. A failure
ends with one record in `stages/STAGE.error`; the exit code is 2 if a user or the machine caused it.
"""

import errno
import logging
import signal
import sys
import traceback
from pathlib import Path

from actors import log
from actors.failures import failure_of
from actors.run.processes import adopt_orphans, end_processes, kill_as_interrupt
from actors.stages.context import load_context
from actors.stages.work import run_here_or_there
from mtsql.errors import MachineError, UserError
from mtsql.files import write_record
from mtsql.parent import die_with_parent
from mtsql.runs.folder import RunFolder
from mtsql.runs.stages import stage_named

logger = logging.getLogger(__name__)

CLEAN_UP_WITHIN_S = 15.0
"""Of a stage whose command was killed; what is saved by then stays."""


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
    stage, run = sys.argv[1], RunFolder(Path(sys.argv[2]))
    log.follow()
    logger.debug("stage process starts", extra={"run": run.path})
    try:
        with kill_as_interrupt(within_s=CLEAN_UP_WITHIN_S):
            _run(stage, run)
    except KeyboardInterrupt:
        logger.warning("stage interrupted")
        end_processes()
        return 130
    except Exception as error:
        failure = failure_of(error)
        write_record(run.stage_error(stage), failure)
        level = logging.WARNING if failure.kind == "user" else logging.ERROR
        logger.log(level, "stage process failed", exc_info=error, extra=failure.model_dump())
        traceback.print_exc()
        return 2 if failure.kind in ("user", "machine") else 1
    return 0


def _run(stage: str, run: RunFolder) -> None:
    try:
        run_here_or_there(stage_named(stage), load_context(run))
    except OSError as error:
        known = explain_os_error(error)
        if known is None:
            raise
        raise known from error


if __name__ == "__main__":
    sys.exit(main())
