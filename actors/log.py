"""What our own code logs: one JSON object a line in a run's `logs/mtsql.jsonl`.

    {"time": "2026-01-31T12:00:00.123Z", "level": "warning", "logger": "mtsql.sql.lane",
     "message": "worker killed", "stage": "rl", "process": 4711, "worker": 4720, "age_s": 6.02}

The command uses `written_to`; a stage's process, a trainer's rank and a Ray actor call `follow`,
which finds the file in a variable that they inherit. Libraries (ray, verl, vLLM, torch) are not in
it: what they print stays in the stage's own log.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

VARIABLE = "MTSQL_LOG"
"""LEVEL:STAGE:FILE of whoever is to log; the stage may be empty."""
PACKAGES = ("mtsql", "envs", "actors", "recipes")
LEVELS = ("debug", "info", "warning", "error")
_KNOWN = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
"""What every record has; anything else was given as `extra`."""


@contextmanager
def written_to(file: Path, level: str) -> Iterator[None]:
    """Log to a file in the block, in this process and in those that it starts.

    Args:
        level: of LEVELS, the lowest that is written.
    """
    os.environ[VARIABLE] = f"{level}::{file.absolute()}"
    follow()
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        for name in PACKAGES:
            _remove_handlers(logging.getLogger(name))


def follow() -> None:
    """Log as the process that started this one does; nowhere if it does not log."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return
    level, stage, file = given.split(":", 2)
    handler = JsonLines(Path(file), stage=stage or None)
    for name in PACKAGES:
        logger = logging.getLogger(name)
        _remove_handlers(logger)
        logger.addHandler(handler)
        logger.setLevel(level.upper())
        # Not also where a library has the root logger write: there it would be noise.
        logger.propagate = False


def variables(stage: str | None = None) -> dict[str, str]:
    """What a process must find in its environment to `follow`; nothing if we do not log.

    Args:
        stage: that its lines name; None: this process's own.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return {}
    level, own, file = given.split(":", 2)
    return {VARIABLE: f"{level}:{own if stage is None else stage}:{file}"}


class JsonLines(logging.Handler):
    """Appends one line for each record; several processes share the file."""

    def __init__(self, file: Path, *, stage: str | None) -> None:
        super().__init__()
        self._file = file
        self._stage = stage

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode() + b"\n"
            # One write to a file opened for appending: lines of two processes do not mix.
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError:
            pass  # a full disk, or a folder that is taken back: what cannot be logged stops nothing

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "stage": self._stage,
            "process": record.process,
        }
        fields |= {
            name: value
            for name, value in record.__dict__.items()
            if name not in _KNOWN and not name.startswith("_")  # as Ray's own mark of the time
        }
        if record.exc_info is not None:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _remove_handlers(logger: logging.Logger) -> None:
    for handler in list(logger.handlers):
        if isinstance(handler, JsonLines):
            logger.removeHandler(handler)
    logger.propagate = True
