"""The answer of `mtsql sql` as text: every character of it, and none that acts on a terminal."""

import sys

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtsql.shown.harmless import visible
from mtsql.shown.results import json_cell
from mtsql.sql.records import QueryResult

READABLE_WIDTH = 12
"""Below this width a folded column is no longer readable."""
PIPE_WIDTH = 2000
"""Of a table that goes to a file or a pipe: each of its rows is padded to the widest one."""


def print_table(result: QueryResult) -> None:
    """A table, or `name: value` lines for each row where the columns cannot stand side by side.

    A terminal's width folds long cells; a file or a pipe gets one line for each row.
    """
    names = [writable(name) for name in result.columns]
    rows = [
        ["NULL" if cell is None else writable(str(json_cell(cell))) for cell in row]
        for row in result.rows
    ]
    widths = [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]
    is_terminal = sys.stdout.isatty()
    room = Console().width if is_terminal else PIPE_WIDTH
    least = sum(min(width, READABLE_WIDTH) if is_terminal else width for width in widths)
    # SIMPLE_HEAD takes a space on both sides of a column and one between two, and two edges.
    if least + 3 * len(widths) + 1 > room:
        _print_rows(names, rows)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: neither markup nor :smile: means anything in it
    Console(width=room).print(table)


def _print_rows(names: list[str], rows: list[list[str]]) -> None:
    if not rows:
        print("columns", *names, sep="\n  ")
    for number, row in enumerate(rows, start=1):
        pairs = [f"{name}: {cell}" for name, cell in zip(names, row, strict=True)]
        print(f"row {number}", *pairs, sep="\n  ")


def writable(text: str) -> str:
    """Hidden characters and what standard output's encoding lacks as escapes: ESC is \\x1b."""
    encoding = sys.stdout.encoding or "utf-8"
    return visible(text).encode(encoding, "backslashreplace").decode(encoding)
