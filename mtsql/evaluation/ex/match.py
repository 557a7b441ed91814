"""Execution match (EX): do two results say the same?

The semantics of the test-suite evaluator (Zhong et al., EMNLP 2020; taoyds/test-suite-sql-eval):
rows are a bag, or a sequence when gold asks for an order; columns may be permuted, their names are
ignored; 1 equals 1.0; two empty results are equal, even if their columns differ.

The official search for a permutation draws rows at random to rule columns out. That changes its
time and never its verdict; here the search is bounded and draws nothing. One oddity shows in
verdicts and is followed: before rows are compared, the cells of each are sorted by their text, so
that a row with 1 next to 10 does not equal one with 1.0 next to 10.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import chain

from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.sql.records import Cell, QueryResult

MAX_CELLS_TRIED = 5_000_000
"""Work spent on one pair before the search ends without a verdict, about a second. Each trial fixes
one column, costs R cells and must keep the rows so far equal as a bag: results of real queries need
a few trials for each column."""
UNREADABLE = "\ufffd"
"""Stands where text is not UTF-8; the official evaluator drops such bytes. Data may hold the mark
itself, which then is dropped as well where the texts differ; see `Rules` on what differs."""

Rows = tuple[tuple[Cell, ...], ...]


class SearchLimitError(Exception):
    """No permutation was found within `MAX_CELLS_TRIED`, and none was excluded."""


class ResultRows:
    """The rows of one result [R][C], with what comparisons need of them, computed once."""

    def __init__(self, result: QueryResult) -> None:
        self.rows: Rows = result.rows
        self.truncated = result.truncated

    @cached_property
    def hash_sum(self) -> int:
        """Equal for equal rows, in any order of rows and columns."""
        return sum(map(hash, chain.from_iterable(self.rows)))

    @cached_property
    def types(self) -> list[type]:
        return list(map(type, chain.from_iterable(self.rows)))

    @cached_property
    def fractions(self) -> set[Cell]:
        """Numbers of the type that is written with a decimal point, such as 1.0."""
        return {cell for cell in chain.from_iterable(self.rows) if type(cell) is float}

    @cached_property
    def integers(self) -> set[Cell]:
        return {cell for cell in chain.from_iterable(self.rows) if type(cell) is int}

    @cached_property
    def columns(self) -> "list[Values]":
        return list(zip(*self.rows, strict=True))

    @cached_property
    def bag(self) -> Counter[tuple[Cell, ...]]:
        return Counter(self.rows)

    @cached_property
    def spelled(self) -> list[str]:
        return list(map(repr, self.rows))

    @cached_property
    def sorted_rows(self) -> list[tuple[Cell, ...]]:
        """Rows with their cells sorted by text, as the official check sees them."""
        return [tuple(sorted(row, key=_by_text)) for row in self.rows]

    @cached_property
    def has_unreadable(self) -> bool:
        cells = chain.from_iterable(self.rows)
        return UNREADABLE in "".join([cell for cell in cells if type(cell) is str])

    def readable(self) -> "ResultRows":
        """The same without marks for text that is not UTF-8."""
        if not self.has_unreadable:
            return self
        rows = tuple(tuple(map(_readable, row)) for row in self.rows)
        copy = ResultRows.__new__(ResultRows)
        copy.rows, copy.truncated = rows, self.truncated
        return copy

    def is_same(self, result: QueryResult) -> bool:
        """Equal to the last letter; the usual case, and the one that costs least to see."""
        if self.rows != result.rows or self.truncated != result.truncated:
            return False
        if 0.0 in self.fractions:  # equals -0.0, which is spelled otherwise
            return repr(self.rows) == repr(result.rows)
        return self.types == list(map(type, chain.from_iterable(result.rows)))


def _by_text(cell: Cell) -> str:
    return f"{cell}{type(cell)}"


def _readable(cell: Cell) -> Cell:
    return cell.replace(UNREADABLE, "") if isinstance(cell, str) else cell


def needs_order(gold_sql: str) -> bool:
    """Whether rows are compared as a sequence: the gold text holds ORDER BY, at any depth."""
    return "order by" in gold_sql.lower()


def execution_match(
    gold: QueryResult, pred: QueryResult, *, ordered: bool, rules: Rules = OFFICIAL
) -> bool:
    """Whether some permutation of the prediction's columns gives the gold rows.

    For two results at hand; `mtsql.evaluation.judge` also runs the queries, many at once. Both
    results must have run (`status` OK) under the same row cap, so that one which is cut has more
    rows than one which is not; the caller judges failures and pairs that are both cut.

    Args:
        gold: `rows` [R][C].
        pred: `rows` [R'][C'].
        ordered: rows are a sequence; see `needs_order`.

    Raises:
        SearchLimitError: too many permutations are possible.
    """
    return rows_match(ResultRows(gold), pred, ordered=ordered, rules=rules)


def rows_match(
    gold: ResultRows, pred: QueryResult, *, ordered: bool, rules: Rules = OFFICIAL
) -> bool:
    """`execution_match` for a gold that is compared more than once."""
    if not gold.rows and not pred.rows:
        return not rules.empty_is_wrong
    return gold.is_same(pred) or _match(gold, ResultRows(pred), ordered, rules)


def _match(gold: ResultRows, pred: ResultRows, ordered: bool, rules: Rules) -> bool:
    if gold.truncated != pred.truncated or not gold.rows:
        return False
    if len(gold.rows) != len(pred.rows) or len(gold.rows[0]) != len(pred.rows[0]):
        return False
    if gold.rows != pred.rows:
        if gold.hash_sum != pred.hash_sum and (gold.has_unreadable or pred.has_unreadable):
            gold, pred = gold.readable(), pred.readable()
        if gold.hash_sum != pred.hash_sum or not _can_be_permuted(gold, pred, ordered):
            return False
    return rules.numbers_by_value or _same_by_text(gold, pred, ordered)


def strict_match(gold: ResultRows, pred: ResultRows, *, ordered: bool) -> bool:
    """Stricter than EX: columns stay where they are. Rows are a bag, or a sequence if `ordered`."""
    if gold.truncated or pred.truncated or len(gold.rows) != len(pred.rows):
        return False
    return gold.rows == pred.rows or (not ordered and gold.bag == pred.bag)


def _can_be_permuted(gold: ResultRows, pred: ResultRows, ordered: bool) -> bool:
    if ordered:
        # Rows stay where they are, so each column must be found whole.
        return Counter(gold.columns) == Counter(pred.columns)
    return gold.bag == pred.bag or _has_permutation(gold.columns, pred.columns)


def _same_by_text(gold: ResultRows, pred: ResultRows, ordered: bool) -> bool:
    """The official check on rows whose cells are sorted by text; it fails where 1 meets 1.0."""
    fractions, integers = gold.fractions | pred.fractions, gold.integers | pred.integers
    if 0.0 not in fractions and fractions.isdisjoint(integers):
        return True  # no number is spelled in two ways
    if gold.spelled == pred.spelled if ordered else Counter(gold.spelled) == Counter(pred.spelled):
        return True  # the same texts, and no need to sort cells
    if ordered:
        return gold.sorted_rows == pred.sorted_rows
    return set(gold.sorted_rows) == set(pred.sorted_rows)


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
                raise SearchLimitError
            self.num_cells_left -= len(column)
            tried.add(column)
            pred_next = [numbers.get(pair, -1) for pair in zip(pred_labels, column, strict=True)]
            if Counter(pred_next) == gold_bag and self.extend(
                num_fixed + 1, gold_next, pred_next, used | {place}
            ):
                return True
        return False
