"""A schema as prompt text."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from mtsql.schema import Schema
from mtsql.shown.harmless import neutral


@lru_cache(maxsize=1024)
def compact_schema(schema: Schema) -> str:
    """One line: `shop : id , name , city | sale : id , shop_id = shop.id , price`."""
    references = _references(schema)
    return neutral(
        " | ".join(
            f"{table.name} : "
            + " , ".join(
                " = ".join([column.name, *references.get((table.name, column.name), ())])
                for column in table.columns
            )
            for table in schema.tables
        )
    )


@lru_cache(maxsize=1024)
def full_schema(schema: Schema) -> str:
    """A line for each table: `sale(id integer primary key, shop_id integer -> shop.id)`."""
    references = _references(schema)
    lines: list[str] = []
    for table in schema.tables:
        columns = [
            f"{column.name} {column.type}{' primary key' if column.is_primary else ''}"
            + "".join(f" -> {end}" for end in references.get((table.name, column.name), ()))
            for column in table.columns
        ]
        lines.append(neutral(f"{table.name}({', '.join(columns)})"))
    return "\n".join(lines)


def m_schema(schema: Schema, examples: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """M-Schema, the layout of XiYan-SQL: a line for each column, with types and example values.

    Example:
        【DB_ID】 shops
        【Schema】
        # Table: sale
        [
        (id:INTEGER, Primary Key, Examples: [1, 2]),
        (city:TEXT, Examples: ['Oslo', 'Paris'])
        ]
        【Foreign keys】
        sale.shop_id=shop.id
    """
    lines = [f"【DB_ID】 {neutral(schema.db_id)}", "【Schema】"]
    for table in schema.tables:
        columns: list[str] = []
        for column in table.columns:
            parts = [f"{column.name}:{column.type.upper()}"]
            if column.is_primary:
                parts.append("Primary Key")
            if values := examples.get((table.name, column.name)):
                parts.append(f"Examples: [{', '.join(values)}]")
            columns.append(neutral(f"({', '.join(parts)})"))
        lines += [neutral(f"# Table: {table.name}"), "[", ",\n".join(columns), "]"]
    if schema.foreign_keys:
        lines.append("【Foreign keys】")
        lines += [
            neutral(f"{key.table}.{key.column}={key.ref_table}.{key.ref_column}")
            for key in schema.foreign_keys
        ]
    return "\n".join(lines)


def _references(schema: Schema) -> dict[tuple[str, str], list[str]]:
    references: dict[tuple[str, str], list[str]] = {}
    for key in schema.foreign_keys:
        end = f"{key.ref_table}.{key.ref_column}"
        references.setdefault((key.table, key.column), []).append(end)
    return references
