"""What the benchmarks share: a Ray of their own, and one way to print figures."""

import json
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


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
