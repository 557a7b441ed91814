"""`mtsql cocte`: chains of views for gold queries, and a look into a chain."""

import argparse
from pathlib import Path

from recipes.commands.shared import Commands, add_command, add_group, positive, seconds, share


def add(commands: Commands) -> None:
    actions = add_group(commands, "cocte", "chains of views: make and look at them", "ACTION")

    parser = add_command(
        actions, "build", build, "gold queries as chains of views, run and compared with gold"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a prepared folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--split", action="append", metavar="NAME", help="may be given again (default: train)"
    )
    parser.add_argument(
        "--min-distance",
        type=share,
        metavar="SHARE",
        help="of two chains of a gold that differ in less of their trees one goes (default: 0.15)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="sql.KEY=VALUE",
        help="limits of the run that is to use the chains (default: a recipe's defaults)",
    )

    parser = add_command(actions, "show", show, "a query as a chain, and what each view gives")
    parser.add_argument("query", metavar="SQL", help="with WITH or without")
    parser.add_argument(
        "--db", required=True, metavar="FILE_OR_URL", help="a SQLite or .duckdb file, or a URL"
    )
    parser.add_argument(
        "--rows", type=positive, default=5, metavar="N", help="rows to show of a view (default: 5)"
    )
    parser.add_argument("--timeout-s", type=seconds, default=5.0, metavar="S", help="default: 5")
    parser.add_argument(
        "--decompose", action="store_true", help="take a query apart by rules, without a model"
    )


def build(arguments: argparse.Namespace) -> int:
    from mtsql.chains.distance import MIN_DISTANCE
    from mtsql.config.load import sql_config
    from recipes.cocte.build import build

    least = MIN_DISTANCE if arguments.min_distance is None else arguments.min_distance
    sql = sql_config(arguments.overrides)
    splits = arguments.split or ["train"]
    for line in build(arguments.data, arguments.out, splits, sql, min_distance=least):
        print(line)
    return 0


def show(arguments: argparse.Namespace) -> int:
    from mtsql.sql.records import QueryLimits
    from recipes.cocte.show import show
    from recipes.sql.answers import databases_of

    [(db_id, address)] = databases_of(arguments.db, None).items()
    limits = QueryLimits(timeout_s=arguments.timeout_s)
    is_whole = show(
        arguments.query,
        db_id,
        address,
        limits,
        num_rows=arguments.rows,
        decompose=arguments.decompose,
    )
    return 0 if is_whole else 1
