"""`mtsql bench`: parts of the system, measured on this machine."""

import argparse
from pathlib import Path

from recipes.commands.shared import (
    Commands,
    add_command,
    add_group,
    add_recipe,
    config_of,
    positive,
    require_stack,
    seconds,
)


def add(commands: Commands) -> None:
    parts = add_group(commands, "bench", "measure parts of the system on this machine", "PART")

    parser = add_command(parts, "sql", sql, "the SQL pool behind Ray: rates, tails, recovery")
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared (default: embedded)")
    parser.add_argument("--seconds", type=seconds, default=3.0, metavar="S", help="of each load")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        type=peer,
        metavar="NAME=CHECKOUT",
        help="nemo_gym or skyrl, measured as well; repeatable",
    )
    _add_runs(parser)

    text = "our verdicts and speed compared with the official evaluator's"
    parser = add_command(parts, "evaluator", evaluator, text)
    parser.add_argument(
        "--official",
        type=Path,
        required=True,
        metavar="CHECKOUT",
        help="of taoyds/test-suite-sql-eval",
    )
    parser.add_argument(
        "--official-python",
        type=Path,
        metavar="FILE",
        help="an interpreter with nltk, sqlparse and tqdm (default: this one)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared (default: embedded)")
    _add_count(parser, "--pairs", 1000, "of each run")
    _add_runs(parser)

    parser = add_command(parts, "env", env, "the environment: time of a step, memory of a crowd")
    _add_count(parser, "--dialogues", 64, "at a time")
    _add_runs(parser)

    text = "chains of views, run view by view, compared with their composed queries"
    parser = add_command(parts, "cocte", cocte, text)
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared (default: embedded)")
    _add_count(parser, "--queries", 500, "golds of train")
    _add_runs(parser)

    text = "a self-taught round's sampling compared with vLLM generating the same tokens"
    parser = add_command(parts, "sampling", sampling, text)
    add_recipe(parser)
    parser.add_argument("--model", type=Path, help="a model folder (default: the run's warm start)")
    _add_count(parser, "--items", 96, "of each run")
    _add_runs(parser)

    text = "rejection by difficulty over simulated samples: time and memory"
    parser = add_command(parts, "selection", selection, text)
    _add_count(parser, "--items", 10_000, "training turns")
    _add_count(parser, "--samples", 20, "of each item")
    _add_runs(parser)


def _add_count(parser: argparse.ArgumentParser, name: str, default: int, help: str) -> None:
    parser.add_argument(
        name, type=positive, default=default, metavar="N", help=f"{help}; default: {default}"
    )


def _add_runs(parser: argparse.ArgumentParser) -> None:
    _add_count(parser, "--runs", 5, "figures are their medians")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def peer(text: str) -> tuple[str, Path]:
    name, _, checkout = text.partition("=")
    if name not in ("nemo_gym", "skyrl") or not checkout:
        raise argparse.ArgumentTypeError(f"{text} is not nemo_gym=FOLDER or skyrl=FOLDER")
    return name, Path(checkout)


def evaluator(arguments: argparse.Namespace) -> int:
    """1 if a verdict differs from the official one."""
    from recipes.bench.evaluator import run

    num_disagreements = run(
        arguments.official,
        python=arguments.official_python,
        data=arguments.data,
        num_runs=arguments.runs,
        num_pairs=arguments.pairs,
        as_json=arguments.json,
    )
    return 1 if num_disagreements else 0


def sql(arguments: argparse.Namespace) -> int:
    require_stack()
    from recipes.bench.sql import run

    run(
        arguments.data,
        num_runs=arguments.runs,
        seconds=arguments.seconds,
        peers=dict(arguments.peer),
        as_json=arguments.json,
    )
    return 0


def env(arguments: argparse.Namespace) -> int:
    require_stack()
    from recipes.bench.env import run

    run(num_dialogues=arguments.dialogues, num_runs=arguments.runs, as_json=arguments.json)
    return 0


def cocte(arguments: argparse.Namespace) -> int:
    from recipes.bench.cocte import run

    run(
        arguments.data,
        num_queries=arguments.queries,
        num_runs=arguments.runs,
        as_json=arguments.json,
    )
    return 0


def selection(arguments: argparse.Namespace) -> int:
    from recipes.bench.selection import run

    run(
        num_items=arguments.items,
        num_samples=arguments.samples,
        num_runs=arguments.runs,
        as_json=arguments.json,
    )
    return 0


def sampling(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from recipes.bench.sampling import run

    run(
        config,
        model=arguments.model,
        num_items=arguments.items,
        num_runs=arguments.runs,
        as_json=arguments.json,
    )
    return 0
