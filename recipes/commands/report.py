"""`mtsql report`: a run's page and its table."""

import argparse
from pathlib import Path

from mtsql.errors import DataError
from recipes.commands.shared import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(commands, "report", run, "write RUN_DIR/report.html again")
    parser.add_argument("run_folder", metavar="RUN_DIR", type=Path)


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mtsql.report.page import write_report
    from mtsql.report.scores import summary_tables
    from mtsql.runs.folder import RunFolder

    run = RunFolder(arguments.run_folder)
    if run.path.is_dir() and not any(path.is_file() for path in (run.note, run.summary)):
        raise DataError(
            f"{run.path}: holds no run ({run.note.name} or {run.summary.name}); name a run's folder"
        )
    page = write_report(run)
    summary = run.read_summary()
    if summary is not None:
        for table in summary_tables(summary):
            Console().print(table)
    print(page)
    return 0
