"""The pieces of a report's page: sections, tables, rows of charts."""

from collections.abc import Sequence
from html import escape

from mtsql.runs.records import SplitGain


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def gain_text(gain: SplitGain | None) -> str:
    """In points, e.g. `+7.8 (+4.8 to +11.0)`; empty without a gain, alone without an interval."""
    if gain is None:
        return ""
    if gain.ci95 is None:
        return f"{100 * gain.ex:+.1f}"
    low, high = gain.ci95
    return f"{100 * gain.ex:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def section(heading: str, *parts: str) -> str:
    return "\n".join([f"<h2>{escape(heading)}</h2>", *parts])


def missing(heading: str, name: str) -> str:
    return section(heading, f'<p class="note">Not there yet: {escape(name)}</p>')


def charts_row(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    return f"<table>{line('th', header)}{''.join(line('td', row) for row in rows)}</table>"
