"""`mtsql eval`: a model or a run's policy, judged with greedy decoding."""

import argparse
import re
from pathlib import Path

from recipes.commands.shared import (
    Commands,
    add_command,
    add_log_level,
    add_recipe,
    config_of,
    exit_code_of,
)


def add(commands: Commands) -> None:
    parser = add_command(commands, "eval", run, "judge a policy with greedy decoding")
    add_recipe(parser)
    parser.add_argument("--model", type=Path, help="a model folder or a fetched model's name")
    parser.add_argument(
        "--policy", type=policy, default="rl", help="warm_start, round_N or rl (default)"
    )
    parser.add_argument("--split", action="append", help="repeatable (default: the recipe's)")
    parser.add_argument(
        "--history",
        action="append",
        choices=("gold", "predicted"),
        help="what memory holds of earlier turns; repeatable (default: the recipe's)",
    )
    parser.add_argument("--out", type=Path, help="folder for scores and trajectories")
    add_log_level(parser)


def run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from actors.run.command import evaluate

    return exit_code_of(
        lambda: evaluate(
            config,
            model=arguments.model,
            policy=arguments.policy,
            splits=tuple(arguments.split or config.evaluation.splits),
            histories=tuple(arguments.history or config.evaluation.histories),
            out=arguments.out,
            log_level=arguments.log_level,
        )
    )


def policy(text: str) -> str:
    if re.fullmatch(r"warm_start|rl|round_[1-9]\d*", text) is None:
        raise argparse.ArgumentTypeError(f"{text} is not warm_start, rl or round_N, e.g. round_2")
    return text
