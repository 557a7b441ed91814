"""SQL as it stands in a model's message: where it begins, where it ends, and whether it is any."""

import re

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

_FENCE = re.compile(r"```[A-Za-z]*\s(.*?)(?:```|\Z)", re.DOTALL)
_QUERY = re.compile(
    r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*+(?:select|with|values)(?![A-Za-z0-9_$.])",
    re.IGNORECASE | re.DOTALL,
)
_CONTENT = re.compile(r"[\w\"'`*]")


def bare_sql(sql: str) -> str:
    """The statement without a code fence around it."""
    fence = _FENCE.fullmatch(sql.strip())
    return (fence[1] if fence else sql).strip()


def holds_statement(sql: str) -> bool:
    """False for nothing at all and for a placeholder such as `...`."""
    return any(character.isalpha() for character in sql)


def is_query(text: str) -> bool:
    """It opens as a query does (comments, parentheses, then SELECT, WITH or VALUES) and goes on.

    Example: `SQL`, `...`, `SELECT ...` and `your query` are placeholders, not queries.
    """
    opening = _QUERY.match(text)
    return opening is not None and _CONTENT.search(text, opening.end()) is not None


def first_statement(sql: str) -> str:
    """The text before its first semicolon, those inside strings and comments not counted."""
    try:
        tokens = sqlglot.tokenize(sql, read="sqlite")
    except SqlglotError:
        return sql
    end = next((token.start for token in tokens if token.token_type is TokenType.SEMICOLON), None)
    return sql[:end].strip()
