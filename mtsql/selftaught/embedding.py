"""Trajectories as vectors whose cosine says how alike they are.

The default needs no model. It counts what a trajectory does (1-, 2- and 3-grams of its actions and
result classes) and what its SQL is made of (kinds of nodes of the syntax tree, tables, columns, and
each of them under its parent); literals do not count. Actions and SQL weigh the same, and so does
every proposal.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol
from zlib import crc32

import numpy as np
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp
from sqlglot.errors import SqlglotError

from mtsql.query.match import MAX_SQL_CHARS
from mtsql.query.texts import with_single_quotes
from mtsql.selftaught.samples import Outline

Vectors = NDArray[np.float64]
"""[n, d]."""
NUM_ACTION_FEATURES = 256
NUM_SQL_FEATURES = 768
_LENGTH = 4096
_WORD = re.compile(r"\w+|[^\w\s]")
_LITERAL = re.compile(
    r"""("[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/)|('(?:[^']|'')*+')|\b\d+(?:\.\d+)?\b""",
    re.DOTALL,
)
"""Quoted names and comments (kept), texts, numbers."""


class Embedder(Protocol):
    """Maps n outlines to n vectors [n, d]; each depends on its own outline only.

    Lengths do not matter. Noise up to 1e-7, as the batches of a model make, seldom does: cosines
    are rounded to six decimals.
    """

    def __call__(self, outlines: Sequence[Outline], /) -> Vectors: ...


class FeatureEmbedder:
    """Hashed counts of actions and SQL, see above.

    The components are whole numbers, so products of vectors are exact: no order of summation, and
    so no number of threads, can change a choice.
    """

    def __call__(self, outlines: Sequence[Outline], /) -> Vectors:
        vectors = np.zeros((len(outlines), NUM_ACTION_FEATURES + NUM_SQL_FEATURES))
        for row, outline in zip(vectors, outlines, strict=True):
            actions, sql = row[:NUM_ACTION_FEATURES], row[NUM_ACTION_FEATURES:]
            _add(actions, _of_actions(outline.actions))
            for proposal in outline.proposals:
                _add(sql, _of_sql(proposal))
            for block in (actions, sql):
                length = np.sqrt(np.square(block).sum())
                np.rint(block * (_LENGTH / length if length else 0.0), out=block)
        return vectors


_Features = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Indices, each once, and weights, together of length 1."""


def _add(block: NDArray[np.float64], features: _Features) -> None:
    indices, weights = features
    block[indices] += weights


@lru_cache(maxsize=16_384)
def _of_actions(actions: tuple[str, ...]) -> _Features:
    words = ("^", *actions, "$")
    grams = (words[at : at + size] for size in (1, 2, 3) for at in range(len(words) - size + 1))
    return _hashed((" ".join(gram) for gram in grams), NUM_ACTION_FEATURES)


@lru_cache(maxsize=16_384)
def _of_sql(sql: str) -> _Features:
    return _of_shape(_LITERAL.sub(_blank, with_single_quotes(sql.strip().rstrip(";"))))


@lru_cache(maxsize=16_384)
def _of_shape(sql: str) -> _Features:
    # Parsing is what costs: statements that differ in literals only are parsed once.
    return _hashed(sql_features(sql), NUM_SQL_FEATURES)


def _blank(literal: re.Match[str]) -> str:
    return literal[1] or ("''" if literal[2] else "0")


def sql_features(sql: str) -> list[str]:
    """The features of a statement, repeated ones too; of its words where it cannot be parsed.

    Example: SELECT name FROM shop
        select  column:name  select>column:name  from  select>from  table:shop  from>table:shop
    """
    if len(sql) <= MAX_SQL_CHARS:
        try:
            statements = sqlglot.parse(sql, dialect="sqlite")
            if len(statements) == 1 and statements[0] is not None:
                return list(_of_tree(statements[0]))
        except (SqlglotError, RecursionError):
            pass
    words = _WORD.findall(sql[:MAX_SQL_CHARS].lower())
    return [*(f"word:{word}" for word in words), *(f"{a} {b}" for a, b in pairwise(words))]


def _of_tree(tree: exp.Expr) -> Iterator[str]:
    for node in tree.walk():
        if isinstance(node, exp.Identifier):
            continue
        label = _label(node)
        yield label
        if node.parent is not None:
            yield f"{node.parent.key}>{label}"
        if not isinstance(node, exp.Literal):
            # What stands on the node itself: DESC, LEFT, ALL ...
            for name, value in node.args.items():
                if value is True or (isinstance(value, str) and value):
                    yield f"{node.key}.{name}={value}".lower()


def _label(node: exp.Expr) -> str:
    return (
        f"{node.key}:{node.name.lower()}" if isinstance(node, exp.Column | exp.Table) else node.key
    )


def _hashed(features: Iterable[str], num_features: int) -> _Features:
    # crc32 is the same in every process and on every machine; hash() is not.
    counts = Counter(crc32(feature.encode()) % num_features for feature in features)
    indices = np.fromiter(sorted(counts), dtype=np.intp)
    weights = np.fromiter((counts[index] for index in sorted(counts)), dtype=np.float64)
    length = np.sqrt(np.square(weights).sum())
    return indices, weights / length if length else weights
