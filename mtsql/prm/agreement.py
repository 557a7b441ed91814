"""Where the sources of labels agree: each two of them on the steps that both know."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations

from pydantic import BaseModel, ConfigDict
from rich.table import Table

from mtsql.prm.labels import CONFIDENT_FROM, SOURCES, Labelled, Source, chosen


class Pair(BaseModel):
    """Two sources on the steps on which both are confident."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    first: Source
    second: Source
    num_steps: int
    both_good: int
    both_bad: int
    only_first_good: int
    only_second_good: int

    @property
    def agreement(self) -> float | None:
        """Share of equal verdicts; None without a common step."""
        return (self.both_good + self.both_bad) / self.num_steps if self.num_steps else None


class LabelFacts(BaseModel):
    """labels.json: what the labels are, in numbers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    num_trajectories: int
    num_judged: int
    num_right: int
    num_steps: int
    counted: dict[Source, int]
    """Steps by the source that counts for them."""
    num_unlabelled: int
    """Steps on which no source has a word."""
    num_rollouts: int = 0
    """Completions that were drawn for the labels."""
    num_plain_rollouts: int = 0
    """What eight completions behind each step of the judged trajectories would have been."""
    pairs: tuple[Pair, ...]


def facts_of(rows: Iterable[Labelled], *, num_rollouts: int = 0) -> LabelFacts:
    """Count labels, and compare their sources two by two."""
    rows = list(rows)
    judged = [row for row in rows if row.is_right is not None]
    steps = [step for row in judged for step in row.steps]
    tally: Counter[tuple[Source, Source, bool, bool]] = Counter()
    for step in steps:
        verdicts = {
            one.source: one.value >= 0.5 for one in step if one.confidence >= CONFIDENT_FROM
        }
        for first, second in combinations(SOURCES, 2):
            if first in verdicts and second in verdicts:
                tally[first, second, verdicts[first], verdicts[second]] += 1
    pairs = [
        Pair(
            first=first,
            second=second,
            num_steps=sum(tally[first, second, a, b] for a in (True, False) for b in (True, False)),
            both_good=tally[first, second, True, True],
            both_bad=tally[first, second, False, False],
            only_first_good=tally[first, second, True, False],
            only_second_good=tally[first, second, False, True],
        )
        for first, second in combinations(SOURCES, 2)
    ]
    counts = [chosen(step) for step in steps]
    return LabelFacts(
        num_trajectories=len(rows),
        num_judged=len(judged),
        num_right=sum(row.is_right is True for row in judged),
        num_steps=len(steps),
        counted={
            source: sum(one is not None and one.source == source for one in counts)
            for source in SOURCES
        },
        num_unlabelled=sum(one is None for one in counts),
        num_rollouts=num_rollouts,
        num_plain_rollouts=8 * len(steps),
        pairs=tuple(pair for pair in pairs if pair.num_steps),
    )


def agreement_table(facts: LabelFacts) -> Table:
    """For the terminal."""
    table = Table("sources", "steps", "both good", "both bad", "first good", "second good", "agree")
    for pair in facts.pairs:
        agreement = pair.agreement
        table.add_row(
            f"{pair.first}, {pair.second}",
            *map(str, (pair.num_steps, pair.both_good, pair.both_bad)),
            *map(str, (pair.only_first_good, pair.only_second_good)),
            "-" if agreement is None else f"{agreement:.3f}",
        )
    return table
