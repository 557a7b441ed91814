"""Why a process of ours has failed, as a record: of an exception, or of a death without a word."""

import re
import signal
import sys
import traceback
from pathlib import Path

import mtsql
from mtsql.errors import MachineError, UserError
from mtsql.runs.records import Failure, FailureKind

ROOT = Path(mtsql.__file__).parents[1]
PACKAGES = ("mtsql", "envs", "actors", "recipes")
REFUSALS = (
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    NotImplementedError,
    AttributeError,
    ImportError,
)
"""What is given to the code will not do, so the same command meets the same again."""
REFUSING_LIBRARIES = ("jinja2", "safetensors", "omegaconf", "hydra")
"""Whose exceptions are of no class above: a template, weights or a configuration will not do."""
KNOWN = {
    "update_weights_bucket_megabytes": (
        "the model's largest tensor is beyond the buffer in which weights travel to vLLM: take a "
        "model with a smaller vocabulary or hidden size, or a GPU"
    ),
    "out of memory": (
        "set rl.max_batch_tokens, the fine-tuning's micro_batch_tokens or "
        "machine.rollout_memory_share lower"
    ),
}
"""Words of a library, and what to change in a recipe; resuming alone does not help."""
MAX_REASON_CHARS = 400
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_RAY_PROCESS = re.compile(r"ray::([\w.]+)\(")


class Failed(Exception):
    """A process that we started has failed and said why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return self.failure.reason


def failure_of(error: BaseException, *, actor: str | None = None) -> Failure:
    """The record of an exception, also of one that Ray or one of our processes passes on.

    Args:
        actor: the process that met it, if it is not the stage's own.
    """
    if isinstance(error, Failed):
        return error.failure
    place = None
    while True:
        place = _place(error) or place
        # Ray wraps what another process raises, again for each process on the way.
        cause = _ray_cause(error)
        if cause is None:
            break
        processes = _RAY_PROCESS.findall(str(error))
        actor = f"Ray actor {processes[-1]}" if processes else actor
        error = cause
    if isinstance(error, Failed):
        return error.failure
    kind = _kind(error)
    text = " ".join(str(error).split())
    is_explained = kind in ("user", "machine")
    reason = text if is_explained else f"{type(error).__name__}: {text}"[:MAX_REASON_CHARS]
    change = next((change for words, change in KNOWN.items() if words in text), None)
    return Failure(
        kind=kind,
        reason=reason,
        place=place,
        actor=actor,
        resumable=kind in ("machine", "fault") and change is None,
        change=None if is_explained else change,
    )


def death_of(exit_code: int, *, log: Path | None = None, actor: str | None = None) -> Failure:
    """The record of a process that ended without one.

    Args:
        exit_code: of `subprocess`: the negative number of a signal.
        log: what the process has printed; its last line is quoted as it is.
    """
    reason = f"ended with exit code {exit_code} and no word"
    if exit_code < 0:
        reason = f"ended by {signal.Signals(-exit_code).name}"
        if -exit_code == signal.SIGKILL:
            reason += ", as the kernel does when memory runs out"
    line = None if log is None else _last_line(log)
    if line is not None:
        reason += f"; the last line of its log: {line}"
    kind: FailureKind = "killed" if exit_code < 0 else "fault"
    return Failure(kind=kind, reason=reason, actor=actor, resumable=True)


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, MachineError):
        return "machine"
    if isinstance(error, UserError):
        return "user"
    library = type(error).__module__.partition(".")[0]
    is_refusal = isinstance(error, REFUSALS) or library in REFUSING_LIBRARIES
    return "refusal" if is_refusal else "fault"


def _ray_cause(error: BaseException) -> BaseException | None:
    """What another process raised; None for an exception of this one."""
    exceptions = sys.modules.get("ray.exceptions")  # without Ray there is nothing to unwrap
    if exceptions is None or not isinstance(error, exceptions.RayTaskError):
        return None
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else None


def _place(error: BaseException) -> str | None:
    """The innermost frame in our own code: of this process, or in the text of Ray's error."""
    frames = [
        (frame.filename, frame.lineno, frame.name)
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    if _ray_cause(error) is not None:
        frames += _FRAME.findall(str(error))
    for name, line, function in reversed(frames):
        path = Path(name)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
            return f"{path.relative_to(ROOT).as_posix()}:{line} ({function})"
    return None


def _last_line(log: Path) -> str | None:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip()[:MAX_REASON_CHARS] if lines else None
