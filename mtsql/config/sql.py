"""The pool of database processes and the limits of a query."""

from typing import TypedDict

from pydantic import (
    PositiveFloat,
    PositiveInt,
)

from mtsql.config.section import Section
from mtsql.sql.records import QueryLimits


class PoolSizes(TypedDict):
    """The keyword arguments of a pool that a recipe sets."""

    num_workers: int
    memory_mb: int
    cache_bytes: int


class SqlConfig(Section):
    """The pool of database processes, one on each node."""

    num_workers: PositiveInt = 2
    """Processes on each node: so many for quick queries and so many for slow ones."""
    timeout_s: PositiveFloat = 5.0
    """Of one statement; a slower one becomes an error that the model can read."""
    max_vm_steps: PositiveInt = 50_000_000
    """SQLite's work units in one statement."""
    max_rows: PositiveInt = 10_000
    """Of a result; more are cut off."""
    max_cells: PositiveInt = 1_000_000
    """Of a result; a larger one is capped, and so has no rows."""
    max_bytes: PositiveInt = 8_000_000
    """Of a result; a larger one is capped, and so has no rows."""
    memory_mb: PositiveInt = 1024
    """Address space of one worker."""
    cache_mb: PositiveInt = 64
    """Results that the pool remembers."""

    def pool(self) -> PoolSizes:
        """The keyword arguments of a pool: local or, through Ray, one on each node."""
        return {
            "num_workers": self.num_workers,
            "memory_mb": self.memory_mb,
            "cache_bytes": self.cache_mb * 1_000_000,
        }

    def limits(self) -> QueryLimits:
        return QueryLimits(
            timeout_s=self.timeout_s,
            max_vm_steps=self.max_vm_steps,
            max_rows=self.max_rows,
            max_cells=self.max_cells,
            max_bytes=self.max_bytes,
        )
