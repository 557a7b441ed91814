"""Small charts as SVG text that can stand inside an HTML page: no script, no font, no address."""

# matplotlib's own stubs leave **kwargs untyped:
# pyright: reportUnknownMemberType=false

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Values = Sequence[float | None]
"""One value for each place of the x axis; None leaves a gap."""

SIZE_INCHES = (4.6, 2.6)
COLOURS = ("#2563a8", "#d9742b", "#3f9155", "#9b4fa5", "#b8433c", "#6b7280")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "svg.hashsalt": "mtsql",  # the same figures give the same bytes
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e3e6ea",
    "legend.frameon": False,
}


def line_chart(
    title: str,
    xs: Sequence[int],
    lines: Mapping[str, Values],
    *,
    is_share: bool = False,
    x_label: str = "step",
    mean_over: int = 1,
) -> str:
    """Lines over steps.

    Args:
        is_share: the y axis is fixed to 0..1.
        mean_over: a line is the mean of so many values up to its step, with the values themselves
            as dots; 1 joins the values.
    """

    def draw(axes: Axes) -> None:
        for (label, ys), colour in zip(lines.items(), _colours(len(lines)), strict=True):
            gapped = [float("nan") if y is None else y for y in ys]
            marker = "o" if len(xs) < 40 and mean_over == 1 else ""
            if mean_over > 1:
                axes.plot(xs, gapped, ".", color=colour, markersize=2.5, alpha=0.4)
                gapped = running_mean(ys, mean_over)
            axes.plot(xs, gapped, label=label, color=colour, marker=marker, markersize=2.5)
        if is_share:
            axes.set_ylim(0, 1)
        else:
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _chart(title, draw, has_legend=len(lines) > 1)


def running_mean(ys: Values, over: int) -> list[float]:
    """The mean of the last `over` values that are there, at each place; nan where there is none."""
    means: list[float] = []
    for end in range(1, len(ys) + 1):
        known = [y for y in ys[max(0, end - over) : end] if y is not None]
        means.append(sum(known) / len(known) if known else float("nan"))
    return means


def stacked_chart(
    title: str, xs: Sequence[int], parts: Mapping[str, Values], *, x_label: str = "step"
) -> str:
    """Bars over steps, the parts of each on top of one another; None counts as 0."""

    def draw(axes: Axes) -> None:
        floors = [0.0] * len(xs)
        for (label, ys), colour in zip(parts.items(), _colours(len(parts)), strict=True):
            heights = [y or 0.0 for y in ys]
            axes.bar(xs, heights, bottom=floors, label=label, color=colour, width=0.8)
            floors = [floor + height for floor, height in zip(floors, heights, strict=True)]
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _chart(title, draw, has_legend=True)


def bar_chart(title: str, labels: Sequence[str], groups: Mapping[str, Values]) -> str:
    """Shares (0..1) side by side; None leaves its place empty."""

    def draw(axes: Axes) -> None:
        width = 0.8 / max(len(groups), 1)
        for index, ((label, shares), colour) in enumerate(
            zip(groups.items(), _colours(len(groups)), strict=True)
        ):
            offset = (index - (len(groups) - 1) / 2) * width
            places = [place + offset for place in range(len(labels))]
            bars = axes.bar(
                places, [share or 0.0 for share in shares], width=width, label=label, color=colour
            )
            texts = ["" if share is None else f"{100 * share:.0f}" for share in shares]
            axes.bar_label(bars, labels=texts, fontsize=7, padding=1)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_ylim(0, 1.08)
        axes.grid(visible=False, axis="x")

    return _chart(title, draw, has_legend=len(groups) > 1)


def _colours(number: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(number)]


def _chart(title: str, draw: Callable[[Axes], None], *, has_legend: bool) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_title(title, fontsize=10, loc="left")
        if has_legend:
            figure.legend(loc="outside lower center", fontsize=7, ncols=3)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """Keep what a page needs: no XML header, no metadata, no namespace addresses, no fixed ids."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    # Groups are numbered alike in every figure, and nothing refers to them.
    return re.sub(r' id="[A-Za-z][\w.]*_\d+"', "", svg)
