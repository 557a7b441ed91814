"""Rejection by difficulty: which right trajectories of an item are learned.

    item                                   preferred among the valid           kept
    no valid sample                        -                                   none: unsolved
    easy, or every scored sample is valid  `short_from` to `short_up_to`       `max_short` shortest
                                           interactions
    all others                             at least `long_from` interactions   one from each of
                                                                               `max_long` clusters

Where none of the preferred kind exists, the others stand in. *Shortest* is fewest interactions,
then fewest tokens, then the earlier attempt. Near-duplicates go first: of two that are the same,
the shorter stays for a short item and the earlier attempt for any other, whose style is thus not
bent towards brevity. A cluster is represented by its medoid, between equals by the earlier attempt.

Nothing is drawn at random. The choice depends on an item's samples and their order alone, not on
other items, on the names or the order of files, or on threads.

Source: the self-taught warm start of MTSQL-R1 (arXiv 2510.12831).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtsql.config.learning import SelectionConfig
from mtsql.dialogue import HARDNESS_BANDS
from mtsql.selftaught.clusters import clusters, cosines, distinct, medoid
from mtsql.selftaught.embedding import Embedder, FeatureEmbedder, Vectors
from mtsql.selftaught.records import (
    Behaviour,
    Coverage,
    Funnel,
    ItemSelection,
    KeptRow,
    Rule,
    Selection,
    SelectionFigures,
)
from mtsql.selftaught.samples import Item, Outline, Sample, read_items
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.store import read_rows

_OUTLINES_AT_ONCE = 512
"""Embedded together: enough for a model's batches, little for the memory."""


def select(
    samples: Path,
    config: SelectionConfig,
    *,
    embedder: Embedder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Decide on every item of a round.

    Args:
        samples: folder of Parquet files; all samples of an item are adjacent rows of one file, in
            the order of the attempts.
        embedder: tells likeness; None: features of actions and SQL. A recipe that names a model
            (`config.embedder`) needs one that the caller has loaded.
        progress: called with (files read, all).

    Raises:
        DataError: no files, or files that hold something else.
    """
    assert embedder is not None or config.embedder is None, "config.embedder is not loaded"
    scored, learned = _Totals(), _Totals()
    items: list[ItemSelection] = []
    candidates = (_candidates(item, config) for item in read_items(samples, progress=progress))
    for found, vectors in _embedded(candidates, embedder or FeatureEmbedder()):
        num_distinct, kept = _kept(found, vectors, config)
        items.append(_item_selection(found, num_distinct, kept))
        scored.add(sample for sample in found.item.samples if sample.is_scored)
        learned.add(kept)
    items.sort(key=lambda item: item.turn_id)
    figures = _figures(items, scored.behaviour(), learned.behaviour())
    return Selection(config=config, figures=figures, items=tuple(items))


def load_selected(samples: Path, selection: Selection) -> list[Attempt]:
    """The kept trajectories, item by item; nothing else of the files becomes an object.

    Args:
        samples: the folder that was selected from.

    Raises:
        DataError: a file is gone or has changed.
    """
    wanted: defaultdict[str, list[int]] = defaultdict(list)
    for item in selection.items:
        for kept in item.kept:
            wanted[kept.file].append(kept.row)
    found: dict[tuple[str, int], Attempt] = {}
    for file, rows in sorted(wanted.items()):
        for row, stored in zip(rows, read_rows(samples / file, rows), strict=True):
            found[file, row] = stored
    return [found[kept.file, kept.row] for item in selection.items for kept in item.kept]


# One item.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    item: Item
    rule: Rule | None
    num_preferred: int
    samples: tuple[Sample, ...]
    """The preferred ones, one for each outline, best first."""

    @property
    def outlines(self) -> list[Outline]:
        return [sample.outline for sample in self.samples if sample.outline is not None]


def _candidates(item: Item, config: SelectionConfig) -> _Candidates:
    valid = [sample for sample in item.samples if sample.is_valid]
    if not valid:
        return _Candidates(item=item, rule=None, num_preferred=0, samples=())
    is_always = len(valid) == sum(sample.is_scored for sample in item.samples)
    rule: Rule = "short" if item.hardness == "easy" or is_always else "long"
    if rule == "short":
        preferred = [
            one for one in valid if config.short_from <= one.num_interactions <= config.short_up_to
        ]
    else:
        preferred = [one for one in valid if one.num_interactions >= config.long_from]
    preferred = preferred or valid
    if rule == "short":
        preferred.sort(key=lambda sample: (sample.num_interactions, sample.num_tokens))
    firsts: dict[Outline | None, Sample] = {}
    for sample in preferred:
        firsts.setdefault(sample.outline, sample)
    return _Candidates(
        item=item, rule=rule, num_preferred=len(preferred), samples=tuple(firsts.values())
    )


def _embedded(
    candidates: Iterable[_Candidates], embedder: Embedder
) -> Iterator[tuple[_Candidates, Vectors | None]]:
    """Each with the vectors of its samples; None for less than two, which nothing is like."""
    waiting: list[_Candidates] = []
    outlines: list[Outline] = []

    def flush() -> Iterator[tuple[_Candidates, Vectors | None]]:
        vectors = embedder(outlines) if outlines else None
        at = 0
        for found in waiting:
            if vectors is None or len(found.samples) < 2:
                yield found, None
                continue
            yield found, vectors[at : at + len(found.samples)]
            at += len(found.samples)
        waiting.clear()
        outlines.clear()

    for found in candidates:
        waiting.append(found)
        if len(found.samples) > 1:
            outlines += found.outlines
        if len(outlines) >= _OUTLINES_AT_ONCE:
            yield from flush()
    yield from flush()


def _kept(
    found: _Candidates, vectors: Vectors | None, config: SelectionConfig
) -> tuple[int, list[Sample]]:
    """How many differ, and those that are learned."""
    if vectors is None:
        return len(found.samples), list(found.samples)
    likeness = cosines(vectors)
    indices = distinct(likeness, config.same_from)
    if found.rule == "short":
        return len(indices), [found.samples[index] for index in indices[: config.max_short]]
    among = likeness[np.ix_(indices, indices)]
    chosen = sorted(medoid(among, group) for group in clusters(among, config.max_long))
    return len(indices), [found.samples[indices[index]] for index in chosen]


def _item_selection(found: _Candidates, num_distinct: int, kept: Sequence[Sample]) -> ItemSelection:
    item = found.item
    return ItemSelection(
        turn_id=item.turn_id,
        dialogue_id=item.dialogue_id,
        hardness=item.hardness,
        num_samples=len(item.samples),
        num_unscored=sum(not sample.is_scored for sample in item.samples),
        num_valid=sum(sample.is_valid for sample in item.samples),
        rule=found.rule,
        num_preferred=found.num_preferred,
        num_distinct=num_distinct,
        kept=tuple(KeptRow(file=sample.file, row=sample.row) for sample in kept),
    )


# All items.


@dataclass(slots=True)
class _Totals:
    num_trajectories: int = 0
    num_steps: int = 0
    num_interactions: int = 0
    num_tokens: int = 0
    num_correcting: int = 0

    def add(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            self.num_trajectories += 1
            self.num_steps += sample.num_steps
            self.num_interactions += sample.num_interactions
            self.num_tokens += sample.num_tokens
            self.num_correcting += sample.is_correcting

    def behaviour(self) -> Behaviour:
        def mean(total: int) -> float | None:
            return total / self.num_trajectories if self.num_trajectories else None

        return Behaviour(
            num_trajectories=self.num_trajectories,
            mean_steps=mean(self.num_steps),
            mean_interactions=mean(self.num_interactions),
            mean_tokens=mean(self.num_tokens),
            share_correcting=mean(self.num_correcting),
        )


def _figures(
    items: Sequence[ItemSelection], scored: Behaviour, kept: Behaviour
) -> SelectionFigures:
    by_hardness: defaultdict[str, list[ItemSelection]] = defaultdict(list)
    for item in items:
        by_hardness[item.hardness].append(item)
    order = [*(label for label in HARDNESS_BANDS if label in by_hardness)]
    order += sorted(by_hardness.keys() - set(order))
    num_valid = sum(item.num_valid for item in items)
    return SelectionFigures(
        coverage=_coverage(items),
        coverage_by_hardness={label: _coverage(by_hardness[label]) for label in order},
        share_valid=num_valid / scored.num_trajectories if scored.num_trajectories else None,
        funnel=Funnel(
            num_samples=sum(item.num_samples for item in items),
            num_unscored=sum(item.num_unscored for item in items),
            num_valid=num_valid,
            num_preferred=sum(item.num_preferred for item in items),
            num_duplicates=sum(item.num_preferred - item.num_distinct for item in items),
            num_kept=kept.num_trajectories,
        ),
        scored=scored,
        kept=kept,
    )


def _coverage(items: Sequence[ItemSelection]) -> Coverage:
    return Coverage(num_items=len(items), num_solved=sum(item.is_solved for item in items))
