"""Scores of a run: question and interaction match, intervals, and gains. All shares are 0..1.

QM is the share of turns that match, IM the share of dialogues in which every turn matches, each
under EX and under EM (Yu et al., ACL 2019). A turn that could not be judged is in no denominator;
it is counted separately. Companions of EX show how many matches may be luck.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mtsql.dialogue import HARDNESS_BANDS, HARDNESSES, UNREAD, Hardness, band_of
from mtsql.query.used import SEEN_BANDS, seen_band

Metric = Literal["ex", "em"]
LEFT_OUT = "left_out"
"""Status of a turn that was never judged, because its row or its database cannot be used."""
TURN_LABELS = ("1", "2", "3", "4", ">4")
_SAMPLES_AT_ONCE = 200
"""Bootstrap samples drawn together; bounds memory at 200 x dialogues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTurn:
    """One judged turn; None: could not be judged."""

    dialogue_id: str
    turn_index: int
    """From 0."""
    hardness: Hardness | None
    """None: gold is outside Spider's subset."""
    ex: bool | None
    em: bool | None
    status: str
    """The Judgement's status."""
    split: str
    ex_strict: bool | None = None
    is_empty: bool = False
    """Neither query gave a row."""
    seen: float | None = None
    """Share of the tables and columns in its gold that golds of train use, too; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Example: matches [True, False, None] give share 0.5, num_judged 2, num_unjudged 1."""

    share: float | None
    """None when nothing was judged."""
    num_judged: int
    num_unjudged: int
    ci95: tuple[float, float] | None = field(default=None, compare=False)
    """Bootstrap over dialogues; it follows from the verdicts and a seed. None: not computed, or
    fewer than two dialogues are judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricScores:
    """All shares under one metric, EX or EM."""

    question_match: Share
    interaction_match: Share
    """Over dialogues; one with an unjudged turn is unjudged."""
    by_hardness: Mapping[str, Share]
    """Question match for easy, medium, hard and extra gold queries, and where there are any, for
    those that Spider's grammar cannot read (`unread`)."""
    by_turn: Mapping[str, Share]
    """Question match for turn 1, 2, 3, 4 and >4 of the dialogue."""
    by_seen: Mapping[str, Share] = field(default_factory=dict[str, Share])
    """Question match by the share of gold's names that training has seen (`SEEN_BANDS`); turns of
    which it is unknown are in none, and without others it is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    num_dialogues: int
    num_turns: int
    ex: MetricScores
    em: MetricScores
    statuses: Mapping[str, int]
    """Turns by status; sums to num_turns."""
    ex_strict: Share | None = None
    """Turns whose rows match with DISTINCT kept and columns in place; None: not asked for."""
    num_empty_matches: int = 0
    """Turns that match under EX because neither query gives a row."""
    executed: Share | None = None
    """Predictions that ran to their end, of those that neither gold nor the machine stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """New minus base, in shares of turns."""

    gain: float
    ci95: tuple[float, float] | None
    """Bootstrap over dialogues; a gain is reliable when the interval leaves out 0. None: fewer than
    two dialogues."""
    num_dialogues: int
    num_turns: int
    """Turns judged in both runs."""
    num_unjudged: int
    """Turns left out because one run has no verdict."""


def summarise(rows: Sequence[ScoredTurn], num_samples: int = 2000) -> Scores:
    """Scores of the given rows; for a table by split see `summarise_splits`.

    Args:
        num_samples: of each bootstrap; 0 leaves the intervals out.

    Raises:
        ValueError: a turn occurs twice.
    """
    _by_turn_key(rows)
    return Scores(
        num_dialogues=len({row.dialogue_id for row in rows}),
        num_turns=len(rows),
        ex=_metric_scores(rows, "ex", num_samples),
        em=_metric_scores(rows, "em", num_samples),
        statuses=dict(sorted(Counter(row.status for row in rows).items())),
        ex_strict=_share([(row, row.ex_strict) for row in rows], num_samples),
        num_empty_matches=sum(row.is_empty and row.ex is True for row in rows),
        executed=_share([(row, _is_executed(row)) for row in rows], num_samples),
    )


def summarise_splits(rows: Sequence[ScoredTurn], num_samples: int = 2000) -> dict[str, Scores]:
    """`summarise` for each split, by name."""
    splits = sorted({row.split for row in rows})
    return {
        split: summarise([row for row in rows if row.split == split], num_samples)
        for split in splits
    }


def bootstrap_ci(
    values_by_dialogue: Mapping[str, Sequence[float]], num_samples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of the mean over turns, resampling whole dialogues.

    Turns of one dialogue share a database and a topic, so dialogues, not turns, are independent.
    One dialogue says nothing of the spread of others: it has no interval (None).
    The result does not depend on the order of the mapping.

    Raises:
        ValueError: there are no values.
    """
    kept = [values for _, values in sorted(values_by_dialogue.items()) if values]
    if not kept:
        raise ValueError("bootstrap_ci: no values; at least one dialogue must have a judged turn")
    if len(kept) < 2:
        return None
    sums_D = np.array([sum(values) for values in kept], dtype=np.float64)
    counts_D = np.array([len(values) for values in kept], dtype=np.float64)
    generator = np.random.default_rng(seed)
    means: list[float] = []
    while len(means) < num_samples:
        size = (min(_SAMPLES_AT_ONCE, num_samples - len(means)), len(kept))
        picks_S_D = generator.integers(len(kept), size=size)
        means.extend((sums_D[picks_S_D].sum(axis=1) / counts_D[picks_S_D].sum(axis=1)).tolist())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_gain(
    base_rows: Sequence[ScoredTurn],
    new_rows: Sequence[ScoredTurn],
    metric: Metric = "ex",
    num_samples: int = 2000,
    seed: int = 0,
) -> Gain:
    """Mean of (new - base) over the same turns, with an interval over dialogues.

    Raises:
        ValueError: the two runs hold different turns, or no turn is judged in both.
    """
    base, new = _by_turn_key(base_rows), _by_turn_key(new_rows)
    if base.keys() != new.keys():
        dialogue_id, turn_index = min(base.keys() ^ new.keys())
        raise ValueError(
            f"paired_gain: {len(base.keys() ^ new.keys())} turns are in one run only, first "
            f"{dialogue_id!r} turn {turn_index}: score both runs on the same turns"
        )
    differences: dict[str, list[float]] = {}
    for key, base_row in base.items():
        before, after = _verdict(base_row, metric), _verdict(new[key], metric)
        if before is not None and after is not None:
            differences.setdefault(key[0], []).append(float(after) - float(before))
    values = [value for row in differences.values() for value in row]
    if not values:
        raise ValueError("paired_gain: no turn is judged in both runs")
    return Gain(
        gain=sum(values) / len(values),
        ci95=bootstrap_ci(differences, num_samples, seed),
        num_dialogues=len(differences),
        num_turns=len(values),
        num_unjudged=len(base) - len(values),
    )


def _by_turn_key(rows: Sequence[ScoredTurn]) -> dict[tuple[str, int], ScoredTurn]:
    keyed = {(row.dialogue_id, row.turn_index): row for row in rows}
    if len(keyed) != len(rows):
        (dialogue_id, turn_index), count = Counter(
            (row.dialogue_id, row.turn_index) for row in rows
        ).most_common(1)[0]
        raise ValueError(f"dialogue {dialogue_id!r} turn {turn_index} is scored {count} times")
    return keyed


def _metric_scores(rows: Sequence[ScoredTurn], metric: Metric, num_samples: int) -> MetricScores:
    verdicts = [(row, _verdict(row, metric)) for row in rows]
    by_dialogue: dict[str, list[tuple[ScoredTurn, bool | None]]] = {}
    for row, verdict in verdicts:
        by_dialogue.setdefault(row.dialogue_id, []).append((row, verdict))
    whole = [
        (turns[0][0], _all_match([verdict for _, verdict in turns]))
        for turns in by_dialogue.values()
    ]
    seen_bands = () if all(row.seen is None for row in rows) else SEEN_BANDS
    bands = HARDNESS_BANDS if any(_band(row) == UNREAD for row in rows) else HARDNESSES
    return MetricScores(
        question_match=_share(verdicts, num_samples),
        interaction_match=_share(whole, num_samples),
        by_hardness={
            band: _share([one for one in verdicts if _band(one[0]) == band], num_samples)
            for band in bands
        },
        by_turn={
            label: _share([one for one in verdicts if _turn_label(one[0]) == label], num_samples)
            for label in TURN_LABELS
        },
        by_seen={
            band: _share([one for one in verdicts if _seen_band(one[0]) == band], num_samples)
            for band in seen_bands
        },
    )


def _seen_band(row: ScoredTurn) -> str | None:
    return None if row.seen is None else seen_band(row.seen)


def _band(row: ScoredTurn) -> str | None:
    """None for one that is in no figure."""
    return None if row.status == LEFT_OUT else band_of(row.hardness)


def _verdict(row: ScoredTurn, metric: Metric) -> bool | None:
    return row.ex if metric == "ex" else row.em


def _turn_label(row: ScoredTurn) -> str:
    return TURN_LABELS[min(row.turn_index, len(TURN_LABELS) - 1)]


def _all_match(verdicts: Sequence[bool | None]) -> bool | None:
    return None if None in verdicts else all(verdicts)


def _is_executed(row: ScoredTurn) -> bool | None:
    return None if row.status in ("gold_failed", "infra_fault", LEFT_OUT) else row.status == "ok"


def _share(verdicts: Sequence[tuple[ScoredTurn, bool | None]], num_samples: int) -> Share:
    """Over turns, or over one row for each dialogue."""
    by_dialogue: dict[str, list[float]] = {}
    for row, verdict in verdicts:
        if verdict is not None:
            by_dialogue.setdefault(row.dialogue_id, []).append(float(verdict))
    judged = [verdict for _, verdict in verdicts if verdict is not None]
    return Share(
        share=sum(judged) / len(judged) if judged else None,
        num_judged=len(judged),
        num_unjudged=len(verdicts) - len(judged),
        ci95=bootstrap_ci(by_dialogue, num_samples) if judged and num_samples else None,
    )
