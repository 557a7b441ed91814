"""Schemas as the tables.json files of Spider, SParC and CoSQL describe them."""

from collections.abc import Sequence

from pydantic import BaseModel

from mtsql.errors import DataError
from mtsql.schema import Column, ForeignKey, Schema, Table


class SpiderTables(BaseModel, frozen=True, extra="ignore"):
    """One entry of a tables.json file of Spider, SParC or CoSQL; only the keys that are used.

    Columns are [table index, name]; entry 0 is [-1, "*"]. Keys are indices of columns.
    """

    db_id: str
    table_names_original: list[str]
    column_names_original: list[tuple[int, str]]
    column_types: list[str]
    primary_keys: list[int | list[int]]
    """A composite key is a list; older files hold single indices only."""
    foreign_keys: list[tuple[int, int]]


def schema_from_spider(entry: SpiderTables) -> Schema:
    """The schema of a tables.json entry, in the file's order and original spelling.

    Raises:
        DataError: an index points outside its list; the text names the database and the key.
    """
    columns = entry.column_names_original
    flat_keys = [key if isinstance(key, list) else [key] for key in entry.primary_keys]
    primary = {index for key in flat_keys for index in key}
    if len(entry.column_types) != len(columns):
        raise _broken(entry, "column_types", "is not as long as column_names_original")
    if not all(-1 <= table < len(entry.table_names_original) for table, _ in columns):
        raise _broken(entry, "column_names_original", "holds a table index out of range")
    if not all(_names_a_column(columns, index) for index in primary):
        raise _broken(entry, "primary_keys", "holds a column index out of range")
    if not all(_names_a_column(columns, index) for pair in entry.foreign_keys for index in pair):
        raise _broken(entry, "foreign_keys", "holds a column index out of range")

    def foreign_key(index: int, ref_index: int) -> ForeignKey:
        table, ref_table = columns[index][0], columns[ref_index][0]
        return ForeignKey(
            table=entry.table_names_original[table],
            column=columns[index][1],
            ref_table=entry.table_names_original[ref_table],
            ref_column=columns[ref_index][1],
        )

    return Schema(
        db_id=entry.db_id,
        tables=tuple(
            Table(
                name=name,
                columns=tuple(
                    Column(
                        name=column,
                        type=entry.column_types[index].lower(),
                        is_primary=index in primary,
                    )
                    for index, (table, column) in enumerate(columns)
                    if table == number
                ),
            )
            for number, name in enumerate(entry.table_names_original)
        ),
        foreign_keys=tuple(foreign_key(*pair) for pair in entry.foreign_keys),
    )


def _names_a_column(columns: Sequence[tuple[int, str]], index: int) -> bool:
    return 0 <= index < len(columns) and columns[index][0] >= 0


def _broken(entry: SpiderTables, key: str, complaint: str) -> DataError:
    return DataError(f"database {entry.db_id!r}, key {key} {complaint}; correct the file")
