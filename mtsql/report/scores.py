"""A policy's scores in a report: the headline figures, and the held-out turns by split."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from mtsql.evaluation.scores import Share
from mtsql.report.charts import bar_chart
from mtsql.report.html import charts_row, gain_text, missing, percent, section, table
from mtsql.report.rounds import COLUMNS, NOTE, rounds_rows
from mtsql.runs.records import Evaluation, Headline, PolicyScores, SplitGain, Summary
from mtsql.runs.stages import policy_title

SEEN_TITLE = "names of gold seen in training"
SUMMARY_COLUMNS = ("EX", "EM", "QM", "IM", "EX gain, points (95 % interval)")


def summary_table(summary: Summary) -> Table:
    """The final table of a run, for the terminal."""
    table = Table(title=f"{summary.turns} held-out turns, seed {summary.seed}")
    table.add_column("")
    for name in SUMMARY_COLUMNS:
        table.add_column(name, justify="right")
    for cells in _summary_rows(summary):
        table.add_row(*cells)
    return table


def summary_tables(summary: Summary) -> list[Table]:
    """What a run shows at its end: the headline figures, EX by split, and its rounds."""
    tables = [summary_table(summary)]
    header, rows = _split_rows(summary)
    if rows:
        splits = Table(title="EX by split, gold history")
        for name in header:
            splits.add_column(name, justify="right" if name else "left")
        for cells in rows:
            splits.add_row(*cells)
        tables.append(splits)
    header, rows = _seen_rows(summary)
    if rows:
        seen = Table(title=f"EX by {SEEN_TITLE}, gold history")
        for name in header:
            seen.add_column(name, justify="right" if name else "left")
        for cells in rows:
            seen.add_row(*cells)
        tables.append(seen)
    if summary.rounds:
        rounds = Table(title="self-taught rounds", caption=NOTE, caption_justify="left")
        for name in COLUMNS:
            rounds.add_column(name, justify="right")
        for cells in rounds_rows(summary.rounds):
            rounds.add_row(*cells)
        tables.append(rounds)
    return tables


def summary_section(summary: Summary | None) -> str:
    if summary is None:
        return missing("Summary", "summary.json")
    header, rows = _split_rows(summary)
    seen_header, seen_rows = _seen_rows(summary)
    return section(
        "Summary",
        f'<p class="note">{summary.turns} held-out turns, greedy decoding, seed {summary.seed}. '
        "QM and IM: question and interaction match under EX.</p>",
        table(("policy, history", *SUMMARY_COLUMNS), _summary_rows(summary)),
        *(('<p class="note">EX by split, gold history</p>', table(header, rows)) if rows else ()),
        *(
            (
                f'<p class="note">EX by {SEEN_TITLE}, gold history: what is high for all '
                "and low for none was learned by heart</p>",
                table(seen_header, seen_rows),
            )
            if seen_rows
            else ()
        ),
    )


def stages_section(summary: Summary | None) -> str:
    if summary is None:
        return ""
    total_s = sum(summary.wall_s.values())
    stages = [(name, f"{seconds:.1f}") for name, seconds in summary.wall_s.items()]
    return section("Stages", table(("stage", "seconds"), [*stages, ("all", f"{total_s:.1f}")]))


def _split_rows(summary: Summary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of EX by split: what is learned of databases seen in training need not hold
    for others, and the headline is a mean of both. Without rows where there is one split."""
    scored = {name: scores.splits for name, scores in _policies(summary).items()}
    gains: Mapping[str, SplitGain | None] = {} if summary.gain is None else summary.gain.splits
    splits = list(dict.fromkeys(split for shares in scored.values() for split in shares))
    header = ("", *scored, "gain, points", "turns") if gains else ("", *scored)
    rows: list[tuple[str, ...]] = []
    for split in splits if len(splits) > 1 else ():
        shares = [percent(at[split].ex) if split in at else "-" for at in scored.values()]
        gain = gains.get(split)
        end = (gain_text(gain), "" if gain is None else str(gain.turns)) if gains else ()
        rows.append((split, *shares, *end))
    return header, rows


def _seen_rows(summary: Summary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of EX by the share of gold's names that training has seen."""
    scored = {name: scores.by_seen for name, scores in _policies(summary).items()}
    bands = list(dict.fromkeys(band for by_seen in scored.values() for band in by_seen))
    rows: list[tuple[str, ...]] = []
    for band in bands:
        found = [by_seen.get(band) for by_seen in scored.values()]
        turns = max(one.turns for one in found if one is not None)
        shares = ("-" if one is None else percent(one.ex) for one in found)
        rows.append((band, *shares, str(turns)))
    return ("", *scored, "turns"), rows


def _policies(summary: Summary) -> dict[str, PolicyScores]:
    """Those that were evaluated with gold history."""
    policies = {
        "warm start": summary.warm_start,
        **{f"round {one.round}": one.gold for one in summary.rounds},
        "RL": summary.rl,
    }
    return {name: scores for name, scores in policies.items() if scores is not None}


def _summary_rows(summary: Summary) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for history, headline in (("gold", summary), ("predicted", summary.predicted or Headline())):
        rounds = [
            (f"round {one.round}", scores, scores.gain)
            for one in summary.rounds
            if (scores := one.gold if history == "gold" else one.predicted) is not None
        ]
        for name, scores, gain in (
            ("warm start", headline.warm_start, None),
            *rounds,
            ("RL", headline.rl, headline.gain),
        ):
            if scores is None:
                continue
            shares = (scores.ex, scores.em, scores.qm, scores.im)
            rows.append(
                (f"{name}, {history}", *(percent(share) for share in shares), gain_text(gain))
            )
    return rows


def evaluation_section(found: Sequence[Evaluation]) -> str:
    """
    Args:
        found: gold history first, policies in the order of the run.
    """
    if not found:
        return missing("Held-out turns", "evaluation/POLICY-HISTORY.json")
    header = ("split", "history", "policy", "EX QM", "EX IM", "EM QM", "EM IM", "turns", "unjudged")
    splits = list(dict.fromkeys(split for one in found for split in one.splits))
    rows = [
        (
            split,
            one.history,
            policy_title(one.policy),
            *(
                percent(share.share)
                for metric in (one.splits[split].ex, one.splits[split].em)
                for share in (metric.question_match, metric.interaction_match)
            ),
            str(one.splits[split].num_turns),
            str(one.splits[split].ex.question_match.num_unjudged),
        )
        for split in splits
        for one in found
        if split in one.splits
    ]
    charts: list[str] = []
    for split in splits:
        compared = {
            policy_title(one.policy): one.splits[split].ex
            for one in found
            if one.history == "gold" and split in one.splits
        }
        for kind, by_label in (
            ("hardness", {name: scores.by_hardness for name, scores in compared.items()}),
            ("turn", {name: scores.by_turn for name, scores in compared.items()}),
            (SEEN_TITLE, {name: scores.by_seen for name, scores in compared.items()}),
        ):
            if any(by_label.values()):
                charts.append(_share_bars(f"EX by {kind}, {split}, gold history", by_label))
    return section("Held-out turns", table(header, rows), charts_row(charts))


def _share_bars(title: str, by_label: Mapping[str, Mapping[str, Share]]) -> str:
    labels = list(dict.fromkeys(label for shares in by_label.values() for label in shares))
    groups = {
        name: [shares[label].share if label in shares else None for label in labels]
        for name, shares in by_label.items()
    }
    return bar_chart(title, labels, groups)
