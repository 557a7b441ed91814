"""`mtsql selftaught`: a recipe's rounds, without its RL."""

import argparse

from recipes.commands.shared import (
    Commands,
    add_command,
    add_log_level,
    add_recipe,
    add_restart,
    config_of,
    exit_code_of,
    positive,
)


def add(commands: Commands) -> None:
    text = "sample, reject by difficulty, fine-tune, in rounds; stops before RL"
    parser = add_command(commands, "selftaught", run, text)
    add_recipe(parser)
    parser.add_argument(
        "--rounds", type=positive, metavar="N", help="rounds in all (default: the recipe's)"
    )
    add_restart(parser)
    add_log_level(parser)


def run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from actors.run.command import selftaught

    return exit_code_of(
        lambda: selftaught(
            config,
            rounds=arguments.rounds,
            restart=arguments.restart,
            log_level=arguments.log_level,
        )
    )
