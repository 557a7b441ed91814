"""The command `mtsql`.

Only the standard library loads here, so that every --help is instant; each command imports what it
needs when it runs. A user's mistake is one line on stderr and exit code 2; a stage that broke by
itself names its log, with exit code 1; Ctrl-C is exit code 130.
"""

import argparse
import errno
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import mtsql
from mtsql.errors import ConfigError, DataError, MachineError, UserError

if TYPE_CHECKING:
    from mtsql.config import RunConfig

STACK = ("torch", "ray", "verl", "vllm", "transformers")
"""What training and evaluation need beyond the core."""
RUN_FILES = ("run.json", "summary.json")
"""One of them is in every run's folder."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def doctor(arguments: argparse.Namespace) -> int:
    from recipes.doctor import print_findings

    return print_findings(Path.cwd())


def data_generate(arguments: argparse.Namespace) -> int:
    from mtsql.data.embedded import generate

    given = {
        name: getattr(arguments, name)
        for name in ("num_train", "num_valid", "num_test", "num_test_ood")
        if getattr(arguments, name) is not None
    }
    generate(arguments.out, seed=arguments.seed, **given)
    return _print_stats(arguments.out)


def data_prepare(arguments: argparse.Namespace) -> int:
    from mtsql.data.prepare import prepare

    report = prepare(arguments.dataset, source=arguments.source, out=arguments.out)
    for line in report.lines():
        print(line)
    return 0


def data_stats(arguments: argparse.Namespace) -> int:
    return _print_stats(arguments.folder)


def train(arguments: argparse.Namespace) -> int:
    config = _config_of(arguments)
    from actors.run import train as run_training

    return _end_of(lambda: run_training(config, restart=arguments.restart))


def selftaught(arguments: argparse.Namespace) -> int:
    config = _config_of(arguments)
    from actors.run import selftaught as run_rounds

    return _end_of(lambda: run_rounds(config, rounds=arguments.rounds, restart=arguments.restart))


def evaluate(arguments: argparse.Namespace) -> int:
    config = _config_of(arguments)
    from actors.run import evaluate as run_evaluation

    return _end_of(
        lambda: run_evaluation(
            config,
            model=arguments.model,
            policy=arguments.policy,
            splits=tuple(arguments.split or config.evaluation.splits),
            histories=tuple(arguments.history or config.evaluation.histories),
            out=arguments.out,
        )
    )


def _config_of(arguments: argparse.Namespace) -> "RunConfig":
    """The recipe with its overrides, before anything heavy is asked for."""
    from mtsql.config import load_config

    config = load_config(arguments.recipe, arguments.overrides)
    _require_stack()
    return config


def _end_of(stages: Callable[[], object]) -> int:
    """The exit code of stages: a broken one is a line that names its log."""
    from actors.run import StageFailed

    try:
        stages()
    except StageFailed as error:
        return _fail(str(error), code=1)
    return 0


def play(arguments: argparse.Namespace) -> int:
    from recipes.play import Options, run

    return run(Options(**{name: getattr(arguments, name) for name in Options.__slots__}))


def sql(arguments: argparse.Namespace) -> int:
    from mtsql.sql.records import QueryLimits
    from recipes.sql import answer_lines, databases_of, print_answer, warn

    databases = databases_of(arguments.db, arguments.db_root)
    limits = QueryLimits(timeout_s=arguments.timeout_s, max_rows=arguments.max_rows)
    if not arguments.jsonl:
        if arguments.db is None or arguments.query is None:
            raise ConfigError("give --db FILE_OR_URL and a query, or --jsonl to read requests")
        warn(databases)
        return 0 if print_answer(databases, arguments.query, limits) else 1
    if arguments.query is not None:
        raise ConfigError("--jsonl reads its queries from standard input; give no other")
    warn(databases)
    answer_lines(databases, sys.stdin.fileno(), limits, _write_now)
    return 0


def _write_now(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def score(arguments: argparse.Namespace) -> int:
    from recipes.score import ScoreJob, rules_of
    from recipes.score import score as score_files

    score_files(
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
        )
    )
    return 0


def bench_evaluator(arguments: argparse.Namespace) -> int:
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


def bench_sql(arguments: argparse.Namespace) -> int:
    _require_stack()
    from recipes.bench.sql import run

    run(
        arguments.data,
        num_runs=arguments.runs,
        seconds=arguments.seconds,
        peers=dict(arguments.peer),
        as_json=arguments.json,
    )
    return 0


def bench_env(arguments: argparse.Namespace) -> int:
    _require_stack()
    from recipes.bench.env import run

    run(num_dialogues=arguments.dialogues, num_runs=arguments.runs, as_json=arguments.json)
    return 0


def bench_selection(arguments: argparse.Namespace) -> int:
    from recipes.bench.selection import run

    run(
        num_items=arguments.items,
        num_samples=arguments.samples,
        num_runs=arguments.runs,
        as_json=arguments.json,
    )
    return 0


def bench_sampling(arguments: argparse.Namespace) -> int:
    from mtsql.config import load_config

    config = load_config(arguments.recipe, arguments.overrides)
    _require_stack()
    from recipes.bench.sampling import run

    run(
        config,
        model=arguments.model,
        num_items=arguments.items,
        num_runs=arguments.runs,
        as_json=arguments.json,
    )
    return 0


def report(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mtsql.report import summary_tables, write_report
    from mtsql.run_files import read_summary

    folder = arguments.run_folder
    if folder.is_dir() and not any((folder / name).is_file() for name in RUN_FILES):
        raise DataError(f"{folder}: holds no run ({' or '.join(RUN_FILES)}); name a run's folder")
    page = write_report(folder)
    summary = read_summary(folder)
    if summary is not None:
        for table in summary_tables(summary):
            Console().print(table)
    print(page)
    return 0


def rescore(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mtsql.rescore import headline, rescore_json, rescore_table
    from mtsql.rescore import rescore as score_again

    result = score_again(arguments.run_folder, arguments.overrides)
    if arguments.json:
        print(rescore_json(result))
        return 0
    print(headline(result))
    Console().print(rescore_table(result))
    for name in result.differing:
        print(f"differs: {name}")
    return 0


def export(arguments: argparse.Namespace) -> int:
    _require_stack()
    from recipes.export import export as export_run

    exported = export_run(
        arguments.source,
        arguments.format,
        arguments.out,
        only_right=arguments.only_right,
        model=arguments.model,
    )
    for line in exported.lines(arguments.format):
        print(line)
    return 0


def _print_stats(folder: Path) -> int:
    from rich.console import Console

    from mtsql.data.dataset import load_dataset
    from mtsql.data.stats import dataset_stats, stats_table

    Console().print(stats_table(dataset_stats(load_dataset(folder))))
    return 0


def _require_stack() -> None:
    missing = [name for name in STACK if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(
            f"not installed: {', '.join(missing)}; run `make env` (`mtsql doctor` shows the rest)"
        )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mtsql", description="Train, judge and run agents for multi-turn text-to-SQL."
    )
    parser.add_argument("--version", action="version", version=f"mtsql {mtsql.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(commands, "doctor", doctor, "what is installed, what would be used, what is missing")
    _add_data(commands)
    _add_train(commands)
    _add_selftaught(commands)
    _add_eval(commands)
    _add_play(commands)
    _add_sql(commands)
    _add_score(commands)
    _add_bench(commands)
    reporting = _command(commands, "report", report, "write RUN_DIR/report.html again")
    reporting.add_argument("run_folder", metavar="RUN_DIR", type=Path)
    scoring = _command(commands, "rescore", rescore, "score a run's saved trajectories again")
    scoring.add_argument("run_folder", metavar="RUN_DIR", type=Path)
    scoring.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="reward keys, e.g. reward.verify=0.2"
    )
    scoring.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _add_export(commands)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    parser.set_defaults(run=run, overrides=None)
    return parser


def _add_data(commands: Commands) -> None:
    text = "make datasets and look at them"
    group = commands.add_parser("data", help=text, description=f"{text.capitalize()}.")
    actions = group.add_subparsers(required=True, metavar="ACTION")

    generate = _command(actions, "generate", data_generate, "make the embedded dataset, offline")
    generate.add_argument("--out", type=Path, required=True, help="folder to write")
    generate.add_argument("--seed", type=int, default=1)
    for split in ("train", "valid", "test", "test-ood"):
        generate.add_argument(f"--num-{split}", type=_positive, metavar="N", help="dialogues")

    prepare = _command(actions, "prepare", data_prepare, "read an official release, strictly")
    prepare.add_argument("dataset", choices=("sparc", "cosql", "spider"))
    prepare.add_argument("--source", type=Path, required=True, help="folder of the release")
    prepare.add_argument("--out", type=Path, required=True, help="folder to write")

    stats = _command(actions, "stats", data_stats, "figures of a prepared dataset")
    stats.add_argument("folder", metavar="DIR", type=Path)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, help="a YAML file, e.g. recipes/demo_cpu.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="dotted keys, e.g. rl.num_steps=40"
    )


def _add_train(commands: Commands) -> None:
    parser = _command(commands, "train", train, "run a recipe: warm start, RL, evaluation, report")
    _add_recipe(parser)
    parser.add_argument(
        "--restart", action="store_true", help="start anew instead of resuming the run's folder"
    )


def _add_selftaught(commands: Commands) -> None:
    text = "sample, reject by difficulty, fine-tune, in rounds; stops before RL"
    parser = _command(commands, "selftaught", selftaught, text)
    _add_recipe(parser)
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help="rounds in all (default: the recipe's)"
    )
    parser.add_argument(
        "--restart", action="store_true", help="start anew instead of resuming the run's folder"
    )


def _add_eval(commands: Commands) -> None:
    parser = _command(commands, "eval", evaluate, "judge a policy with greedy decoding")
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


def _add_play(commands: Commands) -> None:
    parser = _command(
        commands, "play", play, "take the agent's place, in a random dialogue or yours"
    )
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


def _add_sql(commands: Commands) -> None:
    parser = _command(commands, "sql", sql, "run SQL as an agent's SQL is run")
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


def _add_score(commands: Commands) -> None:
    parser = _command(
        commands,
        "score",
        score,
        "judge predictions in files: EX, EM, QM, IM as the official script",
    )
    parser.add_argument("--gold", type=Path, metavar="FILE", help="lines of SQL, a tab, a db_id")
    parser.add_argument(
        "--pred", type=Path, metavar="FILE", help="lines of SQL, blank lines between dialogues"
    )
    parser.add_argument(
        "--jsonl",
        type=Path,
        metavar="FILE",
        help="instead: objects {id, db_id, gold, pred, [dialogue, turn, source]}, one a line",
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
        "--out", type=Path, metavar="FILE", help="a row for each pair; summary.json beside it"
    )


def _add_export(commands: Commands) -> None:
    text = "write a run's trajectories for those who fine-tune elsewhere"
    parser = _command(commands, "export", export, text)
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


def _add_bench(commands: Commands) -> None:
    text = "measure parts of the system on this machine"
    group = commands.add_parser("bench", help=text, description=f"{text.capitalize()}.")
    parts = group.add_subparsers(required=True, metavar="PART")
    parser = _command(parts, "sql", bench_sql, "the SQL pool behind Ray: rates, tails, recovery")
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared (default: embedded)")
    parser.add_argument("--runs", type=_positive, default=5, metavar="N", help="default: 5")
    parser.add_argument("--seconds", type=_seconds, default=3.0, metavar="S", help="of each load")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        type=_peer,
        metavar="NAME=CHECKOUT",
        help="nemo_gym or skyrl, measured beside ours; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _add_bench_evaluator(parts)
    _add_bench_selection(parts)


def _add_bench_evaluator(parts: Commands) -> None:
    text = "our verdicts and speed beside the official evaluator's"
    parser = _command(parts, "evaluator", bench_evaluator, text)
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
    parser.add_argument("--runs", type=_positive, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--pairs", type=_positive, default=1000, metavar="N", help="of each run; default: 1000"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")

    parser = _command(parts, "env", bench_env, "the environment: time of a step, memory of a crowd")
    parser.add_argument(
        "--dialogues", type=_positive, default=64, metavar="N", help="at a time; default: 64"
    )
    parser.add_argument("--runs", type=_positive, default=5, metavar="N", help="default: 5")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    text = "a self-taught round's sampling beside vLLM generating the same tokens offline"
    parser = _command(parts, "sampling", bench_sampling, text)
    _add_recipe(parser)
    parser.add_argument("--model", type=Path, help="a model folder (default: the run's warm start)")
    parser.add_argument(
        "--items", type=_positive, default=96, metavar="N", help="of each run; default: 96"
    )
    parser.add_argument("--runs", type=_positive, default=5, metavar="N", help="default: 5")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def _add_bench_selection(parts: Commands) -> None:
    text = "rejection by difficulty over simulated samples: time and memory"
    parser = _command(parts, "selection", bench_selection, text)
    parser.add_argument(
        "--items", type=_positive, default=10_000, metavar="N", help="default: 10000"
    )
    parser.add_argument(
        "--samples", type=_positive, default=20, metavar="N", help="of each item; default: 20"
    )
    parser.add_argument("--runs", type=_positive, default=5, metavar="N", help="default: 5")
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


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """argparse, except that overrides may also stand behind an option."""
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    late = [word for word in rest if "=" in word and not word.startswith("-")]
    if parsed.overrides is None or len(late) < len(rest):
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return parsed
    parsed.overrides = [*parsed.overrides, *late]
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        code = parsed.run(parsed)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("mtsql: interrupted; the same command goes on from what is saved", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`head`, `less`) is gone; keep the interpreter's last flush quiet as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in NO_SPACE:
            path = Path(error.filename or Path.cwd())
            return _fail(f"{path}: no space left ({_free_mb(path)} MB); make free space, run again")
        if error.errno in NO_ACCESS and error.filename:
            return _fail(f"{error.filename}: {error.strerror}; choose a path that you may write")
        raise
    return code


def _free_mb(path: Path) -> int:
    folder = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(folder).free // 1_000_000


def _fail(message: str, *, code: int = 2) -> int:
    print(f"mtsql: error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
