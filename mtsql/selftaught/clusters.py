"""Likeness of the few trajectories of one item: near-duplicates, clusters and their members.

Everything works on cosines in whole millionths [n, n], so that sums are exact and ties are ties;
between equals the one with the lower index wins.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Cosines = NDArray[np.int64]
ONE = 1_000_000


def cosines(vectors: NDArray[np.float64]) -> Cosines:
    """Of all pairs of rows [n, d], in millionths; a row of zeros is like itself only."""
    products = vectors @ vectors.T
    lengths = np.sqrt(np.diagonal(products))
    scale = np.outer(lengths, lengths)
    shares = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    rounded = np.rint(shares * ONE).astype(np.int64)
    np.fill_diagonal(rounded, ONE)
    return rounded


def distinct(likeness: Cosines, same_from: float) -> list[int]:
    """Indices of those that are not the same as an earlier one that stays."""
    limit = round(same_from * ONE)
    kept: list[int] = []
    for index in range(len(likeness)):
        if not kept or likeness[index, kept].max() < limit:
            kept.append(index)
    return kept


def clusters(likeness: Cosines, num_clusters: int) -> list[list[int]]:
    """Average linkage: the two clusters with the highest mean cosine are joined until few are left.

    Returns:
        At most `num_clusters` lists of indices, each in order, by their first index.

    Example: cosines 0-1 0.9, 0-2 0.5, 1-2 0.6, 0-3 0.1, 1-3 0.2, 2-3 0.3; two clusters
        0 and 1 are joined; then 01-2 has (0.5 + 0.6) / 2 = 0.55, 01-3 has 0.15, 2-3 has 0.3
        [[0, 1, 2], [3]]
    """
    groups = [[index] for index in range(len(likeness))]
    sums = likeness.copy()
    while len(groups) > num_clusters:
        sizes = np.array([len(group) for group in groups])
        means = sums / np.outer(sizes, sizes)
        means[np.tril_indices(len(groups))] = -np.inf
        first, second = (int(at) for at in np.unravel_index(np.argmax(means), means.shape))
        groups[first] = sorted(groups[first] + groups.pop(second))
        sums[first] += sums[second]
        sums[:, first] += sums[:, second]
        sums = np.delete(np.delete(sums, second, axis=0), second, axis=1)
    return groups


def medoid(likeness: Cosines, members: Sequence[int]) -> int:
    """The member that is most like all the others."""
    return members[int(np.argmax(likeness[np.ix_(members, members)].sum(axis=1)))]
