"""Label errors planted in golds, as edits of their text, to measure what the rules find."""

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

from mtsql.audit.reading import asked
from mtsql.mistakes.joins import missing_join
from mtsql.mistakes.values import unstored_value
from mtsql.query.edits import (
    dropped_condition,
    edit_sql,
    flip_case,
    guessed_columns,
    wrong_column,
)
from mtsql.query.names import names_of
from mtsql.query.reading import tokens_of
from mtsql.schema import Schema

Plant = Callable[[str, str, Schema, Random], str | None]
"""(gold, question, schema, rng) -> the gold with an error; None where there is no place for it."""


def _swapped(sql: str, swaps: Mapping[str, Sequence[str]], rng: Random) -> str | None:
    """One of the words or signs becomes another."""
    places = [token for token in tokens_of(sql) or () if token.text.lower() in swaps]
    if not places:
        return None
    token = rng.choice(places)
    return edit_sql(sql, [(token.start, token.end + 1, rng.choice(swaps[token.text.lower()]))])


def _value(sql: str, question: str, schema: Schema, rng: Random) -> str | None:
    """Another number, or a text that is no word of the question."""
    gold = asked(sql, names_of(schema))
    values = sorted(gold.values) if gold is not None else []
    if not values:
        return None
    value = rng.choice(values)
    other = str(int(value) * 2 + 7) if value.isdigit() else rng.choice(("Quito", "Blue", "Retired"))
    found = list(re.finditer(rf"(?<![\w.]){re.escape(value)}(?![\w.])", sql))
    return edit_sql(sql, [(*found[-1].span(), other)]) if found else None


_DIRECTIONS = re.compile(
    r"(\border by [^()]*?(?:\([^()]*\))?[^()]*?)(\s+desc\b|\s+asc\b)?(?=\s+limit\b|$)",
    re.IGNORECASE,
)


def _order(sql: str, question: str, schema: Schema, rng: Random) -> str | None:
    found = _DIRECTIONS.search(sql)
    if found is None:
        return None
    descends = (found[2] or "").strip().lower() == "desc"
    return sql[: found.start()] + found[1] + ("" if descends else " DESC") + sql[found.end() :]


def _limit(sql: str, question: str, schema: Schema, rng: Random) -> str | None:
    found = re.search(r"\blimit (\d+)", sql, re.IGNORECASE)
    if found is None:
        return None
    return f"{sql[: found.start(1)]}{int(found[1]) + rng.randint(2, 4)}{sql[found.end(1) :]}"


def _distinct(sql: str, question: str, schema: Schema, rng: Random) -> str | None:
    found = re.search(r"\bdistinct\s+", sql, re.IGNORECASE)
    return sql[: found.start()] + sql[found.end() :] if found else None


PLANTS: Mapping[str, Plant] = {
    "value": _value,
    "aggregate": lambda sql, question, schema, rng: _swapped(
        sql,
        {"avg": ("sum", "max"), "sum": ("avg",), "max": ("min", "avg"), "min": ("max", "avg")},
        rng,
    ),
    "comparison": lambda sql, question, schema, rng: _swapped(
        sql, {">": ("<",), "<": (">",), ">=": ("<=",), "<=": (">=",)}, rng
    ),
    "order": _order,
    "limit": _limit,
    "distinct": _distinct,
    "dropped_condition": lambda sql, question, schema, rng: dropped_condition(sql, rng),
    "missing_join": lambda sql, question, schema, rng: missing_join(sql, schema, rng),
    "wrong_column": lambda sql, question, schema, rng: wrong_column(sql, schema, rng),
    "wrong_case": lambda sql, question, schema, rng: flip_case(sql, guessed_columns(sql)),
    "empty_result": lambda sql, question, schema, rng: (
        found.sql if (found := unstored_value(sql, schema, rng, said=question)) else None
    ),
}
"""By kind of error: the mistakes that scripts make, and parts of a query that are swapped."""


def plant(kind: str, sql: str, question: str, schema: Schema, rng: Random) -> str | None:
    """A gold with one error of a kind; None where it has no place, or the text stays the same."""
    found = PLANTS[kind](sql, question, schema, rng)
    return found if found is not None and found != sql else None
