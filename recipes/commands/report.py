"""`mtsql report`: a run's page and its table."""

import argparse
from pathlib import Path

from mtsql.errors import DataError
from recipes.commands.shared import Commands, add_command

RUN_FILES = ("run.json", "summary.json")
"""One of them is in every run's folder."""


def add(commands: Commands) -> None:
    parser = add_command(commands, "report", run, "write RUN_DIR/report.html again")
    parser.add_argument("run_folder", metavar="RUN_DIR", type=Path)


def run(arguments: argparse.Namespace) -> int:
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
