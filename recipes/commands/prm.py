"""`mtsql prm`: process reward models, from labels to figures."""

import argparse
from pathlib import Path

from recipes.commands.shared import (
    Commands,
    add_command,
    add_group,
    add_log_level,
    add_recipe,
    add_restart,
    config_of,
    exit_code_of,
    positive,
)

STAGES = {
    "label": ("prm_label", "values of steps, from stored trajectories and by rule"),
    "train": ("prm_train", "a process reward model and an outcome verifier on these labels"),
    "eval": ("prm_evaluate", "both on dialogues that they have not learned: RUN_DIR/prm/prm.json"),
}


def add(commands: Commands) -> None:
    actions = add_group(
        commands, "prm", "process reward models: label, train, judge, score", "ACTION"
    )
    for name, (stage, text) in STAGES.items():
        parser = add_command(actions, name, run, text)
        parser.set_defaults(stage=stage)
        add_recipe(parser)
        add_restart(parser)
        add_log_level(parser)
    parser = add_command(actions, "score", score, "scores of the steps of stored trajectories")
    add_recipe(parser)
    parser.add_argument(
        "--trajectories", type=Path, required=True, metavar="FILE", help="a Parquet file of a run"
    )
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="default: RUN_DIR/prm/steps/model"
    )
    text = "pairs of a right and a wrong step after the same history, certified by execution"
    parser = add_command(actions, "bench", bench, text)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a prepared folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL to write")
    parser.add_argument(
        "--split", action="append", metavar="NAME", help="may be given again (default: train)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the mistakes (default: 1)")
    parser.add_argument(
        "--audit",
        type=positive,
        default=200,
        metavar="N",
        help="pairs turned round on purpose, to see whether all are found (default: 200)",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="sql.KEY=VALUE", help="limits of the queries"
    )


def run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from actors.run.prm import run_prm

    def stage() -> None:
        folder = run_prm(
            config, arguments.stage, restart=arguments.restart, log_level=arguments.log_level
        )
        _show(arguments.stage, folder.label_facts, folder.figures)

    return exit_code_of(stage)


def _show(stage: str, label_facts: Path, figures: Path) -> None:
    from rich.console import Console

    from mtsql.files import read_record
    from mtsql.prm.agreement import LabelFacts, agreement_table

    if stage == "prm_label":
        facts = read_record(label_facts, LabelFacts, fix="label again with --restart")
        print(
            f"{facts.num_steps} steps of {facts.num_judged} trajectories, {facts.num_right} right"
        )
        Console().print(agreement_table(facts))
    elif stage == "prm_evaluate":
        print(f"figures: {figures}")


def score(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    import json

    from actors.run.machine import device_of
    from mtsql.trajectory.store import read_trajectories

    attempts = read_trajectories(arguments.trajectories)
    from actors.prm.scorer import Scorer  # torch, only for a file that can be read

    model = arguments.model or config.folder / "prm" / "steps" / "model"
    scores = Scorer(model, device_of(config)).scores([one.tokens for one in attempts])
    for attempt, steps in zip(attempts, scores, strict=True):
        rounded = [None if one is None else round(one, 6) for one in steps]
        print(json.dumps({"turn_id": attempt.trajectory.turn_id, "scores": rounded}))
    return 0


def bench(arguments: argparse.Namespace) -> int:
    from mtsql.config.load import sql_config
    from recipes.prm.bench import bench

    splits = arguments.split or ["train"]
    sql = sql_config(arguments.overrides)
    for line in bench(
        arguments.data,
        arguments.out,
        splits,
        sql,
        seed=arguments.seed,
        num_audited=arguments.audit,
    ):
        print(line)
    return 0
