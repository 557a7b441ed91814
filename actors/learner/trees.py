"""Trajectories that begin alike, in one row: what they share is stored and computed once.

The warm start learns from rows that are made beforehand, RL from trees of the rollouts that it is
given. A row is a tree of tokens in depth-first order, and the depths alone say what the tree is: a
token's parent is the nearest token before it that is one less deep, and a token of depth 0 begins
another tree. Depths are also the positions that the model is given, so a token sees the same tokens
at the same positions as in its trajectory alone: itself and its ancestors.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SFTRow:
    """One trajectory to learn from.

    Example: prompt 1 2, the model says 7 8, the database replies 4, the model says 9
        input_ids   1 2 7 8 4 9
        loss_mask   0 0 1 1 0 1
    """

    db_id: str
    dialogue_id: str
    input_ids: np.ndarray
    """[T] int32: arrays, because Python's integers take ten times the memory."""
    loss_mask: np.ndarray
    """[T] int8; 1 is learned. The first token is not: nothing stands before it."""

    def __post_init__(self) -> None:
        if len(self.input_ids) != len(self.loss_mask):
            raise ValueError(
                f"{self.dialogue_id}: {len(self.input_ids)} ids, {len(self.loss_mask)} in the mask"
            )
        if self.loss_mask[:1].any():
            raise ValueError(f"{self.dialogue_id}: the first token cannot be learned")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeRow:
    """One or more trajectories as the trainer sees them: a tree of tokens, depth first.

    Example: two trajectories 1 2 7 8 and 1 2 9, of which 7 8 and 9 are learned
        input_ids      1 2 7 8 2 9
        position_ids   0 1 2 3 1 2
        loss_mask      0 0 1 1 0 1
    The trainer predicts each token from the one before it in the row. So where a learned token
    begins a branch, its parent (2) stands before it once more; the copy sees what the original
    sees, and is itself not learned.
    """

    input_ids: np.ndarray
    """[T] int32."""
    position_ids: np.ndarray
    """[T] int32: depths in the tree."""
    loss_mask: np.ndarray
    """[T] int16: how many of the trajectories learn the token."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tree:
    """Some sequences with what they share stored once, each new part behind the part before it."""

    input_ids: np.ndarray
    """[T]."""
    position_ids: np.ndarray
    """[T] int32: depths."""
    parents: np.ndarray
    """[T]: the place of the token before; -1 at the beginning of a tree."""
    paths: tuple[np.ndarray, ...]
    """Of each sequence, in the order given: where its tokens stand."""


def tree_of(sequences: Sequence[np.ndarray]) -> Tree:
    """Sequences of ids in the order of their tokens, so that each shares most with the last one."""
    order = _sorted(sequences)
    ids: list[np.ndarray] = []
    depths: list[np.ndarray] = []
    parents: list[np.ndarray] = []
    paths: dict[int, np.ndarray] = {}
    before = np.empty(0, np.int32)
    path = np.empty(0, np.int64)
    length = 0
    for number in order:
        sequence = sequences[number]
        num_shared = _common(before, sequence)
        new = sequence[num_shared:]
        places = np.arange(length, length + len(new))
        if len(new):
            ids.append(new)
            depths.append(np.arange(num_shared, len(sequence), dtype=np.int32))
            parent = path[num_shared - 1] if num_shared else -1
            parents.append(np.concatenate([[parent], places[:-1]]))
        path = paths[number] = np.concatenate([path[:num_shared], places])
        length += len(new)
        before = sequence
    return Tree(
        input_ids=np.concatenate(ids),
        position_ids=np.concatenate(depths),
        parents=np.concatenate(parents),
        paths=tuple(paths[number] for number in range(len(sequences))),
    )


def merged(trajectories: Sequence[SFTRow]) -> TreeRow:
    """The tree of some trajectories; of a single one, the trajectory itself.

    Its summed loss and gradients are those of the trajectories one by one. So a token counts once
    for each trajectory that learns it, and a trajectory that does not learn it takes nothing
    away: the answer of turn 1, which turn 2 shows as history, is learned once, and a mistake that
    a drill leaves out is still learned from another trajectory that shows it whole. What must not
    be learned has to be left out by every trajectory.
    """
    tree = tree_of([one.input_ids for one in trajectories])
    counts = np.zeros(len(tree.input_ids), np.int16)
    for one, path in zip(trajectories, tree.paths, strict=True):
        counts[path] += one.loss_mask
    branches = (tree.parents >= 0) & (tree.parents != np.arange(len(counts)) - 1)
    begins = (branches & (counts > 0)).nonzero()[0]
    parents = tree.parents[begins]
    return TreeRow(
        input_ids=np.insert(tree.input_ids, begins, tree.input_ids[parents]),
        position_ids=np.insert(tree.position_ids, begins, tree.position_ids[parents]),
        loss_mask=np.insert(counts, begins, 0),
    )


def packs(sequences: Sequence[np.ndarray], max_tokens: int) -> list[list[int]]:
    """The numbers of the sequences that share a pack, those that begin alike together.

    A pack's tree has at most `max_tokens` tokens; a longer sequence has a pack of its own.
    """
    packed: list[list[int]] = []
    before, size = np.empty(0, np.int32), 0
    for number in _sorted(sequences):
        sequence = sequences[number]
        num_new = len(sequence) - _common(before, sequence)
        if packed and size + num_new <= max_tokens:
            packed[-1].append(number)
            size += num_new
        else:
            packed.append([number])
            size = len(sequence)
        before = sequence
    return packed


def tree_rows(trajectories: Sequence[SFTRow], max_tokens: int) -> list[TreeRow]:
    """All trajectories in rows of at most `max_tokens` tokens, those of one database together.

    Databases, dialogues and trajectories come in their order. A dialogue that fits one row is whole
    in one, any other is cut between trajectories; a longer trajectory has a row of its own.
    """
    rows: list[TreeRow] = []
    for of_database in _grouped(trajectories, lambda one: one.db_id):
        taken: list[SFTRow] = []
        tree: TreeRow | None = None
        for dialogue in _grouped(of_database, lambda one: one.dialogue_id):
            fits = len(merged(dialogue).input_ids) <= max_tokens
            for part in [dialogue] if fits else [[one] for one in dialogue]:
                wider = merged([*taken, *part])
                if tree is not None and len(wider.input_ids) > max_tokens:
                    rows.append(tree)
                    taken, wider = [], merged(part)
                taken, tree = [*taken, *part], wider
        assert tree is not None
        rows.append(tree)
    return rows


def _sorted(sequences: Sequence[np.ndarray]) -> list[int]:
    """Their numbers in the order of their tokens."""
    return sorted(range(len(sequences)), key=lambda one: sequences[one].astype(">u4").tobytes())


def _common(first: np.ndarray, second: np.ndarray) -> int:
    """How many tokens two sequences share from their beginning."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(differs.argmax()) if differs.any() else length


def _grouped(rows: Iterable[SFTRow], key: Callable[[SFTRow], str]) -> Iterable[list[SFTRow]]:
    """The rows of each key together, in the order in which they come."""
    groups: dict[str, list[SFTRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups.values()
