"""A few stored values of each column, for prompts: read through the SQL pool, once per database."""

from collections.abc import Mapping
from dataclasses import replace

from mtsql.per_object import PerObject
from mtsql.schema import Schema, Table
from mtsql.shown.results import preview_cell
from mtsql.sql.quoting import qualified, quote_name, quote_text
from mtsql.sql.records import Cell, QueryLimits, QueryRequest, QueryStatus, SqlExecutor

NUM_ROWS = 1000
"""Rows at a table's start that are looked at; the rest may be large."""
MAX_CHARS = 40
"""Of one value; what is longer says little and is cut."""
MAX_QUERIES = 64
"""In one message to the pool."""
TIMEOUT_S = 1.0
"""For one column; a slower one has no examples."""

Examples = Mapping[tuple[str, str], tuple[str, ...]]
"""Values by (table, column), each as an SQL literal; a column without any is missing."""

_Key = tuple[str, int, Schema]
"""(db_id, limit, schema)"""


def _nothing_known(_executor: SqlExecutor) -> dict[_Key, Examples]:
    return {}


_known: PerObject[SqlExecutor, dict[_Key, Examples]] = PerObject(_nothing_known)


async def example_values(
    executor: SqlExecutor, db_id: str, schema: Schema, *, limit: int, limits: QueryLimits
) -> Examples:
    """At most `limit` different values of each column, NULL not among them.

    Bounded in rows, time and length; a column that cannot be read has no examples. Kept for as long
    as the executor lives, unless its machinery failed.
    """
    known = _known.of(executor)
    key = (db_id, limit, schema)
    if key in known:
        return known[key]
    columns = [(table, column.name) for table in schema.tables for column in table.columns]
    bounds = replace(limits, timeout_s=min(limits.timeout_s, TIMEOUT_S), max_rows=max(1, limit))
    examples: dict[tuple[str, str], tuple[str, ...]] = {}
    is_whole = True
    for start in range(0, len(columns) if limit else 0, MAX_QUERIES):
        batch = columns[start : start + MAX_QUERIES]
        results = await executor.execute_many(
            [
                QueryRequest(db_id=db_id, sql=_query(*column, limit), limits=bounds)
                for column in batch
            ]
        )
        for (table, column), result in zip(batch, results, strict=True):
            is_whole = is_whole and result.status is not QueryStatus.INFRA_FAULT
            if result.status is QueryStatus.OK and result.rows:
                values = tuple(_literal(row[0]) for row in result.rows)
                examples.setdefault((table.name, column), values)
    if is_whole:
        known[key] = examples
    return examples


def _query(table: Table, column: str, limit: int) -> str:
    # With its table before it, a name that does not exist is an error, not a text.
    source, name = qualified(table), quote_name(column)
    return (
        f"SELECT DISTINCT s.{name} FROM (SELECT {source}.{name} AS {name} "
        f"FROM {source} LIMIT {NUM_ROWS}) AS s WHERE s.{name} IS NOT NULL LIMIT {limit}"
    )


def _literal(cell: Cell) -> str:
    value = preview_cell(cell, MAX_CHARS)
    if not isinstance(value, str) or isinstance(cell, bytes | float):
        return str(value)
    return quote_text(value)
