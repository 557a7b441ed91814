"""A chain of views, composed into one WITH query."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One part of a chain: a name and a query that may use the views before it."""

    name: str
    sql: str


def compose(chain: Sequence[View]) -> str:
    """One statement for the chain: all views but the last in WITH, the last one as the query.

    A last view that brings its own WITH is put there too and read back whole.
    """
    *before, last = chain
    if not before:
        return last.sql
    views, query = before, last.sql
    if _opens_with(last.sql):
        views, query = chain, f"SELECT * FROM {last.name}"
    # A line break ends a comment at the end of a view.
    return f"WITH {', '.join(f'{view.name} AS ({_closed(view.sql)})' for view in views)} {query}"


def view_problem(view: View, taken: Collection[str]) -> str:
    """Why the view cannot stand in a chain; empty if it can.

    Args:
        taken: names of the tables and of the chain's other views.
    """
    if not _NAME.fullmatch(view.name):
        return "name: use letters, digits and _"
    if view.name.lower() in {name.lower() for name in taken}:
        return f"name: {view.name} is taken by a table or an earlier view"
    try:
        kinds = [token.token_type for token in sqlglot.tokenize(view.sql, read="sqlite")]
    except SqlglotError:
        return "sql: a string or comment is not closed"
    depth = 0
    for kind in kinds:
        depth += (kind is TokenType.L_PAREN) - (kind is TokenType.R_PAREN)
        if depth < 0 or kind is TokenType.SEMICOLON:
            break
    if depth or TokenType.SEMICOLON in kinds:
        return "sql: write one query with balanced parentheses"
    return ""


def _closed(sql: str) -> str:
    return f"{sql}\n" if "--" in sql else sql


def _opens_with(sql: str) -> bool:
    try:
        tokens = sqlglot.tokenize(sql, read="sqlite")
    except SqlglotError:
        return False
    return bool(tokens) and tokens[0].token_type is TokenType.WITH
