"""What each command of `mtsql` does with its arguments: an exit code.

Each imports what it needs when it runs, so that every --help is instant.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mtsql.errors import ConfigError, DataError, MachineError

if TYPE_CHECKING:
    from mtsql.config.run import RunConfig

STACK = ("torch", "ray", "verl", "vllm", "transformers")
"""What training and evaluation need beyond the core."""
RUN_FILES = ("run.json", "summary.json")
"""One of them is in every run's folder."""


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
    from actors.run.command import train as run_training

    return _end_of(lambda: run_training(config, restart=arguments.restart))


def selftaught(arguments: argparse.Namespace) -> int:
    config = _config_of(arguments)
    from actors.run.command import selftaught as run_rounds

    return _end_of(lambda: run_rounds(config, rounds=arguments.rounds, restart=arguments.restart))


def evaluate(arguments: argparse.Namespace) -> int:
    config = _config_of(arguments)
    from actors.run.command import evaluate as run_evaluation

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
    from mtsql.config.load import load_config

    config = load_config(arguments.recipe, arguments.overrides)
    _require_stack()
    return config


def _end_of(stages: Callable[[], object]) -> int:
    """The exit code of stages: a broken one is a line that names its log."""
    from actors.run.command import StageFailed

    try:
        stages()
    except StageFailed as error:
        return fail(str(error), code=1)
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
    if sys.stdin is None:
        raise ConfigError("--jsonl reads its queries from standard input, which is closed")
    warn(databases)
    default = None if arguments.db is None else next(iter(databases))
    answer_lines(databases, default, sys.stdin.fileno(), limits, _write_now)
    return 0


def _write_now(line: bytes) -> None:
    sys.stdout.buffer.write(line)
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
    from mtsql.config.load import load_config

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

    from mtsql.report.page import summary_tables, write_report
    from mtsql.runs.records import read_summary

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

    from mtsql.rewards.rescore import headline, rescore_json, rescore_table
    from mtsql.rewards.rescore import rescore as score_again

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


def fail(message: str, *, code: int = 2) -> int:
    """The one line of an error, on stderr; returns the exit code."""
    print(f"mtsql: error: {' '.join(message.split())}", file=sys.stderr)
    return code
