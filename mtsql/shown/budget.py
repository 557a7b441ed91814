"""A schema cut to a budget: what the question and the dialogue touch stays longest.

Example, a budget with room for seven columns; asked is "How many sales has each shop in Paris?"
    shop (id, name, city), sale (id, shop_id, price)     touched by their names
    owner (id, shop_id, age)                             a neighbour: joined by a foreign key
    tax (year, rate)                                     neither
keeps the keys of shop and sale (id, id, shop_id), then the neighbour's keys (id, shop_id), then
other columns of shop (name, city), and says "Not shown: 1 table; 4 columns in all."
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mtsql.schema import Schema

CountTokens = Callable[[str], int]
"""Number of tokens of a text: a tokenizer's, or `approximate_tokens`."""
ColumnName = tuple[str, str]
"""(table, column) as the schema spells them."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W0-9A-Za-z_]+")
_MIN_VALUE_CHARS = 2
"""A shorter example value occurs in any question."""


def approximate_tokens(text: str) -> int:
    """Four characters to a token, rounded up."""
    return (len(text) + 3) // 4


def fit_schema(
    schema: Schema,
    render: Callable[[Schema], str],
    *,
    budget: int,
    count: CountTokens,
    about: Sequence[str],
    examples: Mapping[ColumnName, Sequence[str]],
) -> str:
    """The schema as text within the budget, with a last line on what is left out, if anything is.

    The least is one column, even where that is too long. Columns go in the order of `ranked`.

    Args:
        render: the schema, or a part of it, as text.
        budget: in the unit of `count`.
        about: the question and the dialogue: earlier questions and SQL.
        examples: stored values; one that occurs in `about` makes its column relevant.
    """
    text = render(schema)
    if count(text) <= budget:
        return text
    order = ranked(schema, about, examples)
    fits, too_many = 1, len(order)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if count(_cut(schema, order[:middle], render)) <= budget:
            fits = middle
        else:
            too_many = middle
    return _cut(schema, order[:fits], render)


@dataclass(frozen=True, slots=True)
class _Touched:
    tables: frozenset[str]
    columns: frozenset[ColumnName]


def ranked(
    schema: Schema, about: Sequence[str], examples: Mapping[ColumnName, Sequence[str]]
) -> list[ColumnName]:
    """All columns, the most relevant first; within a rank they keep the schema's order.

    0 named columns and keys of the touched tables, 1 keys of their neighbours by foreign key,
    2 columns named elsewhere, 3 other columns of touched tables, 4 of neighbours, 5 the rest.
    """
    touched = _touch(schema, about, examples)
    keys = {(key.table, key.column) for key in schema.foreign_keys} | {
        (key.ref_table, key.ref_column) for key in schema.foreign_keys
    }
    near: set[str] = set()
    for key in schema.foreign_keys:
        ends = {key.table, key.ref_table}
        if ends & touched.tables:
            near |= ends
    ranks: dict[ColumnName, int] = {}
    for table in schema.tables:
        for column in table.columns:
            name = (table.name, column.name)
            is_key = column.is_primary or name in keys
            is_named = name in touched.columns
            if table.name in touched.tables:
                ranks[name] = 0 if is_key or is_named else 3
            elif table.name in near and is_key:
                ranks[name] = 1
            elif is_named:
                ranks[name] = 2
            else:
                ranks[name] = 4 if table.name in near else 5
    return sorted(ranks, key=ranks.__getitem__)


def _touch(
    schema: Schema, about: Sequence[str], examples: Mapping[ColumnName, Sequence[str]]
) -> _Touched:
    """Names of which each word occurs, and columns of which a value occurs."""
    words = {word for text in about for word in _words(text)}
    said = f" {' '.join(_words(' '.join(about)))} "
    tables: set[str] = set()
    columns: set[ColumnName] = set()
    for table in schema.tables:
        own = set(_words(table.name))
        if own and own <= words:
            tables.add(table.name)
        for column in table.columns:
            name = (table.name, column.name)
            parts = set(_words(column.name))
            if any(_occurs(value, said) for value in examples.get(name, ())):
                tables.add(table.name)
                columns.add(name)
            elif parts and parts <= words:
                columns.add(name)
    if not tables:
        tables = {table for table, _ in columns}
    return _Touched(frozenset(tables), frozenset(columns))


def _occurs(value: str, said: str) -> bool:
    words = " ".join(_words(value))
    return len(words) >= _MIN_VALUE_CHARS and not words.isdigit() and f" {words} " in said


def _words(text: str) -> list[str]:
    """Lower case, names taken apart, a plural without its s: `shopIDs` gives shop, id."""
    return [singular(word.lower()) for word in _WORD.findall(text)]


def singular(word: str) -> str:
    """A word in lower case without the ending of a plural."""
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "sses", "xes")) and len(word) > 4:
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _cut(schema: Schema, kept: Iterable[ColumnName], render: Callable[[Schema], str]) -> str:
    part = _part(schema, frozenset(kept))
    num_tables = len(schema.tables) - len(part.tables)
    num_columns = _num_columns(schema) - _num_columns(part)
    note = [_plural(num_tables, "table")] if num_tables else []
    note.append(f"{_plural(num_columns, 'column')} in all")
    return f"{render(part)}\nNot shown: {'; '.join(note)}."


def _part(schema: Schema, kept: frozenset[ColumnName]) -> Schema:
    tables = (
        table.model_copy(
            update={
                "columns": tuple(
                    column for column in table.columns if (table.name, column.name) in kept
                )
            }
        )
        for table in schema.tables
    )
    return schema.model_copy(
        update={
            "tables": tuple(table for table in tables if table.columns),
            "foreign_keys": tuple(
                key
                for key in schema.foreign_keys
                if (key.table, key.column) in kept and (key.ref_table, key.ref_column) in kept
            ),
        }
    )


def _num_columns(schema: Schema) -> int:
    return sum(len(table.columns) for table in schema.tables)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
