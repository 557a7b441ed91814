"""`mtsql rescore`: the rewards of a run's saved trajectories, with other weights."""

import argparse
from pathlib import Path

from recipes.commands.shared import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(commands, "rescore", run, "score a run's saved trajectories again")
    parser.add_argument("run_folder", metavar="RUN_DIR", type=Path)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="reward keys, e.g. reward.verify=0.2"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mtsql.rewards.rescore import headline, rescore, rescore_json, rescore_table
    from mtsql.runs.folder import RunFolder

    folder = RunFolder(arguments.run_folder)
    result = rescore(folder.read_note().recipe.reward, folder.trajectories, arguments.overrides)
    if arguments.json:
        print(rescore_json(result))
        return 0
    print(headline(result))
    Console().print(rescore_table(result))
    for name in result.differing:
        print(f"differs: {name}")
    return 0
