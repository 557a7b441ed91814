"""Results already computed, kept within a byte budget."""

import re
from collections import OrderedDict
from functools import lru_cache

from mtsql.sql.engine import ErrorKind
from mtsql.sql.records import QueryResult, QueryStatus
from mtsql.sql.wire import LimitsRow

CacheKey = tuple[str, str, LimitsRow]
"""(hash of the database, normalised SQL, limits): a verdict holds under the limits that gave it."""

ENTRY_BYTES = 500
"""Bookkeeping of one entry: key, node of the list, headers of the objects."""


class ResultCache:
    """Payloads (see `mtsql.sql.wire`); the least recently used leave first. One thread."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._entries: OrderedDict[CacheKey, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: CacheKey) -> bytes | None:
        payload = self._entries.get(key)
        if payload is not None:
            self._entries.move_to_end(key)
        return payload

    def put(self, key: CacheKey, payload: bytes) -> None:
        """Keep a repeatable result.

        One entry takes at most an eighth of the budget, so that one large result cannot empty the
        cache.
        """
        num_bytes = _entry_bytes(key, payload)
        if num_bytes * 8 > self.max_bytes or key in self._entries:
            return
        self._entries[key] = payload
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= _entry_bytes(*self._entries.popitem(last=False))


def _entry_bytes(key: CacheKey, payload: bytes) -> int:
    return ENTRY_BYTES + len(key[1]) + len(payload)


def is_repeatable(result: QueryResult) -> bool:
    """Whether the same query would end the same way again.

    Clock and machinery promise nothing, and how much memory is left depends on a worker's past.
    """
    if result.kind == ErrorKind.MEMORY:
        return False
    if result.status is QueryStatus.INTERRUPTED:
        return result.kind == ErrorKind.STEPS
    return result.status is not QueryStatus.INFRA_FAULT


PLAIN_SPACE = re.compile(r"[ \t\r\n\f]+")
ODD_SPACE = re.compile(r"[\t\r\n\f]|  ")
HARD_TO_READ = re.compile(r"--|/\*|[\\\[$#]")
"""Comments, escapes, and quoting that dialects differ on: such texts stay as they are."""
LITERAL = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`)""")


@lru_cache(maxsize=256)  # a query often goes to many databases, one after the other
def normalise(sql: str) -> str:
    r"""The same statement with single spaces: what is run, and what the cache knows it by.

    Example: "SELECT  'a  b'\n FROM t ; " becomes "SELECT 'a  b'\nFROM t". A line's end remains one,
    because between two literals it has a meaning in PostgreSQL.
    """
    if "\v" in sql:
        return sql  # to SQLite it is one more space, elsewhere an error
    sql = sql.strip("; \t\r\n\f")
    if not ODD_SPACE.search(sql) or HARD_TO_READ.search(sql):
        return sql
    parts = LITERAL.split(sql)
    if any(quote in part for part in parts[::2] for quote in "'\"`"):
        return sql  # a literal does not end
    parts[::2] = [PLAIN_SPACE.sub(_one_space, part) for part in parts[::2]]
    return "".join(parts)


def _one_space(spaces: re.Match[str]) -> str:
    return "\n" if "\n" in spaces.group() else " "
