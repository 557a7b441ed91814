"""prm.json: a process reward model judged on dialogues that it has not learned."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from mtsql.config.prm import Aggregation
from mtsql.dialogue import Hardness
from mtsql.prm.labels import CONFIDENT_FROM, Labelled, chosen
from mtsql.prm.metrics import (
    AGGREGATE,
    GOOD_FROM,
    auc,
    best,
    calibration_error,
    first_bad,
    interval,
    is_min_last,
    majority,
)

COUNTS = (1, 2, 4, 8, 16, 32)
"""Candidates of a turn among which one is chosen."""
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One trajectory with its labels and scores."""

    group: str
    """Of the candidates for one turn."""
    turn_id: str
    dialogue_id: str
    split: str
    dialect: str
    hardness: Hardness | None
    labelled: Labelled
    scores: tuple[float | None, ...]
    """Of the process reward model, for each step; None: cut off."""
    outcome_score: float | None
    """Of the outcome verifier; None: cut off, or there is no verifier."""
    answer: str | None
    """The same for answers with the same result; None: it does not run."""


class BestOf(BaseModel):
    """Share of turns on which the chosen candidate is right, among N of each turn."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, serialize_by_alias=True)

    num_turns: int
    prm: float
    """The highest score of the process reward model, under the recipe's aggregation."""
    orm: float | None
    """The highest score of the outcome verifier."""
    majority: float
    """The answer whose result most candidates share."""
    greedy: float | None
    """The policy's greedy trajectory; None: none is stored for these turns."""
    random: float
    """One candidate drawn from those that run."""
    passed: float = Field(serialization_alias="pass")
    """Any candidate."""
    by_aggregation: dict[str, float]
    """`prm` under each of them."""
    intervals: dict[str, Interval]
    """95 % of `prm` minus each other, over dialogues."""


class Figures(BaseModel):
    """What the scores are worth on some trajectories. None: nothing there to measure it on."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    num_trajectories: int
    num_steps: int
    """With a score and a confident label."""
    num_cut: int
    """Steps beyond the length of the text, without a score."""
    share_good: float | None
    """Of the steps."""
    step_auc: float | None
    """A good step (its label's value at least one half) against a bad one."""
    ece: float | None
    """Calibration error against the labels' values."""
    first_error: float | None
    """Share of trajectories with a bad step whose first one is the first to score below 0.5."""
    no_error: float | None
    """Share of trajectories without a bad step in which none scores below 0.5."""
    share_min_on_last: float | None
    """Of trajectories with two steps and more: the lowest score lies on the last one."""
    best_of: dict[str, BestOf]
    """By the number of candidates."""
    intervals: dict[str, Interval]
    """95 % over dialogues, of first_error and share_min_on_last."""


class Evaluation(Figures):
    """On all held-out trajectories, and on parts of them."""

    aggregation: Aggregation
    digests: bool
    by_split: dict[str, Figures]
    by_dialect: dict[str, Figures]
    by_hardness: dict[str, Figures]


def evaluate(
    scored: Sequence[Scored],
    *,
    aggregation: Aggregation,
    digests: bool,
    greedy: Mapping[tuple[str, str], bool],
) -> Evaluation:
    """
    Args:
        scored: trajectories of dialogues that were not learned.
        greedy: by split and turn, whether the policy's greedy answer is right.
    """

    def part(key: Callable[[Scored], str]) -> dict[str, Figures]:
        parts: dict[str, list[Scored]] = defaultdict(list)
        for one in scored:
            parts[key(one)].append(one)
        return {
            name: figures(parts[name], aggregation=aggregation, greedy=greedy)
            for name in sorted(parts)
        }

    whole = figures(scored, aggregation=aggregation, greedy=greedy)
    return Evaluation(
        **dict(whole),
        aggregation=aggregation,
        digests=digests,
        by_split=part(lambda one: one.split),
        by_dialect=part(lambda one: one.dialect),
        by_hardness=part(lambda one: one.hardness or "unknown"),
    )


def figures(
    scored: Sequence[Scored],
    *,
    aggregation: Aggregation,
    greedy: Mapping[tuple[str, str], bool],
) -> Figures:
    """Every figure, on the trajectories that were judged."""
    judged = [one for one in scored if one.labelled.is_right is not None]
    pairs = [
        (score, value)
        for one in judged
        for score, value in zip(one.scores, _values(one), strict=True)
        if score is not None and value is not None
    ]
    scores, values = [score for score, _ in pairs], [value for _, value in pairs]
    is_good = [value >= GOOD_FROM for value in values]
    wrong, clean = _errors_found(judged)
    longer = [
        (one.dialogue_id, is_min_last(whole))
        for one in judged
        if len(whole := [score for score in one.scores if score is not None]) > 1
        and None not in one.scores
    ]
    intervals = {
        name: found
        for name, given in (("first_error", wrong), ("share_min_on_last", longer))
        if (found := interval([float(v) for _, v in given], [d for d, _ in given])) is not None
    }
    return Figures(
        num_trajectories=len(judged),
        num_steps=len(pairs),
        num_cut=sum(one.scores.count(None) for one in judged),
        share_good=_mean(is_good),
        step_auc=auc(scores, is_good),
        ece=calibration_error(scores, values),
        first_error=_mean([found for _, found in wrong]),
        no_error=_mean([found for _, found in clean]),
        share_min_on_last=_mean([found for _, found in longer]),
        best_of=_best_of(judged, aggregation, greedy),
        intervals=intervals,
    )


def _values(one: Scored) -> list[float | None]:
    """Of each step the value of its label, where that is confident."""
    labels = [chosen(step) for step in one.labelled.steps]
    return [
        label.value if label is not None and label.confidence >= CONFIDENT_FROM else None
        for label in labels
    ]


def _errors_found(
    judged: Sequence[Scored],
) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """(dialogue, found) of trajectories with a bad step, and of those without."""
    wrong: list[tuple[str, bool]] = []
    clean: list[tuple[str, bool]] = []
    for one in judged:
        values = _values(one)
        known = [
            None if value is None else score
            for score, value in zip(one.scores, values, strict=True)
        ]
        if any(score is not None for score in known):
            truth = first_bad(values)
            kind = clean if truth is None else wrong
            kind.append((one.dialogue_id, first_bad(known) == truth))
    return wrong, clean


def _best_of(
    judged: Sequence[Scored],
    aggregation: Aggregation,
    greedy: Mapping[tuple[str, str], bool],
) -> dict[str, BestOf]:
    groups: dict[tuple[str, str], list[Scored]] = defaultdict(list)
    for one in judged:
        groups[one.split, one.group].append(one)
    found: dict[str, BestOf] = {}
    for count in COUNTS:
        # A trajectory that stands alone is no choice.
        least = max(count, 2)
        turns = [group[:count] for group in groups.values() if len(group) >= least]
        if turns:
            found[str(count)] = _chosen_of(turns, aggregation, greedy)
    return found


def _chosen_of(
    turns: Sequence[Sequence[Scored]],
    aggregation: Aggregation,
    greedy: Mapping[tuple[str, str], bool],
) -> BestOf:
    def right(group: Sequence[Scored], place: int) -> float:
        return float(group[place].labelled.is_right is True)

    def by(name: Aggregation) -> list[float]:
        whole = AGGREGATE[name]
        return [
            right(
                group,
                best([_whole(one.scores, whole) for one in group]),
            )
            for group in turns
        ]

    prm = by(aggregation)
    has_orm = any(one.outcome_score is not None for group in turns for one in group)
    orm = [right(group, best([one.outcome_score for one in group])) for group in turns]
    voted = [right(group, majority([one.answer for one in group])) for group in turns]
    drawn = [_drawn(group) for group in turns]
    asked = [greedy.get((group[0].split, group[0].turn_id)) for group in turns]
    dialogues = [group[0].dialogue_id for group in turns]
    others: dict[str, list[float | None]] = {"majority": [*voted], "random": [*drawn]}
    if has_orm:
        others["orm"] = [*orm]
    others["greedy"] = [None if one is None else float(one) for one in asked]
    intervals: dict[str, Interval] = {}
    for name, other in others.items():
        pairs = [
            (mine - theirs, dialogue)
            for mine, theirs, dialogue in zip(prm, other, dialogues, strict=True)
            if theirs is not None
        ]
        apart = interval([one for one, _ in pairs], [dialogue for _, dialogue in pairs])
        if apart is not None:
            intervals[name] = apart
    has_greedy = all(one is not None for one in asked)
    return BestOf(
        num_turns=len(turns),
        prm=fmean(prm),
        orm=fmean(orm) if has_orm else None,
        majority=fmean(voted),
        greedy=fmean(one is True for one in asked) if has_greedy else None,
        random=fmean(drawn),
        passed=fmean(float(any(one.labelled.is_right for one in group)) for group in turns),
        by_aggregation={name: fmean(by(name)) for name in AGGREGATE},
        intervals=intervals,
    )


def _whole(
    scores: Sequence[float | None], aggregate: Callable[[Sequence[float]], float]
) -> float | None:
    """A trajectory's score; None where its end is cut off, or it has no step."""
    known = [score for score in scores if score is not None]
    return aggregate(known) if known and len(known) == len(scores) else None


def _drawn(group: Sequence[Scored]) -> float:
    """Expected share of right ones among those that run; 0 where none does."""
    running = [one.labelled.is_right is True for one in group if one.answer is not None]
    return fmean(running) if running else 0.0


def _mean(values: Sequence[bool]) -> float | None:
    return fmean(values) if values else None
