"""What the benchmarks share: their own Ray, time spent, the agent's messages, printed figures."""

import json
import logging
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from mtsql.protocol import DIALECTS, Answer, ToolCall

NAMESPACE = "mtsql_bench"
"""Of the SQL pools, in Ray."""
NUM_CLIENTS = 2
"""Processes that load the SQL pool's actor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """A point in time, or the time between two: by the clock, and of all our processors."""

    wall_s: float
    cpu_s: float
    """Of this process and those it started. A thread or process that ended counts no more."""

    @classmethod
    def now(cls) -> "Spent":
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return cls(wall_s=time.perf_counter(), cpu_s=sum(_cpu_s(one.pid) for one in processes))

    def since(self, before: "Spent") -> "Spent":
        return Spent(wall_s=self.wall_s - before.wall_s, cpu_s=self.cpu_s - before.cpu_s)


def _cpu_s(pid: int) -> float:
    """From the scheduler, to the nanosecond: psutil's hundredths are too coarse for short runs."""
    spent_ns = 0
    with suppress(OSError):  # it has just ended
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                spent_ns += int(path.read_text(encoding="ascii").split()[0])
    return spent_ns / 1e9


def message(action: ToolCall | Answer) -> str:
    """The action as an agent of the default dialect writes it."""
    return DIALECTS["actions"].render((action,))


@contextmanager
def local_ray() -> Generator[None]:
    """A Ray that starts and ends with the block and says nothing."""
    import ray  # late: not every benchmark needs it

    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    try:
        yield
    finally:
        ray.shutdown()


def show(figures: Mapping[str, float], title: str, *, as_json: bool, digits: int) -> None:
    """One JSON object, rounded to `digits` decimals, or a table; nothing else on stdout."""
    if as_json:
        print(json.dumps({name: round(value, digits) for name, value in figures.items()}))
        return
    table = Table("", "median", title=title)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.0f}" if value >= 100 else f"{value:.3g}")
    Console().print(table)
