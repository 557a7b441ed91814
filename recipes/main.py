"""The command `mtsql`.

Only the standard library loads here, so that every --help is instant. A user's mistake is one line
on stderr and exit code 2; a stage that broke by itself names its log, with exit code 1; Ctrl-C is
exit code 130.
"""

import argparse
import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import mtsql
from mtsql.errors import UserError
from recipes.commands import (
    bench,
    cocte,
    data,
    doctor,
    evaluate,
    export,
    model,
    play,
    prm,
    report,
    rescore,
    score,
    selftaught,
    sql,
    train,
)
from recipes.commands.shared import fail

COMMANDS = (
    doctor,
    data,
    model,
    train,
    selftaught,
    evaluate,
    play,
    sql,
    score,
    cocte,
    prm,
    bench,
    report,
    rescore,
    export,
)
"""In the order in which --help shows them."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mtsql", description="Train, judge and run agents for multi-turn text-to-SQL."
    )
    parser.add_argument("--version", action="version", version=f"mtsql {mtsql.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """argparse, except that overrides may also follow an option."""
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    late = [word for word in rest if "=" in word and not word.startswith("-")]
    if parsed.overrides is None or len(late) < len(rest):
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return parsed
    parsed.overrides = [*parsed.overrides, *late]
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = parse(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by the caller: the first file opened would take its place
        return fail("standard output is closed; send it to a file, or to /dev/null")
    try:
        code = parsed.run(parsed)
        sys.stdout.flush()
    except UserError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print(f"mtsql: interrupted{_how_to_go_on(parsed)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`head`, `less`) is gone; keep the interpreter's last flush quiet as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in NO_SPACE:
            path = Path(error.filename or Path.cwd())
            return fail(f"{path}: no space left ({_free_mb(path)} MB); make free space, run again")
        if error.errno in NO_ACCESS and error.filename:
            return fail(f"{error.filename}: {error.strerror}; choose a path that you may write")
        raise
    return code


def _how_to_go_on(parsed: argparse.Namespace) -> str:
    """Only the commands that know --restart go on from an earlier run."""
    restarts = getattr(parsed, "restart", None)
    if restarts is None:
        return ""
    command = "the command without --restart" if restarts else "the same command"
    return f"; {command} goes on from what is saved"


def _free_mb(path: Path) -> int:
    folder = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(folder).free // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
