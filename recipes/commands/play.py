"""`mtsql play`: a person in the policy's place."""

import argparse
from pathlib import Path

from recipes.commands.shared import Commands, add_command, positive


def add(commands: Commands) -> None:
    text = "take the agent's place, in a random dialogue or yours"
    parser = add_command(commands, "play", run, text)
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared (default: embedded)")
    parser.add_argument("--dialogue", metavar="ID", help="default: any")
    parser.add_argument(
        "--turn", type=positive, default=1, metavar="N", help="the first one played"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the embedded data and the choice")
    parser.add_argument("--db", metavar="FILE_OR_URL", help="a database of yours, without rewards")
    parser.add_argument(
        "--question",
        dest="questions",
        action="append",
        default=[],
        metavar="TEXT",
        help="for --db; repeatable",
    )
    parser.add_argument(
        "--goal", metavar="SQL", help="for --db: a user by rule asks for it part by part; scored"
    )
    parser.add_argument(
        "--history",
        choices=("gold", "predicted"),
        help="of earlier turns (default: gold; with --db: predicted)",
    )
    parser.add_argument(
        "--actions",
        type=Path,
        metavar="FILE",
        help="commands to play, one a line, instead of asking",
    )
    parser.add_argument("--recipe", type=Path, help="environment and rewards (default: the demo's)")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="dotted keys of the recipe"
    )


def run(arguments: argparse.Namespace) -> int:
    from recipes.play.game import Options, play

    return play(Options(**{name: getattr(arguments, name) for name in Options.__slots__}))
