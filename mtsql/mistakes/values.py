"""A condition whose value is stored nowhere, as an edit of the query's text."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random

from sqlglot import exp

from mtsql.query.edits import edit_sql, quoted
from mtsql.query.names import names_of
from mtsql.query.reading import parse_sql
from mtsql.query.scopes import ColumnKey
from mtsql.query.texts import Texts
from mtsql.schema import Schema

_EQUALITIES = (exp.EQ, exp.NullSafeEQ)
_WIDENING = (exp.Or, exp.Not, exp.Union, exp.Except, exp.Case, exp.If, exp.Join)
"""Inside these, a condition that nothing meets may leave rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnstoredValue:
    """A query with one wrong value, and the value that is meant."""

    sql: str
    meant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """A literal that decides: `sql[start:end]`, quotes included."""

    start: int
    end: int
    value: str
    mark: str
    """The quote around it; empty for a number."""
    is_lower_bound: bool
    is_upper_bound: bool


def unstored_value(
    sql: str, schema: Schema, rng: Random, *, said: str, avoid: Collection[ColumnKey] = ()
) -> UnstoredValue | None:
    """Write the value of one condition so that hardly any row can meet it.

    A policy that sees the empty result can correct it: the intended value is in `said`, or it
    contains the written one, so that a lookup of the stored values shows it.

        city = 'New York'     'York', 'New': a part of what is stored
        kind = 'Dog'          'Dogs', where `said` has the plural
        name = 'Felix'        'Feilx', 'Flix', 'Fellix': a slip, where `said` has the name
        year = 1985           19985: a digit twice, where `said` has the number
        price > 5             5000: too many zeros; price < 300 becomes price < 3

    Args:
        said: all that the agent reads in words: the question and the dialogue before it.
        avoid: columns whose conditions are left alone.

    Returns:
        None if there is no such condition. The engine may still find rows: only its reply can tell.
    """
    tree = parse_sql(sql)
    if tree is None:
        return None
    options = [
        (value, texts)
        for value in _deciding_values(tree, sql, schema, avoid)
        if (texts := [text for text in _wrong(value, said, rng) if text != value.value])
    ]
    if not options:
        return None
    value, texts = rng.choice(sorted(options, key=lambda option: option[0].start))
    text = rng.choice(texts)
    if value.mark:
        is_name = text.lower() in names_of(schema).tables_by_column
        text = quoted(text, "'" if is_name else value.mark)
    edited = edit_sql(sql, [(value.start, value.end, text)])
    return UnstoredValue(sql=edited, meant=value.value)


def _deciding_values(
    tree: exp.Expr, sql: str, schema: Schema, avoid: Collection[ColumnKey]
) -> Iterator[_Value]:
    """Literals whose condition decides: if it selects no row, the query gives none or counts 0."""
    names = names_of(schema)
    texts = Texts(tree, sql, names)
    for comparison in tree.find_all(*_EQUALITIES, exp.GT, exp.GTE, exp.LT, exp.LTE):
        if not _is_decisive(comparison):
            continue
        is_equality = isinstance(comparison, _EQUALITIES)
        for subject, written in (
            (comparison.left, comparison.right),
            (comparison.right, comparison.left),
        ):
            token = written if isinstance(written, exp.Literal) else written.this
            is_word = texts.is_text(written)
            if not is_word and not isinstance(written, exp.Literal):
                continue
            if isinstance(subject, exp.Column) and not texts.is_text(subject):
                if texts.scopes.key_of(subject) in avoid:
                    continue
            elif is_word or not isinstance(subject, exp.AggFunc):
                continue
            if "start" not in token.meta or (is_word and not is_equality):
                continue
            start = token.meta["start"]
            # To a reader of the query another table's column would look like one, too.
            if is_word and sql[start] == '"' and written.name.lower() in names.tables_by_column:
                continue
            is_greater = isinstance(comparison, exp.GT | exp.GTE)
            is_lower = not is_equality and is_greater == (subject is comparison.left)
            yield _Value(
                start=start,
                end=token.meta["end"] + 1,
                value=written.name,
                mark=sql[start] if is_word else "",
                is_lower_bound=is_lower,
                is_upper_bound=not is_equality and not is_lower,
            )


def _is_decisive(comparison: exp.Expr) -> bool:
    """All AND from here to the top of its clause, and nothing above it that adds rows."""
    node = comparison
    while isinstance(node.parent, exp.And | exp.Paren):
        node = node.parent
    if not isinstance(node.parent, exp.Where | exp.Having):
        return False
    while node.parent is not None:
        node = node.parent
        if isinstance(node, _WIDENING):
            return False
        if isinstance(node, exp.Select) and not _shows_emptiness(node):
            return False
    return True


def _shows_emptiness(select: exp.Select) -> bool:
    """Without rows it is empty, all NULL or a single zero, not a zero among other columns.

    Within another query a count of nothing is a number like any other.
    """
    if select.args.get("group") is not None:
        return True
    counts = [one for one in select.expressions if one.find(exp.Count) is not None]
    return not counts or (select.parent is None and len(select.expressions) == 1)


def _wrong(value: _Value, said: str, rng: Random) -> list[str]:
    """Values to write instead."""
    if value.mark:
        return _wrong_texts(value.value, said, rng)
    number = value.value
    if number not in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", said.replace(",", "")):
        return []
    if not number.isdigit() or not int(number):
        return []
    if value.is_upper_bound:
        return [number[: max(1, len(number) - 2)]] if len(number) > 1 else []
    if value.is_lower_bound and len(number) < 4:
        return [f"{number}000"]
    place = rng.randrange(len(number))
    return [number[:place] + number[place] + number[place:]]


def _wrong_texts(value: str, said: str, rng: Random) -> list[str]:
    words = value.split()
    singular = re.sub(r"(?<=[^\W\d_aiosu])s$", "", value)
    parts = [" ".join(words[1:]), " ".join(words[:-1]), singular]
    texts = [part for part in parts if len(part) >= 3 and part[0].isalnum()]
    if _is_said(f"{value}s", said) and not _is_said(value, said):
        texts.append(f"{value}s")
    if _is_said(value, said) and (slip := _slip(value, rng)):
        texts.append(slip)
    return texts


def _is_said(value: str, said: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", said, re.IGNORECASE) is not None


def _slip(value: str, rng: Random) -> str:
    """A letter twice, left out, or in its neighbour's place; never the first of its word."""
    places = [match.start() for match in re.finditer(r"(?<=[^\W\d_])[^\W\d_](?=[^\W\d_])", value)]
    if not places:
        return ""
    place = rng.choice(places)
    before, letter, after = value[:place], value[place], value[place + 1 :]
    slips = [
        before + letter + letter + after,
        before + after,
        before + after[0] + letter + after[1:],
    ]
    return rng.choice([one for one in slips if one != value])
