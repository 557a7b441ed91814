"""What the waiting command shows while a stage runs: a bar with its rate, a line per RL step."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
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

POLL_S = 0.25


def follow(
    process: subprocess.Popen[bytes],
    stage: str,
    title: str,
    config: RunConfig,
    folder: Path,
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
        shown = progress.add_task(title, total=None, rate="")
        tails = {
            folder / "progress.jsonl": lambda line: _show_count(progress, shown, title, line),
            folder / "metrics" / "rl.jsonl": lambda line: _show_rl(
                progress, shown, config, console, line
            ),
        }
        if stage != "rl":
            del tails[folder / "metrics" / "rl.jsonl"]
        readers = [(Tail(path), show) for path, show in tails.items()]
        while True:
            is_over = process.poll() is not None
            for tail, show in readers:
                for line in tail.lines():
                    show(line)
            if is_over:
                return
            time.sleep(POLL_S)


class Tail:
    """New JSON lines of a growing file; what stood there before is skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)


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
