"""What a database looks like: tables, columns, keys."""

from typing import Literal

from pydantic import BaseModel

EngineName = Literal["sqlite", "duckdb", "postgresql", "other"]
"""Whose SQL a database speaks: what a word in double quotes is, and which names need quotes."""


class Column(BaseModel, frozen=True, extra="forbid"):
    name: str
    type: str
    """Lower case: text, number, time, boolean, others (Spider's words) or the engine's own."""
    is_primary: bool = False


class Table(BaseModel, frozen=True, extra="forbid"):
    """What a query can read from by name: a table, or a view of any kind."""

    name: str
    columns: tuple[Column, ...]
    namespace: str = ""
    """The schema that a query has to name before the table; empty where it need not."""


class ForeignKey(BaseModel, frozen=True, extra="forbid"):
    table: str
    column: str
    ref_table: str
    ref_column: str


class Schema(BaseModel, frozen=True, extra="forbid"):
    """One database: its tables in their own order, original spelling, and its foreign keys."""

    db_id: str
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()
    engine: EngineName = "sqlite"
    left_out: tuple[str, ...] = ()
    """What the database holds besides and no query can read, each with the reason."""

    def __hash__(self) -> int:
        # Each step asks caches by schema; to hash all columns costs more than most of them save.
        return hash(self.db_id)
