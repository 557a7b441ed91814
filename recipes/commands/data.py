"""`mtsql data`: datasets, made or read from a release, and their figures."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recipes.commands.shared import Commands, add_command, add_group, positive

SPLITS = ("train", "valid", "test", "test-unseen-db", "test-ood")


def add(commands: Commands) -> None:
    actions = add_group(commands, "data", "make datasets and look at them", "ACTION")

    parser = add_command(actions, "generate", generate, "make the embedded dataset, offline")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=1)
    for split in SPLITS:
        parser.add_argument(f"--num-{split}", type=positive, metavar="N", help="dialogues")

    parser = add_command(
        actions, "prepare", prepare, "read an official release, and run its gold SQL"
    )
    parser.add_argument("dataset", choices=("sparc", "cosql", "spider"))
    parser.add_argument("--source", type=Path, required=True, help="folder of the release")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--strict", action="store_true", help="end at the first turn that cannot be used"
    )
    _add_limits(parser)

    parser = add_command(actions, "stats", stats, "figures of a prepared dataset")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    _add_limits(parser)

    parser = add_command(actions, "audit", audit, "golds that do not say what their question says")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument(
        "--planted",
        type=positive,
        default=500,
        metavar="N",
        help="errors planted to measure precision and recall (default: 500)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the planted errors")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="findings, a JSON object a line, for data.exclude"
    )
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="sql.KEY=VALUE",
        help="limits of the run that is to use the data, e.g. sql.timeout_s=20 (default: a "
        "recipe's defaults)",
    )


def generate(arguments: argparse.Namespace) -> int:
    from mtsql.data.embedded import generate

    names = [f"num_{split.replace('-', '_')}" for split in SPLITS]
    given = {name: number for name in names if (number := getattr(arguments, name)) is not None}
    generate(arguments.out, seed=arguments.seed, **given)
    return _print_stats(arguments.out)


def prepare(arguments: argparse.Namespace) -> int:
    from mtsql.config.load import sql_config
    from mtsql.data.prepare import prepare

    limits = sql_config(arguments.overrides).limits()
    report = prepare(
        arguments.dataset,
        source=arguments.source,
        out=arguments.out,
        strict=arguments.strict,
        limits=limits,
    )
    for line in report.lines():
        print(line)
    return 0


def stats(arguments: argparse.Namespace) -> int:
    return _print_stats(arguments.folder, arguments.overrides, as_json=arguments.json)


def audit(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mtsql.audit.audit import audit
    from mtsql.audit.table import audit_table
    from mtsql.config.load import sql_config
    from mtsql.config.reward import RewardConfig
    from mtsql.data.dataset import load_dataset
    from mtsql.errors import DataError
    from mtsql.files import write_whole

    if arguments.out is not None and not arguments.out.parent.is_dir():
        raise DataError(f"--out {arguments.out}: no folder {arguments.out.parent}; make it first")
    found = audit(
        load_dataset(arguments.folder),
        sql_config(arguments.overrides),
        RewardConfig(),
        num_planted=arguments.planted,
        seed=arguments.seed,
    )
    if arguments.out is not None:
        text = "".join(f"{one.model_dump_json()}\n" for one in found.findings)
        write_whole(arguments.out, text)
    if arguments.json:
        print(found.as_json())
    else:
        Console().print(audit_table(found))
    return 0


def _print_stats(folder: Path, overrides: Sequence[str] = (), *, as_json: bool = False) -> int:
    from rich.console import Console

    from mtsql.config.load import sql_config
    from mtsql.data.dataset import load_dataset
    from mtsql.data.golds import check_dataset
    from mtsql.data.stats import dataset_stats, stats_json, stats_table

    dataset = load_dataset(folder)
    found = dataset_stats(dataset, check_dataset(dataset, sql_config(overrides)))
    if as_json:
        print(stats_json(found))
    else:
        Console().print(stats_table(found))
    return 0
