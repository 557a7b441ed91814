"""`mtsql export`: a run's trajectories for those who fine-tune elsewhere."""

import argparse
from pathlib import Path

from recipes.commands.shared import Commands, add_command, require_stack


def add(commands: Commands) -> None:
    text = "write a run's trajectories for those who fine-tune elsewhere"
    parser = add_command(commands, "export", run, text)
    parser.add_argument(
        "source",
        metavar="RUN_DIR_OR_PARQUET",
        type=Path,
        help="a run's folder (what its rounds selected, else the scripts), or one file in it",
    )
    parser.add_argument("--format", choices=("llama_factory", "messages"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; new or empty")
    parser.add_argument("--only-right", action="store_true", help="leave out what EX or EM refuses")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="has the run's tokenizer (default: the recipe's)"
    )


def run(arguments: argparse.Namespace) -> int:
    require_stack()
    from recipes.export.run import export

    exported = export(
        arguments.source,
        arguments.format,
        arguments.out,
        only_right=arguments.only_right,
        model=arguments.model,
    )
    for line in exported.lines(arguments.format):
        print(line)
    return 0
