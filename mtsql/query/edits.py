"""Realistic mistakes in SQL, made as edits of its text: all else stays as it was written.

Positions come from sqlglot's tokenizer, never from its generator, so a perturbed query keeps the
style of the original and the learner sees one difference only.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from random import Random

from sqlglot import Token, TokenType, exp

from mtsql.query.names import Names, names_of
from mtsql.query.reading import parse_sql, tokens_of
from mtsql.query.same import words
from mtsql.query.scopes import ColumnKey
from mtsql.query.texts import Texts, text_conditions
from mtsql.schema import Schema
from mtsql.sql.quoting import quote_name, quote_text

WHERE_ENDS = frozenset(
    {
        TokenType.GROUP_BY,
        TokenType.HAVING,
        TokenType.ORDER_BY,
        TokenType.LIMIT,
        TokenType.OFFSET,
        TokenType.WINDOW,
        TokenType.UNION,
        TokenType.INTERSECT,
        TokenType.EXCEPT,
        TokenType.SEMICOLON,
    }
)
OPENING = frozenset({TokenType.L_PAREN, TokenType.CASE})
CLOSING = frozenset({TokenType.R_PAREN, TokenType.END})


def other_case(value: str) -> str:
    """Upper case becomes title case, anything else upper case.

    Example: 'New York' -> 'NEW YORK' -> 'New York'; a value without letters stays as it is.
    """
    if not value.isupper():
        return value.upper()
    return re.sub(r"\S+", lambda word: word[0].capitalize(), value)


def guessed_columns(
    sql: str, *, known: Collection[ColumnKey] = (), names: Names | None = None
) -> list[ColumnKey]:
    """Columns that a text with a case is looked for in; those in `known` are left out.

    Args:
        names: the columns there are, which tell a text in double quotes from a name.
    """
    return list(
        dict.fromkeys(
            condition.column
            for condition in text_conditions(sql, names)
            if condition.looks_at_case
            and not condition.is_negated
            and condition.column not in known
            and other_case(condition.value) != condition.value
        )
    )


def flip_case(
    sql: str, columns: Collection[ColumnKey], *, question: str = "", names: Names | None = None
) -> str:
    """Write every text that must be one of these columns' values in another case.

    Args:
        question: where it spells a value in another case, that case is used; else `other_case`.
        names: as for `guessed_columns`, which gave the columns.
    """
    return edit_sql(
        sql,
        [
            (
                condition.start,
                condition.end,
                quoted(_respelt(condition.value, question), condition.mark),
            )
            for condition in text_conditions(sql, names)
            if condition.looks_at_case and condition.column in columns
        ],
    )


def quoted(text: str, mark: str) -> str:
    """A text in the quotes that another one has."""
    return quote_name(text) if mark == '"' else quote_text(text)


def _respelt(value: str, question: str) -> str:
    said = re.search(rf"\b{re.escape(value)}\b", question, re.IGNORECASE)
    return said[0] if said and said[0] != value else other_case(value)


def wrong_column(sql: str, schema: Schema, rng: Random) -> str | None:
    """Name a column that no table of the query has: another table's, else a near name.

    Returns:
        None if the SQL names no column.
    """
    tree = parse_sql(sql)
    if tree is None:
        return None
    texts = Texts(tree, sql, names_of(schema))
    columns = [
        column
        for column in tree.find_all(exp.Column)
        if "start" in column.this.meta and not texts.is_text(column)
    ]
    if not columns:
        return None
    used = {table.name.lower() for table in tree.find_all(exp.Table)}
    taken = {alias.alias.lower() for alias in tree.find_all(exp.Alias)}
    others: dict[str, str] = {}
    for table in schema.tables:
        for column in table.columns:
            if table.name.lower() in used:
                taken.add(column.name.lower())
            elif _is_bare_name(column.name):
                others[column.name.lower()] = column.name
    column = rng.choice(sorted(columns, key=lambda node: node.this.meta["start"]))
    names = sorted(name for key, name in others.items() if key not in taken)
    near = re.sub(r"\W+", "_", column.name) + "_name"
    while near.lower() in taken:
        near += "s"
    meta = column.this.meta
    return edit_sql(sql, [(meta["start"], meta["end"] + 1, rng.choice(names) if names else near)])


def dropped_condition(sql: str, rng: Random, *, among: Collection[str] | None = None) -> str | None:
    """Forget one condition of a WHERE; the only one goes together with its WHERE.

    Args:
        among: forget only conditions with one of these texts, see `condition_key`; None: any.

    Returns:
        None if there is nothing to forget; a WHERE with an OR at its top is left alone.
    """
    options = [
        (start, end)
        for start, end, text in _conditions(sql)
        if among is None or condition_key(text) in among
    ]
    if not options:
        return None
    return edit_sql(sql, [(*rng.choice(options), "")])


def condition_keys(sql: str) -> frozenset[str]:
    """`condition_key` of every condition of every WHERE."""
    return frozenset(condition_key(text) for _, _, text in _conditions(sql))


def condition_key(text: str) -> str:
    """A condition without table names and spare blanks: `shop.City =  "A"` is `city = 'A'`."""
    parts = words(text)
    return " ".join(
        part
        for place, part in enumerate(parts)
        if part != "." and parts[place + 1 : place + 2] != (".",)
    )


def _conditions(sql: str) -> Iterator[tuple[int, int, str]]:
    """For each condition: the span to cut so that valid SQL remains, and the condition's text."""
    tokens = tokens_of(sql) or []
    for index, token in enumerate(tokens):
        if token.token_type is not TokenType.WHERE:
            continue
        parts = _split_where(tokens, index + 1)
        for number, (first, last) in enumerate(parts):
            text = sql[tokens[first].start : tokens[last].end + 1]
            if number:  # cut from the end of the condition before it: " AND price > 5"
                yield tokens[parts[number - 1][1]].end + 1, tokens[last].end + 1, text
            elif len(parts) > 1:  # cut up to the next condition: "price > 5 AND "
                yield tokens[first].start, tokens[parts[1][0]].start, text
            else:  # cut the clause: " WHERE price > 5"
                yield tokens[index - 1].end + 1, tokens[last].end + 1, text


def _split_where(tokens: Sequence[Token], begin: int) -> list[tuple[int, int]]:
    """First and last token of each part of a WHERE that AND joins; [] if OR joins them."""
    parts: list[tuple[int, int]] = []
    depth = 0
    first = begin
    is_between = False
    end = begin
    while end < len(tokens):
        kind = tokens[end].token_type
        if kind in OPENING:
            depth += 1
        elif kind in CLOSING:
            depth -= 1
            if depth < 0:
                break
        elif depth == 0:
            if kind in WHERE_ENDS:
                break
            if kind is TokenType.OR:
                return []
            if kind is TokenType.BETWEEN:
                is_between = True
            elif kind is TokenType.AND and is_between:
                is_between = False
            elif kind is TokenType.AND:
                parts.append((first, end - 1))
                first = end + 1
        end += 1
    parts.append((first, end - 1))
    return parts if all(begin <= last for begin, last in parts) else []


def _is_bare_name(name: str) -> bool:
    """It can stand in SQL without quotes and is read as a column."""
    if re.fullmatch(r"[A-Za-z_]\w*", name) is None:
        return False
    tree = parse_sql(f"SELECT {name} FROM x WHERE {name} = 1 ORDER BY {name}")
    return tree is not None and len(list(tree.find_all(exp.Column))) == 3


def edit_sql(sql: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """Replace `sql[start:end]` for each edit; the spans are in order and apart."""
    for start, end, text in reversed(edits):
        sql = sql[:start] + text + sql[end:]
    return sql
