"""Stored texts that a question names, as hints for its prompt.

A user says "usa" where the database stores 'USA' in country.code. The schema tells neither the
spelling nor the column, and a small model cannot guess them.

    question    which rivers of the usa are longer than New York's canals ?
    stored      'USA' in country.code and team.nation, 'New York' and 'York' in city.name
    hints       country.code = 'USA' | team.nation = 'USA' | city.name = 'New York'

Words are compared without case, accents, endings of plural and possessive, and whatever stands
between them; of matches that overlap the longest wins. A text of one letter, of stop words, of a
word of the schema or of a few digits counts only where the question has it in quotes.

Texts are read through the SQL pool, once for each database: the executor vouches that a database
stays the same, as a file that changes is a fault.
"""

import asyncio
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mtsql.per_object import PerObject
from mtsql.schema import Schema, Table
from mtsql.shown.budget import singular
from mtsql.shown.harmless import neutral_name
from mtsql.shown.schema import column_name
from mtsql.sql.quoting import qualified, quote_name, quote_text
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus, SqlExecutor

MAX_HINTS = 8
"""Of one question."""
MAX_COLUMNS = 3
"""Of those that store a named text, so many are shown."""
MIN_CHARS = 2
"""A shorter text occurs in any question."""
MIN_DIGITS = 5
"""A shorter number is a count or a year more often than a code that is stored as text."""
MAX_CHARS = 80
"""Of a stored text; no question names a longer one."""
MAX_TEXTS = 200_000
"""Of one database; columns that come after so many are not read. Of one column, as many as a result
may have rows; one with more is left out whole, as part of its texts would be a matter of luck."""
MAX_VM_STEPS = 10_000_000
"""SQLite's work units for one column, enough for a million rows. Far below what takes `timeout_s`,
so that the same columns are read on a machine with much else to do."""
MAX_QUERIES = 64
"""In one message to the pool."""

Words = tuple[str, ...]
"""In the form in which they are compared."""
Column = tuple[int, str]
"""(the table's place in the schema, the column's name): several tables may have one name."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A text as a column stores it."""

    table: Table
    column: str
    text: str


def hints_text(hints: Iterable[Hint], schema: Schema) -> str:
    """`city.name = 'Rome' | city.name = 'Oslo'`, harmless in any case; empty without hints."""
    return " | ".join(
        f"{column_name(hint.table, hint.column, schema)} = {neutral_name(quote_text(hint.text))}"
        for hint in hints
    )


class StoredTexts:
    """The texts of one database, found by their words."""

    def __init__(self, schema: Schema, texts: Mapping[Column, Collection[str]]) -> None:
        self._tables = schema.tables
        self._schema_words = {
            word
            for table in schema.tables
            for name in (table.name, *(column.name for column in table.columns))
            for word in _words(_folded(name))
        }
        self._by_words: dict[Words, dict[Column, list[str]]] = {}
        for column, stored in texts.items():
            for text in sorted(stored):
                if words := _words(_folded(text)):
                    self._by_words.setdefault(words, {}).setdefault(column, []).append(text)
        self._most_words = max(map(len, self._by_words), default=0)

    def named(self, question: str) -> list[Hint]:
        """What the question names, in its order; of one text the likeliest columns first."""
        folded = _folded(question)
        said, quoted = _words(folded), _quoted(folded)
        found: list[tuple[int, int]] = []
        for length in range(min(self._most_words, len(said)), 0, -1):
            for start in range(len(said) - length + 1):
                end = start + length
                words = said[start:end]
                if (
                    words in self._by_words
                    and (self._counts(words) or words in quoted)
                    and all(end <= first or last <= start for first, last in found)
                ):
                    found.append((start, end))
        named = dict.fromkeys(said[start:end] for start, end in sorted(found))
        return [hint for words in named for hint in self._hints(words, question)][:MAX_HINTS]

    def _counts(self, words: Words) -> bool:
        """Whether they name a text without quotes, too."""
        said = "".join(words)
        if len(said) < (MIN_DIGITS if said.isdigit() else MIN_CHARS):
            return False
        is_name = len(words) == 1 and words[0] in self._schema_words
        return not is_name and not STOP_WORDS.issuperset(words)

    def _hints(self, words: Words, question: str) -> list[Hint]:
        said = set(_words(_folded(question)))

        def num_said(column: Column) -> int:
            table = self._tables[column[0]]
            return sum(said.issuperset(_words(_folded(name))) for name in (table.name, column[1]))

        by_column = self._by_words[words]
        likely = sorted(by_column, key=num_said, reverse=True)[:MAX_COLUMNS]
        return [
            Hint(self._tables[column[0]], column[1], text)
            for column in likely
            for text in _nearest(by_column[column], question)
        ]


def _nearest(texts: Sequence[str], question: str) -> Sequence[str]:
    """Those that the question spells so, else those it spells so but for case, else all."""
    folded = _folded(question)
    return (
        [text for text in texts if text in question]
        or [text for text in texts if _folded(text) in folded]
        or texts
    )


# Words.

_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"(?<=[^\W_])['\u2019]s(?![^\W_'\u2019])|(?:^|(?<=\s))['\u2019]s(?=\s|$)")
"""Also apart from its word, as questions in tokens have it: `rome 's shops`."""
_MARK = "['\"`\u2018\u2019\u201c\u201d]"
_QUOTED = re.compile(rf"(?<![^\W_]){_MARK}{{1,2}}(.+?){_MARK}(?![^\W_])")


def _folded(text: str) -> str:
    """Without case and accents."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(one for one in parts if not unicodedata.combining(one)).casefold()


def _words(folded: str) -> Words:
    return tuple(singular(word) for word in _WORD.findall(_POSSESSIVE.sub(" ", folded)))


STOP_WORDS = frozenset(
    _words(
        """
        a about above after all also am an and any are as ask at average be been before
        below between both but by can common could count did different do does each end
        every few find first five fly for four from get give go had has have her him his how
        i if in into is it its last least less let list many max maximum me min minimum more
        most much my name no not number of ok on one only or order other our out over per
        return second see she should show so some sort ten than that the their them then
        there these they third this those three to top total two type under up us very was
        we were what when where which while who whom whose why will with without would yes
        you your
        """
    )
)


def _quoted(folded: str) -> set[Words]:
    return {_words(match[1]) for match in _QUOTED.finditer(folded)}


# Reading.


@dataclass(slots=True)
class _Known:
    """What is read of the databases of one executor."""

    texts: dict[tuple[str, Schema], StoredTexts] = field(
        default_factory=dict[tuple[str, Schema], StoredTexts]
    )
    locks: defaultdict[tuple[str, Schema], asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    """Turns of one database begin together; one of them reads it."""


def _nothing_known(_executor: SqlExecutor) -> _Known:
    return _Known()


_known: PerObject[SqlExecutor, _Known] = PerObject(_nothing_known)


async def value_hints(
    executor: SqlExecutor, db_id: str, schema: Schema, question: str, *, limits: QueryLimits
) -> list[Hint]:
    """The stored texts that a question names.

    A column that cannot be read within the limits has none. What is read is kept for as long as the
    executor lives, unless its machinery failed.
    """
    known = _known.of(executor)
    key = (db_id, schema)
    if key not in known.texts:
        async with known.locks[key]:
            if key not in known.texts:
                texts, is_whole = await _read(executor, db_id, schema, limits)
                if not is_whole:
                    return texts.named(question)
                known.texts[key] = texts
    return known.texts[key].named(question)


async def _read(
    executor: SqlExecutor, db_id: str, schema: Schema, limits: QueryLimits
) -> tuple[StoredTexts, bool]:
    """The texts of a database, and whether the machinery did its part."""
    bounds = replace(limits, max_vm_steps=min(limits.max_vm_steps, MAX_VM_STEPS))
    columns: list[Column] = [
        (place, column.name)
        for place, table in enumerate(schema.tables)
        for column in table.columns
    ]
    found: dict[Column, list[str]] = {}
    num_texts, is_whole = 0, True
    for start in range(0, len(columns), MAX_QUERIES):
        batch = columns[start : start + MAX_QUERIES]
        requests = [
            QueryRequest(db_id=db_id, sql=_query(column, schema), limits=bounds) for column in batch
        ]
        for column, result in zip(batch, await executor.execute_many(requests), strict=True):
            is_whole = is_whole and result.status is not QueryStatus.INFRA_FAULT
            if result.status is QueryStatus.OK and not result.truncated:
                texts: list[str] = [row[0] for row in result.rows if isinstance(row[0], str)]
                num_texts += len(texts)
                if num_texts > MAX_TEXTS:
                    return StoredTexts(schema, found), is_whole
                found[column] = texts
    return StoredTexts(schema, found), is_whole


def _query(column: Column, schema: Schema) -> str:
    table = schema.tables[column[0]]
    # With its table before it, a name that does not exist is an error, not a text.
    source = qualified(table)
    name = f"{source}.{quote_name(column[1])}"
    # Other engines have no length of what is no text.
    is_text = f"typeof({name}) = 'text' AND " if schema.engine == "sqlite" else ""
    return f"SELECT DISTINCT {name} FROM {source} WHERE {is_text}length({name}) <= {MAX_CHARS}"
