"""Supervised fine-tunings in a report: their charts, and the warm start's section."""

from collections.abc import Sequence
from html import escape

from mtsql.mistakes.kinds import ScriptFacts
from mtsql.report.charts import line_chart
from mtsql.report.html import charts_row, missing, percent, section, table
from mtsql.runs.metrics import Row, number_at


def warm_start_section(rows: Sequence[Row], facts: ScriptFacts) -> str:
    """
    Args:
        rows: the lines of metrics/warm_start.jsonl.
        facts: what the scripted trajectories hold.
    """
    scripts = _script_parts(facts)
    if not rows:
        return "\n".join([missing("Warm start", "metrics/warm_start.jsonl"), *scripts])
    last = number_at(rows[-1], "loss")
    note = f"{len(rows)} steps; last loss {'-' if last is None else f'{last:.3f}'}."
    return section(
        "Warm start",
        f'<p class="note">{note}</p>',
        charts_row(training_charts(rows, "")),
        *scripts,
    )


def _script_parts(facts: ScriptFacts) -> list[str]:
    """The kinds of mistakes in scripted trajectories, and what these do; [] if nothing is known."""
    if not facts.mistakes:
        return []
    rows = [
        (
            kind.replace("_", " "),
            str(counts.made),
            percent(counts.share),
            *(
                percent(number / counts.made)
                for number in (counts.noticed, counts.repaired, counts.right)
            ),
        )
        for kind, counts in facts.mistakes.items()
    ]
    note = "; ".join(
        f"{name.replace('_', ' ')} {percent(share)}" for name, share in facts.shares.items()
    )
    return [
        '<p class="note">Mistakes made on purpose in scripted trajectories, percent; noticed, '
        "repaired and right are shares of those with the mistake.</p>",
        table(("mistake", "trajectories", "share", "noticed", "repaired", "right"), rows),
        f'<p class="note">Scripted trajectories, percent: {escape(note)}.</p>',
    ]


def training_charts(rows: Sequence[Row], prefix: str) -> list[str]:
    """Loss and, where checkpoints were played, EX over the steps of a supervised fine-tuning."""
    charts: list[str] = []
    for title, keys, is_share in (
        ("Loss", {"train": "loss", "validation": "val_loss"}, False),
        ("EX of the checkpoints, validation dialogues", {"EX": "valid_ex"}, True),
    ):
        # A sparse series has points of its own steps only, so that they are joined by lines.
        for label, key in keys.items():
            points = [(row, value) for row in rows if (value := number_at(row, key)) is not None]
            if points:
                xs = [round(number_at(row, "step") or 0) for row, _ in points]
                values = {label: [value for _, value in points]}
                name = f"{prefix}{title}" + (f", {label}" if len(keys) > 1 else "")
                charts.append(line_chart(name, xs, values, is_share=is_share))
    return charts
