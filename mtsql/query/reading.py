"""SQL text as a tree and as tokens, in SQLite's dialect, for any text."""

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
