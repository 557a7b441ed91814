"""Results already computed, kept within a byte budget."""

from collections import OrderedDict

from mtsql.sql.engine import ErrorKind
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus

CacheKey = tuple[str, tuple[int, int], str, QueryLimits]
"""(db_id, identity of the file, sql, limits): a verdict holds under the limits that gave it."""

ENTRY_BYTES = 1000
"""Bookkeeping of one entry: key, record, list node."""
CELL_BYTES = 64
"""One Python object and its slot in a tuple; the payload comes on top."""


class ResultCache:
    """Least recently used results leave first. One thread."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._entries: OrderedDict[CacheKey, tuple[QueryResult, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: CacheKey) -> QueryResult | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: CacheKey, result: QueryResult, payload_bytes: int) -> None:
        """Keep `result`, of which `payload_bytes` came over the wire, if its verdict is repeatable.

        One entry takes at most an eighth of the budget, so that one large result cannot empty the
        cache.
        """
        num_cells = len(result.rows) * len(result.columns)
        num_bytes = ENTRY_BYTES + payload_bytes + len(key[2]) + CELL_BYTES * num_cells
        if not is_repeatable(result) or num_bytes * 8 > self.max_bytes or key in self._entries:
            return
        self._entries[key] = (result, num_bytes)
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= self._entries.popitem(last=False)[1][1]


def is_repeatable(result: QueryResult) -> bool:
    """Whether the same query would end the same way again; clock and machinery promise nothing."""
    if result.status is QueryStatus.INTERRUPTED:
        return result.kind == ErrorKind.STEPS
    return result.status is not QueryStatus.INFRA_FAULT
