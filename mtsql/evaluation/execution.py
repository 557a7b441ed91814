"""Execution match (EX): do two results say the same?

The semantics of the test-suite evaluator (Zhong et al., EMNLP 2020; taoyds/test-suite-sql-eval):
rows are a bag, or a sequence when gold asks for an order; columns may be permuted, their names are
ignored; 1 equals 1.0; two empty results are equal, whatever their columns.

Two differences, both where the official check depends on chance or on spelling: the permutation is
found by a bounded search without random sampling, and a row with 1 beside 10 equals one with 1.0
beside 10 (the official check sorts cells by their text and loses this pair).
"""

import re
from collections import Counter
from collections.abc import Sequence

from mtsql.sql.records import Cell, QueryResult

MAX_CELLS_TRIED = 5_000_000
"""Work spent on one pair before a permutation counts as not found, about a second. Each trial fixes
one column, costs R cells and must keep the rows so far equal as a bag: results of real queries need
a few trials for each column."""

_CHANGES = re.compile(
    r"""
      (?P<kept> '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\] | --[^\n]* | /\*.*?\*/ )
    | (?P<distinct> \bdistinct\b )
    | (?P<operator> [<>!])[ ]=
    | (?P<rest> ; .* )
    | year\s*\(\s*curdate\s*\(\s*\)\s*\)\s*
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def comparable_sql(sql: str, keep_distinct: bool = False) -> str:
    """The text that is executed for EX, for gold and prediction alike.

    Joins `> =`, `< =` and `! =`, removes DISTINCT unless `keep_distinct`, and puts 2020 for
    YEAR(CURDATE()). Strings, quoted names and comments stay as they are.

    What follows the first `;` is dropped, unless `keep_distinct`: the official evaluator judges the
    first statement, as a side effect of removing DISTINCT; without that step a second statement
    is an error.
    """

    def change(match: re.Match[str]) -> str:
        if match["kept"] is not None:
            return match[0]
        if match["distinct"] is not None or match["rest"] is not None:
            return match[0] if keep_distinct else ""
        if match["operator"] is not None:
            return match["operator"] + "="
        return "2020"

    return _CHANGES.sub(change, sql)


def needs_order(gold_sql: str) -> bool:
    """Whether rows are compared as a sequence: the gold text holds ORDER BY, at any depth."""
    return "order by" in gold_sql.lower()


def execution_match(gold: QueryResult, pred: QueryResult, *, ordered: bool) -> bool:
    """Whether some permutation of the prediction's columns gives the gold rows.

    Both results must have run (`status` OK) under the same row cap, so that one which is cut has
    more rows than one which is not; the caller judges failures and pairs that are both cut.

    Args:
        gold: `rows` [R][C].
        pred: `rows` [R'][C'].
        ordered: rows are a sequence; see `needs_order`.
    """
    gold_rows, pred_rows = gold.rows, pred.rows
    if not gold_rows and not pred_rows:
        return True
    if gold.truncated != pred.truncated:
        return False
    if len(gold_rows) != len(pred_rows) or len(gold_rows[0]) != len(pred_rows[0]):
        return False
    if gold_rows == pred_rows:
        return True
    gold_columns = tuple(zip(*gold_rows, strict=True))
    pred_columns = tuple(zip(*pred_rows, strict=True))
    if ordered:
        # Rows stay where they are, so each column must be found as a whole.
        return Counter(gold_columns) == Counter(pred_columns)
    if Counter(gold_rows) == Counter(pred_rows):
        return True
    return _has_permutation(gold_columns, pred_columns)


Values = tuple[Cell, ...]


def _has_permutation(gold_columns: Sequence[Values], pred_columns: Sequence[Values]) -> bool:
    gold_bags = [Counter(column) for column in gold_columns]
    pred_bags = [Counter(column) for column in pred_columns]
    candidates = [
        [place for place, bag in enumerate(pred_bags) if bag == gold_bag] for gold_bag in gold_bags
    ]
    if not all(candidates):
        return False
    # Columns with many different values come first: they tell the rows apart, and the rest follows.
    places = sorted(
        range(len(gold_columns)), key=lambda place: (-len(gold_bags[place]), len(candidates[place]))
    )
    return _Search(
        [gold_columns[place] for place in places],
        pred_columns,
        [candidates[place] for place in places],
    ).extend(0, [0] * len(gold_columns[0]), [0] * len(pred_columns[0]), frozenset())


class _Search:
    """Depth-first over columns; the rows, cut to the columns fixed so far, stay equal as bags."""

    def __init__(
        self,
        gold_columns: Sequence[Values],
        pred_columns: Sequence[Values],
        candidates: Sequence[Sequence[int]],
    ) -> None:
        self.gold_columns = gold_columns
        self.pred_columns = pred_columns
        self.candidates = candidates
        self.num_cells_left = MAX_CELLS_TRIED

    def extend(
        self, num_fixed: int, gold_labels: list[int], pred_labels: list[int], used: frozenset[int]
    ) -> bool:
        """`*_labels` [R] number the different rows, cut to the fixed columns."""
        if num_fixed == len(self.gold_columns):
            return True
        numbers: dict[tuple[int, Cell], int] = {}
        gold_next = [
            numbers.setdefault(pair, len(numbers))
            for pair in zip(gold_labels, self.gold_columns[num_fixed], strict=True)
        ]
        gold_bag = Counter(gold_next)
        tried: set[Values] = set()
        for place in self.candidates[num_fixed]:
            column = self.pred_columns[place]
            if place in used or column in tried:  # equal columns are interchangeable
                continue
            if self.num_cells_left < len(column):
                return False
            self.num_cells_left -= len(column)
            tried.add(column)
            pred_next = [numbers.get(pair, -1) for pair in zip(pred_labels, column, strict=True)]
            if Counter(pred_next) == gold_bag and self.extend(
                num_fixed + 1, gold_next, pred_next, used | {place}
            ):
                return True
        return False
