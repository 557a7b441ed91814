"""A chain read back from a query.

The tree says which views there are and what they use; their texts are cut out of the query as they
stand, so that literals, comments and odd spellings survive.
"""

from collections.abc import Mapping, Sequence

from sqlglot import Token, TokenType, exp

from mtsql.chains.chain import Chain, View, closed, name_in_sql
from mtsql.errors import DataError
from mtsql.query.reading import parse_query, tokens_of
from mtsql.query.scopes import definition_of

LAST_VIEW = "result"
"""The name of the query after WITH, as a view."""


class ChainError(DataError):
    """A text that is no chain."""


class NoViewError(ChainError):
    """A query that can be read, of which nothing can become a view."""


def read_chain(sql: str) -> Chain:
    """The views of a WITH query in an order in which each uses only those before it, then its
    query; of any other query the chain of one view.

    A view keeps its text. One with a column list, or one that reads itself, becomes a view with a
    WITH of its own, because a view of a chain is a plain query. MATERIALIZED is advice to the
    engine, and left out. A WITH further in stays where it is.

    Example: WITH b AS (SELECT * FROM a), a(x) AS (SELECT 1) SELECT * FROM b;
        a       WITH a(x) AS (SELECT 1) SELECT * FROM a
        b       SELECT * FROM a
        result  SELECT * FROM b

    Raises:
        ChainError: the text is not one query, or its views use each other in a circle.
    """
    tokens = tokens_of(sql)
    if tokens is None:
        raise ChainError("a text, a name or a comment does not end: close it")
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise ChainError("there is no query: write one SELECT, with or without WITH")
    sql = sql[: tokens[-1].end + 1]
    tree = parse_query(sql)
    if tree is None:
        raise ChainError("this is not one query that can be read: write one SELECT statement")
    with_ = tree.args.get("with_")
    ctes: list[exp.CTE] = [] if with_ is None else with_.expressions
    found: dict[str, View] = {}
    uses: dict[str, list[str]] = {}
    rest = tokens[0].start
    for cte in ctes:
        key = cte.alias.lower()
        if key in found:
            raise ChainError(f"two views are called {cte.alias}: rename one")
        used = _used(cte, ctes)
        view, rest = _view(sql, tokens, cte, is_recursive=key in used)
        found[key] = view
        uses[key] = [name for name in used if name != key]
    last = View(name=_free_name(tokens), sql=sql[rest:].strip())
    return Chain((*_in_order(found, uses), last))


def _used(cte: exp.CTE, ctes: Sequence[exp.CTE]) -> list[str]:
    """The views of the same WITH that one uses, by their names in lower case."""
    own = {id(one) for one in ctes}
    tables = cte.this.find_all(exp.Table)
    return list(
        dict.fromkeys(
            definition.alias.lower()
            for table in tables
            if isinstance(definition := definition_of(table), exp.CTE) and id(definition) in own
        )
    )


def _view(
    sql: str, tokens: Sequence[Token], cte: exp.CTE, *, is_recursive: bool
) -> tuple[View, int]:
    """The view, and where the text goes on behind it."""
    start = cte.args["alias"].this.meta["start"]
    name = next(place for place, token in enumerate(tokens) if token.start == start)
    opening = name + 1
    while tokens[opening - 1].token_type is not TokenType.ALIAS:
        opening += 1
    while tokens[opening].token_type is not TokenType.L_PAREN:  # [NOT] MATERIALIZED
        opening += 1
    closing, depth = opening, 1
    while depth:
        closing += 1
        kind = tokens[closing].token_type
        depth += (kind is TokenType.L_PAREN) - (kind is TokenType.R_PAREN)
    body = sql[tokens[opening].end + 1 : tokens[closing].start].strip()
    columns = tokens[name].end + 1, tokens[opening].start
    if is_recursive or cte.args["alias"].columns:
        head = f"WITH {'RECURSIVE ' * is_recursive}{name_in_sql(cte.alias)}"
        columns = sql[slice(*columns)]
        body = f"{head}{columns}({closed(body)}) SELECT * FROM {name_in_sql(cte.alias)}"
    rest = closing + 1
    if tokens[rest].token_type is TokenType.COMMA:
        rest += 1
    return View(name=cte.alias, sql=body), tokens[rest].start


def _in_order(found: Mapping[str, View], uses: Mapping[str, Sequence[str]]) -> list[View]:
    """Each after those it uses, else as written: SQLite lets a view use a later one."""
    ordered: dict[str, View] = {}
    open_views: list[str] = []

    def add(name: str) -> None:
        if name in open_views:
            circle = " -> ".join([*open_views[open_views.index(name) :], name])
            raise ChainError(f"views use each other in a circle: {circle}; let one come first")
        if name in ordered:
            return
        open_views.append(name)
        for used in uses[name]:
            add(used)
        open_views.pop()
        ordered[name] = found[name]

    for name in found:
        add(name)
    return list(ordered.values())


def _free_name(tokens: Sequence[Token]) -> str:
    taken = {token.text.lower() for token in tokens}
    name, number = LAST_VIEW, 1
    while name in taken:
        number += 1
        name = f"{LAST_VIEW}_{number}"
    return name
