"""What scores of steps are worth: how they rank, whether they mean what they say, and more."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from random import Random
from statistics import fmean

from mtsql.config.prm import Aggregation

NUM_BINS = 10
NUM_RESAMPLES = 1000
GOOD_FROM = 0.5
AGGREGATE: dict[Aggregation, Callable[[Sequence[float]], float]] = {
    "min": min,
    "last": lambda scores: scores[-1],
    "mean": fmean,
    "product": prod,
}
"""The scores of a trajectory's steps, at least one, as one."""


def auc(scores: Sequence[float], is_good: Sequence[bool]) -> float | None:
    """Probability that a good step scores higher than a bad one, a tie counting one half.

    Returns:
        None without a good or without a bad step.
    """
    num_good = sum(is_good)
    num_bad = len(is_good) - num_good
    if not num_good or not num_bad:
        return None
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks = [0.0] * len(scores)
    begin = 0
    while begin < len(order):
        end = begin
        while end < len(order) and scores[order[end]] == scores[order[begin]]:
            end += 1
        for place in order[begin:end]:
            ranks[place] = (begin + end + 1) / 2
        begin = end
    total = sum(rank for rank, good in zip(ranks, is_good, strict=True) if good)
    return (total - num_good * (num_good + 1) / 2) / (num_good * num_bad)


def calibration_error(scores: Sequence[float], values: Sequence[float]) -> float | None:
    """Expected calibration error: over ten bins of equal width, |mean score - mean value|, weighted
    by their counts; None without a step."""
    if not scores:
        return None
    bins: dict[int, list[tuple[float, float]]] = {}
    for score, value in zip(scores, values, strict=True):
        bins.setdefault(min(int(score * NUM_BINS), NUM_BINS - 1), []).append((score, value))
    return sum(
        abs(sum(score for score, _ in inside) - sum(value for _, value in inside))
        for inside in bins.values()
    ) / len(scores)


def first_bad(values: Sequence[float | None]) -> int | None:
    """Index of the first step below one half; None if there is none. Unknown ones are passed."""
    return next((at for at, one in enumerate(values) if one is not None and one < GOOD_FROM), None)


def is_min_last(scores: Sequence[float]) -> bool:
    """Whether the lowest score, the first of equals, stands on the last step."""
    return min(range(len(scores)), key=scores.__getitem__) == len(scores) - 1


def best(scores: Sequence[float | None]) -> int:
    """The place of the highest score, the first of equals; one without a score comes last."""
    return max(range(len(scores)), key=lambda at: -1.0 if (one := scores[at]) is None else one)


def majority(answers: Sequence[str | None]) -> int:
    """The place of the first answer among those given most often; None is no vote."""
    counts = Counter(one for one in answers if one is not None)
    if not counts:
        return 0
    # Of equal counts the one that came first.
    winner = max(counts, key=lambda one: (counts[one], -answers.index(one)))
    return answers.index(winner)


def interval(
    values: Sequence[float], clusters: Sequence[str], *, seed: int = 1
) -> tuple[float, float] | None:
    """95 % interval of a mean, by drawing whole clusters (dialogues) again; None for none.

    Percentiles of a thousand seeded bootstrap samples.
    """
    sums: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        pair = sums.setdefault(cluster, [0.0, 0.0])
        pair[0] += value
        pair[1] += 1
    if not sums:
        return None
    pairs = list(sums.values())
    random = Random(seed)
    means: list[float] = []
    for _ in range(NUM_RESAMPLES):
        drawn = random.choices(pairs, k=len(pairs))
        means.append(sum(one for one, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    return means[int(0.025 * NUM_RESAMPLES)], means[int(0.975 * NUM_RESAMPLES) - 1]
