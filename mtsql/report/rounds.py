"""The self-taught rounds in a report: one table and its charts, for the page and the terminal."""

from collections.abc import Mapping, Sequence

from mtsql.report.charts import line_chart, stacked_chart
from mtsql.report.fine_tuning import training_charts
from mtsql.report.html import charts_row, percent, section, table
from mtsql.runs.metrics import Row
from mtsql.runs.records import RoundSummary, Summary

COLUMNS = (
    "round",
    "items",
    "solved %",
    "kept",
    "steps",
    "mends %",
    "held out %",
    "EX",
    "EM",
)
NOTE = (
    "Items: training turns that no earlier round has solved; solved counts all rounds so far. "
    "Kept: trajectories that the round adds to the training set. Steps and mends (first proposal "
    "wrong, last one right) are of the round's samples, drawn from the policy of the round before; "
    "held out (mends), EX and EM are of its own policy, greedy, with gold history."
)


def rounds_rows(rounds: Sequence[RoundSummary]) -> list[tuple[str, ...]]:
    """The cells under COLUMNS, one row for each round."""
    return [
        (
            str(one.round),
            str(one.num_sampled_items),
            percent(one.coverage.share),
            str(one.funnel.num_kept),
            "-" if one.scored.mean_steps is None else f"{one.scored.mean_steps:.1f}",
            percent(one.scored.share_correcting),
            percent(one.gold.mended if one.gold else None),
            percent(one.gold.ex if one.gold else None),
            percent(one.gold.em if one.gold else None),
        )
        for one in rounds
    ]


def rounds_section(summary: Summary, metrics: Mapping[int, Sequence[Row]]) -> str:
    """Empty for a run without rounds.

    Args:
        metrics: the lines of metrics/round_N.jsonl, by number.
    """
    rounds = summary.rounds
    if not rounds:
        return ""
    xs = [one.round for one in rounds]
    names = list(dict.fromkeys(name for one in rounds for name in one.coverage_by_hardness))
    coverage: dict[str, list[float | None]] = {"all": [one.coverage.share for one in rounds]}
    for name in names:
        shares = [one.coverage_by_hardness.get(name) for one in rounds]
        coverage[name] = [None if share is None else share.share for share in shares]
    before = summary.warm_start
    kept = {
        "earlier rounds": [float(one.num_learned - one.funnel.num_kept) for one in rounds],
        "this round": [float(one.funnel.num_kept) for one in rounds],
    }
    steps = {
        "all samples": [one.scored.mean_steps for one in rounds],
        "kept": [one.kept.mean_steps for one in rounds],
    }
    correcting = {
        "all samples": [one.scored.share_correcting for one in rounds],
        "kept": [one.kept.share_correcting for one in rounds],
        "held out, greedy": [one.gold.mended if one.gold else None for one in rounds],
    }
    policies = [before, *(one.gold for one in rounds)]
    scores = {
        "EX": [one.ex if one else None for one in policies],
        "EM": [one.em if one else None for one in policies],
    }
    charts = [
        line_chart(
            "Items solved so far, by difficulty", xs, coverage, is_share=True, x_label="round"
        ),
        stacked_chart("Trajectories learned", xs, kept, x_label="round"),
        line_chart("Steps of a trajectory", xs, steps, x_label="round"),
        line_chart("Trajectories that correct themselves", xs, correcting, x_label="round"),
        line_chart("Held-out turns, 0: warm start", [0, *xs], scores, x_label="round"),
    ]
    for one in rounds:
        charts += training_charts(metrics.get(one.round, ()), f"Round {one.round}: ")
    return section(
        "Self-taught rounds",
        f'<p class="note">{NOTE}</p>',
        table(COLUMNS, rounds_rows(rounds)),
        table(("round", *names), _coverage_rows(rounds, names)),
        charts_row(charts),
    )


def _coverage_rows(rounds: Sequence[RoundSummary], names: Sequence[str]) -> list[tuple[str, ...]]:
    def cell(one: RoundSummary, name: str) -> str:
        found = one.coverage_by_hardness.get(name)
        return "-" if found is None else f"{found.num_solved} of {found.num_items} solved"

    return [(str(one.round), *(cell(one, name) for name in names)) for one in rounds]
