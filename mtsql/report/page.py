"""A run's report: one HTML page that opens offline, made from the files in the run's folder.

    RUN/summary.json              the headline figures
    RUN/warm_start/facts.json     what the scripted trajectories hold
    RUN/metrics/warm_start.jsonl  one object for each supervised step
    RUN/metrics/rl.jsonl          one object for each RL step
    RUN/evaluation/P-H.json       scores of policy P under history H
    RUN/trajectories/*.parquet    what was played

A file that is not there yet is named where its section would stand.
"""

import logging
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from mtsql.errors import DataError
from mtsql.files import write_whole
from mtsql.report.fine_tuning import warm_start_section
from mtsql.report.rl import rl_section
from mtsql.report.rounds import rounds_section
from mtsql.report.scores import evaluation_section, stages_section, summary_section
from mtsql.report.trajectories import example_section, newest_played, trajectories_section
from mtsql.runs.folder import RunFolder
from mtsql.runs.metrics import read_rows
from mtsql.runs.stages import round_policy

logger = logging.getLogger(__name__)


def write_report(run: RunFolder) -> Path:
    """Write RUN/report.html, whole or not at all, and return its path.

    Raises:
        DataError: no such folder, or one of its files is not what a run writes.
    """
    if not run.path.is_dir():
        raise DataError(f"{run.path}: no such run folder; `mtsql train RECIPE` makes one")
    summary = run.read_summary()
    rounds = () if summary is None else summary.rounds
    metrics = {one.round: read_rows(run.metrics(round_policy(one.round))) for one in rounds}
    newest = newest_played(run)
    body = "\n".join(
        [
            summary_section(summary),
            example_section(newest),
            rounds_section(summary, metrics) if summary is not None else "",
            rl_section(read_rows(run.metrics("rl"))),
            evaluation_section(run.read_evaluations()),
            warm_start_section(read_rows(run.metrics("warm_start")), run.read_script_facts()),
            trajectories_section(newest),
            stages_section(summary),
        ]
    )
    template = files("mtsql.report").joinpath("template.html").read_text(encoding="utf-8")
    title = escape(f"MTSQL run {run.path.resolve().name}")
    page = Template(template).substitute(title=title, body=body)
    logger.info("report written", extra={"report": run.report, "chars": len(page)})
    return write_whole(run.report, page)
