"""What the waiting command shows while a stage runs: a bar with its rate, a line per RL step."""

import subprocess
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from mtsql.config.run import RunConfig
from mtsql.runs.folder import RunFolder
from mtsql.runs.metrics import POLL_S, Tail
from mtsql.runs.stages import Stage


def follow(
    process: subprocess.Popen[bytes],
    stage: Stage,
    config: RunConfig,
    run: RunFolder,
    console: Console,
) -> None:
    """Show progress until the process ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        shown = progress.add_task(stage.title, total=None, rate="")

        def show_count(line: dict[str, Any]) -> None:
            _show_count(progress, shown, stage.title, line)

        def show_rl(line: dict[str, Any]) -> None:
            _show_rl(progress, shown, config, console, line)

        readers = [(Tail(run.progress), show_count)]
        if stage.kind.key == "rl":
            readers.append((Tail(run.metrics("rl")), show_rl))
        while True:
            is_over = process.poll() is not None
            for tail, show in readers:
                for line in tail.lines():
                    show(line)
            if is_over:
                return
            time.sleep(POLL_S)


def _rate(progress: Progress, shown: TaskID, unit: str) -> str:
    task = progress.tasks[shown]
    if not task.completed or not task.elapsed:
        return ""
    return f"{task.completed / task.elapsed:.1f} {unit}/s"


def _show_count(progress: Progress, shown: TaskID, title: str, line: dict[str, Any]) -> None:
    progress.update(
        shown,
        description=f"{title}: {line['text']}",
        completed=line["done"],
        total=line["total"],
        rate=_rate(progress, shown, line["unit"]),
    )


def _show_rl(
    progress: Progress, shown: TaskID, config: RunConfig, console: Console, line: dict[str, Any]
) -> None:
    assert config.rl is not None
    progress.update(shown, completed=line["step"], total=config.rl.num_steps)
    console.print(
        f"step {line['step']:>3}/{config.rl.num_steps}  "
        f"reward {line['reward']:.2f}  EX {line['ex']:.2f}  "
        f"executed {line['ability/executed']:3.0%}  corrected {line['ability/corrected']:3.0%} "
        f"{line['response_tokens']:4.0f} tokens {line['step_s']:3.0f} s",
        soft_wrap=True,
    )
