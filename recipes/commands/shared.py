"""What several commands share: arguments, their types, and how a command ends.

Only the standard library loads here; each command imports what it needs when it runs, so that
every --help is instant.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mtsql.errors import MachineError

if TYPE_CHECKING:
    from mtsql.config.run import RunConfig

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]
"""A command's deed: it returns the exit code."""
LOG_LEVELS = ("debug", "info", "warning", "error")
STACK = ("torch", "ray", "verl", "vllm", "transformers")
"""What training and evaluation need beyond the core."""


def add_command(commands: Commands, name: str, run: Run, help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    parser.set_defaults(run=run, overrides=None)
    return parser


def add_group(commands: Commands, name: str, help: str, metavar: str) -> Commands:
    """A command that only holds others, such as `mtsql data`."""
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    return parser.add_subparsers(required=True, metavar=metavar)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a YAML file, e.g. recipes/demo_cpu.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="dotted keys, e.g. rl.num_steps=40"
    )


def add_restart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart", action="store_true", help="start anew instead of resuming the run's folder"
    )


def add_log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="info",
        help="lowest level in RUN_DIR/logs/mtsql.jsonl (default: info)",
    )


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a time above 0")
    return number


def share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return number


def config_of(arguments: argparse.Namespace) -> "RunConfig":
    """The recipe with its overrides, before anything heavy is asked for."""
    from mtsql.config.load import load_config

    config = load_config(arguments.recipe, arguments.overrides)
    require_stack()
    return config


def require_stack() -> None:
    """Raises MachineError if this is a core install."""
    missing = [name for name in STACK if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"not installed: {', '.join(missing)}; run `make env` (`mtsql doctor` shows the rest)"
        )


def exit_code_of(stages: Callable[[], object]) -> int:
    """The exit code of a run's stages: a broken one is a line that names its log."""
    from actors.run.stage import StageFailed

    try:
        stages()
    except StageFailed as error:
        return fail(str(error), code=1)
    return 0


def fail(message: str, *, code: int = 2) -> int:
    """The one line of an error, on stderr; returns the exit code."""
    print(f"mtsql: error: {' '.join(message.split())}", file=sys.stderr)
    return code
