"""`mtsql score`: EX and EM of predictions in files, with the verdicts of the official script."""

import argparse
from pathlib import Path

from recipes.commands.shared import Commands, add_command, positive, seconds


def add(commands: Commands) -> None:
    text = "judge predictions in files: EX, EM, QM, IM as the official script"
    parser = add_command(commands, "score", run, text)
    _add_files(parser)
    parser.add_argument(
        "--etype", choices=("exec", "match", "all"), default="all", help="EX, EM, or both (default)"
    )
    parser.add_argument("--keep-distinct", action="store_true", help="EX: DISTINCT counts")
    parser.add_argument(
        "--plug-value", action="store_true", help="EX: try gold's values in each prediction"
    )
    parser.add_argument(
        "--test-suite", action="store_true", help="EX: on every .sqlite file of DIR/DB"
    )
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        choices=("keep_value_word", "keep_literals", "numbers_by_value", "empty_is_wrong"),
        help="a saner rule in place of the official one; repeatable",
    )
    parser.add_argument(
        "--timeout-s", type=seconds, default=30.0, metavar="S", help="of one query; default: 30"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="workers (default: cores)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a row for each pair, summary.json beside it; its folder is made",
    )

    parser.add_argument(
        "--strict",
        action="store_true",
        help="end at the first pair that cannot be judged, instead of leaving it out",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gold", type=Path, metavar="FILE", help="lines of SQL, a tab, a db_id")
    parser.add_argument(
        "--pred",
        type=Path,
        metavar="FILE",
        help="lines of SQL; blank lines between dialogues in both files, or without any each line "
        "is a dialogue by itself, with ids 0, 1, ... and no shares by turn",
    )
    parser.add_argument(
        "--jsonl",
        type=Path,
        metavar="FILE",
        help="instead: objects {id, db_id, gold, pred, [dialogue, turn, source]}, one a line; "
        "turns count from 0 if the file holds a 0, else from 1",
    )
    parser.add_argument("--db-root", type=Path, metavar="DIR", help="holds DB/DB.sqlite by name")
    parser.add_argument(
        "--tables", type=Path, metavar="FILE", help="Spider's tables.json (default: the databases)"
    )


def run(arguments: argparse.Namespace) -> int:
    from recipes.score.job import ScoreJob, rules_of, score

    score(
        ScoreJob(
            gold=arguments.gold,
            pred=arguments.pred,
            jsonl=arguments.jsonl,
            db_root=arguments.db_root,
            tables=arguments.tables,
            etype=arguments.etype,
            rules=rules_of(
                arguments.rule,
                keep_distinct=arguments.keep_distinct,
                plug_value=arguments.plug_value,
            ),
            test_suite=arguments.test_suite,
            timeout_s=arguments.timeout_s,
            jobs=arguments.jobs,
            out=arguments.out,
            strict=arguments.strict,
        )
    )
    return 0
