"""What a database looks like: tables, columns, keys."""

from pydantic import BaseModel


class Column(BaseModel, frozen=True, extra="forbid"):
    name: str
    type: str
    """Lower case: text, number, time, boolean, others (Spider's words) or the engine's own."""
    is_primary: bool = False


class Table(BaseModel, frozen=True, extra="forbid"):
    name: str
    columns: tuple[Column, ...]


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

    def __hash__(self) -> int:
        # Each step asks caches by schema; to hash all columns costs more than most of them save.
        return hash(self.db_id)
