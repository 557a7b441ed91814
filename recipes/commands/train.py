"""`mtsql train`: a recipe from its data to its report."""

import argparse

from recipes.commands.shared import (
    Commands,
    add_command,
    add_log_level,
    add_recipe,
    add_restart,
    config_of,
    exit_code_of,
)


def add(commands: Commands) -> None:
    parser = add_command(commands, "train", run, "run a recipe: warm start, RL, evaluation, report")
    add_recipe(parser)
    add_restart(parser)
    add_log_level(parser)


def run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from actors.run.command import train

    return exit_code_of(
        lambda: train(config, restart=arguments.restart, log_level=arguments.log_level)
    )
