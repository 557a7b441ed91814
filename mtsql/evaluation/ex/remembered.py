"""What judging one executor's databases has found out: results of gold queries, and verdicts.

Rollouts of one group often give the same answer, and every candidate of a turn meets the same gold.
"""

from collections.abc import Hashable

from cachetools import LRUCache

from mtsql.evaluation.ex.match import ResultRows
from mtsql.evaluation.records import Judgement
from mtsql.per_object import PerObject
from mtsql.sql.records import SqlExecutor

VerdictKey = tuple[Hashable, ...]
GoldKey = tuple[str, str, int]
"""(db_id, SQL, identity of the limits)"""
MAX_VERDICTS = 16_384
MAX_GOLD_CELLS = 2_000_000
"""Of all gold results kept for one executor."""


class Memory:
    """Of one executor. A database must not change while it is used, as the pool demands too."""

    def __init__(self, *, max_gold_cells: int = MAX_GOLD_CELLS) -> None:
        self.verdicts: LRUCache[VerdictKey, Judgement] = LRUCache(MAX_VERDICTS)
        self.golds: LRUCache[GoldKey, ResultRows] = LRUCache(max_gold_cells, getsizeof=_num_cells)

    def keep_gold(self, key: GoldKey, rows: ResultRows) -> None:
        """Remember a result, unless it is larger than all that may be kept."""
        if _num_cells(rows) <= self.golds.maxsize:
            self.golds[key] = rows


def _num_cells(rows: ResultRows) -> int:
    return 10 + len(rows.rows) * (1 + len(rows.rows[0]) if rows.rows else 1)


def _new(_executor: SqlExecutor) -> Memory:
    return Memory()


MEMORIES: PerObject[SqlExecutor, Memory] = PerObject(_new)
"""The memory that goes with each executor object, for as long as it lives."""
