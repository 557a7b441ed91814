"""How different two chains are: edits between their trees."""

from collections import Counter
from collections.abc import Sequence

from sqlglot import diff, exp
from sqlglot.diff import Keep

from mtsql.chains.chain import Chain
from mtsql.query.reading import parse_sql

MIN_DISTANCE = 0.15
"""Chains that are closer are duplicates; a re-implementation of Reward-SQL uses this number."""


def chain_distance(one: Chain, other: Chain) -> float:
    """The share of the larger tree that is edited on the way to the other one, at most 1.

    Edits are those of sqlglot's change distiller: nodes that are inserted, removed, updated, moved.
    A chain that cannot be parsed is wholly different from any other text.
    """
    trees = parse_sql(one.sql), parse_sql(other.sql)
    if trees[0] is None or trees[1] is None:
        return float(one.sql != other.sql)
    return tree_distance(trees[0], trees[1])


def tree_distance(one: exp.Expr, other: exp.Expr) -> float:
    size = max(sum(1 for _ in one.walk()), sum(1 for _ in other.walk()))
    edits = sum(not isinstance(edit, Keep) for edit in diff(one, other, delta_only=True))
    return min(1.0, edits / size)


def different_chains(chains: Sequence[Chain], *, min_distance: float = MIN_DISTANCE) -> list[Chain]:
    """Those that are far enough from all that are kept before them."""
    trees = [parse_sql(chain.sql) for chain in chains]
    kept: list[int] = []
    for place, tree in enumerate(trees):
        if all(_is_far(tree, trees[before], min_distance) for before in kept):
            kept.append(place)
    return [chains[place] for place in kept]


def _is_far(one: exp.Expr | None, other: exp.Expr | None, min_distance: float) -> bool:
    if one is None or other is None:
        return True
    # Nodes of one kind that the other tree lacks need an edit each: quick, and mostly enough.
    kinds, other_kinds = Counter(map(type, one.walk())), Counter(map(type, other.walk()))
    least = max((kinds - other_kinds).total(), (other_kinds - kinds).total())
    if least >= min_distance * max(kinds.total(), other_kinds.total()):
        return True
    return tree_distance(one, other) >= min_distance
