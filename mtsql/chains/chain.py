"""What an agent stands behind: one query, or a chain of views composed into a WITH query."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

from mtsql.query.same import same_statement
from mtsql.sql.quoting import needs_quotes, quote_name

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One part of a chain: a name and a query that may use the views before it."""

    name: str
    sql: str
    rationale: str = field(default="", compare=False)
    """Why it is there, in words, where somebody said so; it does not count for equality."""


@dataclass(frozen=True, slots=True)
class Query:
    """A proposal that was written as it is run."""

    sql: str


@dataclass(frozen=True)
class Chain:
    """A proposal made of views, each of which may use the views before it.

    Example: here, result
        views  here    SELECT id FROM shop WHERE city = 'Paris'
               result  SELECT count(*) FROM here
        sql    WITH here AS (SELECT id FROM shop WHERE city = 'Paris') SELECT count(*) FROM here
    """

    views: tuple[View, ...]

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("a chain has at least one view")

    @cached_property
    def sql(self) -> str:
        return self.compose()

    def compose(self) -> str:
        """One statement: all views but the last in WITH, the last one as the query.

        A last view that brings its own WITH is put there too and read back whole.
        """
        *before, last = self.views
        if not before:
            return last.sql
        views: Sequence[View] = before
        query = last.sql
        if _opens_with(last.sql):
            views, query = self.views, f"SELECT * FROM {name_in_sql(last.name)}"
        # A line break ends a comment at the end of a view.
        parts = (f"{name_in_sql(view.name)} AS ({closed(view.sql)})" for view in views)
        return f"WITH {', '.join(parts)} {query}"

    def prefix(self, num_views: int) -> "Chain":
        """The chain of the first views; at least one.

        Example: the prefixes of 1 and 2 views are what an agent saw on its way to this chain.
        """
        return Chain(self.views[:num_views])

    def extend(self, view: View) -> "Chain":
        return Chain((*self.views, view))

    def replace_last(self, view: View) -> "Chain":
        return Chain((*self.views[:-1], view))


Proposal = Query | Chain
Relation = Literal["extends", "repeats", "replaces", "corrects"]
"""What a proposal is to the one before it. `extends`: a chain with one more view. `repeats`: the
same SQL. `replaces` and `corrects`: other SQL takes its place, proposed or as a correction."""


def relation_of(new: Proposal, old: Proposal, *, is_correction: bool) -> Relation:
    if isinstance(new, Chain) and isinstance(old, Chain) and new.views[:-1] == old.views:
        return "extends"
    if same_statement(new.sql, old.sql):
        return "repeats"
    return "corrects" if is_correction else "replaces"


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


def name_in_sql(name: str) -> str:
    """A view's name as SQL reads it: a chain that was read from a query may have any name."""
    return quote_name(name) if needs_quotes(name, "sqlite") else name


def closed(sql: str) -> str:
    """A query that a parenthesis may follow: a comment at its end would hide it."""
    return f"{sql}\n" if "--" in sql else sql


def _opens_with(sql: str) -> bool:
    try:
        tokens = sqlglot.tokenize(sql, read="sqlite")
    except SqlglotError:
        return False
    return bool(tokens) and tokens[0].token_type is TokenType.WITH
