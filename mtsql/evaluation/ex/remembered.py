"""What judging one executor's databases has found out: results of gold queries, and verdicts.

Rollouts of one group often give the same answer, and every candidate of a turn meets the same gold.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from mtsql.evaluation.ex.match import Answer
from mtsql.evaluation.records import Judgement
from mtsql.sql.records import SqlExecutor

VerdictKey = tuple[Hashable, ...]
GoldKey = tuple[str, str, int]
"""(db_id, SQL, identity of the limits)"""
MAX_VERDICTS = 16_384
MAX_GOLD_CELLS = 2_000_000
"""Of all gold results kept for one executor."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values used last, as many as their sizes together allow."""

    def __init__(self, max_size: int, size_of: Callable[[Value], int] = lambda _: 1) -> None:
        self._max_size = max_size
        self._size_of = size_of
        self._size = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, unless it is larger than all that may be kept."""
        size = self._size_of(value)
        if key in self._values or size > self._max_size:
            return
        self._values[key] = value
        self._size += size
        while self._size > self._max_size:
            _, dropped = self._values.popitem(last=False)
            self._size -= self._size_of(dropped)


class Memory:
    """Of one executor. A database must not change while it is used, as the pool demands too."""

    def __init__(self) -> None:
        self.verdicts: Recent[VerdictKey, Judgement] = Recent(MAX_VERDICTS)
        self.golds: Recent[GoldKey, Answer] = Recent(MAX_GOLD_CELLS, _num_cells)


def _num_cells(answer: Answer) -> int:
    return 10 + len(answer.rows) * (1 + len(answer.rows[0]) if answer.rows else 1)


_MEMORIES: dict[int, Memory] = {}


def memory_of(executor: SqlExecutor) -> Memory:
    """The memory that goes with this executor object, for as long as it lives."""
    memory = _MEMORIES.get(id(executor))
    if memory is None:
        memory = Memory()
        weakref.finalize(executor, _MEMORIES.pop, id(executor), None).atexit = False
        _MEMORIES[id(executor)] = memory
    return memory
