"""A schema as prompt text; names that need quotes stand in those that the engine takes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from mtsql.schema import Schema, Table
from mtsql.shown.harmless import neutral, neutral_name
from mtsql.sql.quoting import needs_quotes, quote_name


@lru_cache(maxsize=1024)
def compact_schema(schema: Schema) -> str:
    """One line: `shop : id , name , city | sale : id , shop_id = shop.id , price`."""
    return " | ".join(
        f"{_table(table, schema)} : {' , '.join(_compact_columns(table, ends, schema))}".rstrip()
        for table, ends in _with_references(schema)
    )


def _compact_columns(
    table: Table, ends: Mapping[str, Sequence[str]], schema: Schema
) -> Iterator[str]:
    for column in table.columns:
        yield " = ".join([_name(column.name, schema), *ends.get(column.name, ())])


@lru_cache(maxsize=1024)
def full_schema(schema: Schema) -> str:
    """A line for each table: `sale(id integer primary key, shop_id integer -> shop.id)`."""
    lines: list[str] = []
    for table, ends in _with_references(schema):
        columns = [
            f"{_name(column.name, schema)} {neutral(column.type)}"
            + " primary key" * column.is_primary
            + "".join(f" -> {end}" for end in ends.get(column.name, ()))
            for column in table.columns
        ]
        lines.append(f"{_table(table, schema)}({', '.join(columns)})")
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
            name = _name(column.name, schema)
            parts = [f"{name}:{neutral(column.type.upper())}"]
            if column.is_primary:
                parts.append("Primary Key")
            if values := examples.get((table.name, column.name)):
                parts.append(f"Examples: [{', '.join(neutral(value) for value in values)}]")
            columns.append(f"({', '.join(parts)})")
        lines += [f"# Table: {_table(table, schema)}", "[", ",\n".join(columns), "]"]
    joined = [
        f"{_end(key.table, key.column, schema)}={_end(key.ref_table, key.ref_column, schema)}"
        for key in schema.foreign_keys
    ]
    return "\n".join([*lines, *(["【Foreign keys】", *joined] if joined else [])])


def _with_references(schema: Schema) -> Iterator[tuple[Table, Mapping[str, Sequence[str]]]]:
    """Each table, and the ends of its columns' foreign keys: `shop.id`."""
    ends: dict[int, dict[str, list[str]]] = {}
    for key in schema.foreign_keys:
        own = ends.setdefault(id(_first(key.table, schema)), {})
        own.setdefault(key.column, []).append(_end(key.ref_table, key.ref_column, schema))
    for table in schema.tables:
        yield table, ends.get(id(table), {})


def _first(name: str, schema: Schema) -> Table:
    """Keys name tables without their namespace: of several of a name they mean the first."""
    found = (table for table in schema.tables if table.name == name)
    return next(found, Table(name=name, columns=()))


def _end(table: str, column: str, schema: Schema) -> str:
    return column_name(_first(table, schema), column, schema)


def column_name(table: Table, column: str, schema: Schema) -> str:
    """`city.name`, as a query can write it."""
    return f"{_table(table, schema)}.{_name(column, schema)}"


def _table(table: Table, schema: Schema) -> str:
    name = _name(table.name, schema)
    return f"{_name(table.namespace, schema)}.{name}" if table.namespace else name


def _name(name: str, schema: Schema) -> str:
    """As it can be copied into a query; harmless in any case."""
    return neutral_name(quote_name(name) if needs_quotes(name, schema.engine) else name)
