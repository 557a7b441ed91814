"""SQL text as a tree and as tokens, in SQLite's dialect, for any text."""

from collections.abc import Container

import sqlglot
from sqlglot import Token, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

SQLITE = Dialect.get_or_raise("sqlite")


def parse_sql(sql: str) -> exp.Expr | None:
    """The tree of a text, several statements as a block; None if it cannot be read.

    Nesting that SQLite takes may be too deep for the parser.
    """
    try:
        return sqlglot.parse_one(sql, dialect=SQLITE)
    except (SqlglotError, RecursionError):
        return None


def parse_query(sql: str) -> exp.Query | None:
    """The tree of a text that is one query and nothing else; None for any other."""
    try:
        statements = sqlglot.parse(sql, dialect=SQLITE)
    except (SqlglotError, RecursionError):
        return None
    query = statements[0] if len(statements) == 1 else None
    return query if isinstance(query, exp.Query) else None


def tokens_of(sql: str) -> list[Token] | None:
    """The words and signs, without comments; None if a text or a name does not end."""
    try:
        return sqlglot.tokenize(sql, dialect=SQLITE)
    except SqlglotError:
        return None


def is_text(column: exp.Column, sql: str, columns: Container[str]) -> bool:
    """`reads_as_text` for a column of the tree of `sql`."""
    start = column.this.meta.get("start")
    if column.table or start is None:
        return False
    return reads_as_text(sql, start, column.name, columns)


def reads_as_text(sql: str, start: int, name: str, columns: Container[str]) -> bool:
    """Whether SQLite reads the unqualified name that begins at `sql[start]` as a text.

    It does so with a name in double quotes where no column is called so: with columns city and
    name, `WHERE city = "Rome"` is `WHERE city = 'Rome'`, and `WHERE city = "Name"` compares two
    columns. A name in backticks or brackets always is a column's.

    Args:
        columns: in lower case, all that the name could stand for.
    """
    return sql[start] == '"' and name.lower() not in columns
