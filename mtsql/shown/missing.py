"""Where the name is that a query looked for in vain, as an error message of SQLite does not tell.

A query asks `pet` for a column of `owner`: "no such column: t2.city" says what is wrong and nothing
about what is there. A large model finds it in its prompt; a small one repeats itself.
"""

from collections.abc import Iterable

from sqlglot import exp

from mtsql.query.reading import parse_sql
from mtsql.schema import Schema, Table
from mtsql.sql.engine import ErrorKind

MAX_NAMES = 24
"""Of one list."""
Hints = dict[str, object]


def missing_name(sql: str, kind: str, message: str, schema: Schema) -> Hints:
    """What an observation adds to an error about a name; {} for others and for other engines.

    Example: shop(id, name), sale(shop_id, color)
        SELECT s.color FROM shop AS s    {"found_in": ["sale"]}
        SELECT s.price FROM shop AS s    {"columns_of": {"shop": ["id", "name"]}}
        SELECT id FROM shops             {"tables": ["shop", "sale"]}

    Args:
        kind: of the error: `no_such_column`, `no_such_table` or another one.
        message: SQLite's, which ends with the name. DuckDB and PostgreSQL name candidates
            themselves.
    """
    if schema.engine != "sqlite":
        return {}
    if kind == ErrorKind.NO_SUCH_TABLE:
        return {"tables": [table.name for table in schema.tables][:MAX_NAMES]}
    if kind != ErrorKind.NO_SUCH_COLUMN:
        return {}
    # Of a name in double quotes SQLite also asks whether a text was meant.
    name = message.partition(": ")[2].partition(" - should")[0].strip('"')
    owner, _, column = name.rpartition(".")
    holders = [table.name for table in schema.tables if _has(table, column)]
    if holders:
        return {"found_in": holders[:MAX_NAMES]}
    read = _read(sql, owner.lower(), schema)
    columns = {table.name: [one.name for one in table.columns][:MAX_NAMES] for table in read}
    return {"columns_of": columns} if columns else {}


def _has(table: Table, column: str) -> bool:
    return any(one.name.lower() == column.lower() for one in table.columns)


def _read(sql: str, owner: str, schema: Schema) -> list[Table]:
    """The tables of the schema that the query reads, under the name `owner` if it is given."""
    tree = parse_sql(sql)
    named: Iterable[exp.Table] = [] if tree is None else tree.find_all(exp.Table)
    wanted = {
        table.name.lower() for table in named if not owner or table.alias_or_name.lower() == owner
    }
    return [table for table in schema.tables if table.name.lower() in wanted]
