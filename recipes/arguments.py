"""The commands of `mtsql` and their arguments, as argparse knows them."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import mtsql
from recipes import commands

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mtsql", description="Train, judge and run agents for multi-turn text-to-SQL."
    )
    parser.add_argument("--version", action="version", version=f"mtsql {mtsql.__version__}")
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "what is installed, what would be used, what is missing"
    _command(group, "doctor", commands.doctor, text)
    _add_data(group)
    _add_train(group)
    _add_selftaught(group)
    _add_eval(group)
    _add_play(group)
    _add_sql(group)
    _add_score(group)
    _add_bench(group)
    _add_report(group)
    _add_rescore(group)
    _add_export(group)
    return parser


def _command(
    group: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str
) -> argparse.ArgumentParser:
    parser = group.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    parser.set_defaults(run=run, overrides=None)
    return parser


def _group(group: Commands, name: str, help: str, metavar: str) -> Commands:
    parser = group.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    return parser.add_subparsers(required=True, metavar=metavar)


def _add_data(group: Commands) -> None:
    actions = _group(group, "data", "make datasets and look at them", "ACTION")

    text = "make the embedded dataset, offline"
    generate = _command(actions, "generate", commands.data_generate, text)
    generate.add_argument("--out", type=Path, required=True, help="folder to write")
    generate.add_argument("--seed", type=int, default=1)
    for split in ("train", "valid", "test", "test-ood"):
        generate.add_argument(f"--num-{split}", type=_positive, metavar="N", help="dialogues")

    text = "read an official release, strictly"
    prepare = _command(actions, "prepare", commands.data_prepare, text)
    prepare.add_argument("dataset", choices=("sparc", "cosql", "spider"))
    prepare.add_argument("--source", type=Path, required=True, help="folder of the release")
    prepare.add_argument("--out", type=Path, required=True, help="folder to write")

    stats = _command(actions, "stats", commands.data_stats, "figures of a prepared dataset")
    stats.add_argument("folder", metavar="DIR", type=Path)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a YAML file, e.g. recipes/demo_cpu.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="dotted keys, e.g. rl.num_steps=40"
    )


def _add_train(group: Commands) -> None:
    text = "run a recipe: warm start, RL, evaluation, report"
    parser = _command(group, "train", commands.train, text)
    _add_recipe(parser)
    _add_restart(parser)


def _add_selftaught(group: Commands) -> None:
    text = "sample, reject by difficulty, fine-tune, in rounds; stops before RL"
    parser = _command(group, "selftaught", commands.selftaught, text)
    _add_recipe(parser)
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help="rounds in all (default: the recipe's)"
    )
    _add_restart(parser)


def _add_restart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart", action="store_true", help="start anew instead of resuming the run's folder"
    )


def _add_eval(group: Commands) -> None:
    parser = _command(group, "eval", commands.evaluate, "judge a policy with greedy decoding")
    _add_recipe(parser)
    parser.add_argument("--model", type=Path, help="a model folder (default: the run's policy)")
    parser.add_argument(
        "--policy", type=_policy, default="rl", help="warm_start, round_N or rl (default)"
    )
    parser.add_argument("--split", action="append", help="repeatable (default: the recipe's)")
    parser.add_argument(
        "--history",
        action="append",
        choices=("gold", "predicted"),
        help="what memory holds of earlier turns; repeatable (default: the recipe's)",
    )
    parser.add_argument("--out", type=Path, help="folder for scores and trajectories")


def _add_play(group: Commands) -> None:
    text = "take the agent's place, in a random dialogue or yours"
    parser = _command(group, "play", commands.play, text)
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared (default: embedded)")
    parser.add_argument("--dialogue", metavar="ID", help="default: any")
    parser.add_argument(
        "--turn", type=_positive, default=1, metavar="N", help="the first one played"
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
        "--history", choices=("gold", "predicted"), help="of earlier turns (default: the recipe's)"
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


def _add_sql(group: Commands) -> None:
    parser = _command(group, "sql", commands.sql, "run SQL as an agent's SQL is run")
    parser.add_argument("query", nargs="?", metavar="SQL", help="one statement that only reads")
    parser.add_argument(
        "--db", metavar="FILE_OR_URL", help="a SQLite or .duckdb file, or a SQLAlchemy URL"
    )
    parser.add_argument("--db-root", type=Path, metavar="DIR", help="holds DB/DB.sqlite by name")
    parser.add_argument("--timeout-s", type=_seconds, default=2.0, metavar="S", help="default: 2")
    parser.add_argument(
        "--max-rows", type=_positive, default=1000, metavar="N", help="default: 1000"
    )
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help="read {id, sql, db} objects, one a line, and write one answer a line",
    )


def _add_score(group: Commands) -> None:
    text = "judge predictions in files: EX, EM, QM, IM as the official script"
    parser = _command(group, "score", commands.score, text)
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
        "--timeout-s", type=_seconds, default=30.0, metavar="S", help="of one query; default: 30"
    )
    parser.add_argument("--jobs", type=_positive, metavar="N", help="workers (default: cores)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a row for each pair, summary.json beside it; its folder is made",
    )


def _add_export(group: Commands) -> None:
    text = "write a run's trajectories for those who fine-tune elsewhere"
    parser = _command(group, "export", commands.export, text)
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


def _add_report(group: Commands) -> None:
    parser = _command(group, "report", commands.report, "write RUN_DIR/report.html again")
    parser.add_argument("run_folder", metavar="RUN_DIR", type=Path)


def _add_rescore(group: Commands) -> None:
    text = "score a run's saved trajectories again"
    parser = _command(group, "rescore", commands.rescore, text)
    parser.add_argument("run_folder", metavar="RUN_DIR", type=Path)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="reward keys, e.g. reward.verify=0.2"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def _add_bench(group: Commands) -> None:
    parts = _group(group, "bench", "measure parts of the system on this machine", "PART")

    text = "the SQL pool behind Ray: rates, tails, recovery"
    parser = _command(parts, "sql", commands.bench_sql, text)
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared (default: embedded)")
    parser.add_argument("--seconds", type=_seconds, default=3.0, metavar="S", help="of each load")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        type=_peer,
        metavar="NAME=CHECKOUT",
        help="nemo_gym or skyrl, measured beside ours; repeatable",
    )
    _add_runs(parser)

    text = "our verdicts and speed beside the official evaluator's"
    parser = _command(parts, "evaluator", commands.bench_evaluator, text)
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

    text = "the environment: time of a step, memory of a crowd"
    parser = _command(parts, "env", commands.bench_env, text)
    _add_count(parser, "--dialogues", 64, "at a time")
    _add_runs(parser)

    text = "a self-taught round's sampling beside vLLM generating the same tokens offline"
    parser = _command(parts, "sampling", commands.bench_sampling, text)
    _add_recipe(parser)
    parser.add_argument("--model", type=Path, help="a model folder (default: the run's warm start)")
    _add_count(parser, "--items", 96, "of each run")
    _add_runs(parser)

    text = "rejection by difficulty over simulated samples: time and memory"
    parser = _command(parts, "selection", commands.bench_selection, text)
    _add_count(parser, "--items", 10_000, "training turns")
    _add_count(parser, "--samples", 20, "of each item")
    _add_runs(parser)


def _add_count(parser: argparse.ArgumentParser, name: str, default: int, help: str) -> None:
    parser.add_argument(
        name, type=_positive, default=default, metavar="N", help=f"{help}; default: {default}"
    )


def _add_runs(parser: argparse.ArgumentParser) -> None:
    _add_count(parser, "--runs", 5, "figures are their medians")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a time above 0")
    return number


def _policy(text: str) -> str:
    if re.fullmatch(r"warm_start|rl|round_[1-9]\d*", text) is None:
        raise argparse.ArgumentTypeError(f"{text} is not warm_start, rl or round_N, e.g. round_2")
    return text


def _peer(text: str) -> tuple[str, Path]:
    name, _, checkout = text.partition("=")
    if name not in ("nemo_gym", "skyrl") or not checkout:
        raise argparse.ArgumentTypeError(f"{text} is not nemo_gym=FOLDER or skyrl=FOLDER")
    return name, Path(checkout)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number
