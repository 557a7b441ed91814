"""A database before it has rows: tables, columns and vocabularies, named at random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from mtsql.data.embedded.lexicon import (
    COINED,
    COLUMN_MODIFIERS,
    DOMAINS,
    NUMBER_COLUMNS,
    PLAIN_WORDS,
    SYLLABLES,
    TABLE_MODIFIERS,
    TEXT_COLUMNS,
    Domain,
    NumberRange,
    Role,
    TableKind,
    TextKind,
    reserved_words,
)

VOCABULARY_SIZE = 10
"""Words of a column of text; a database holds half of them, the others can be asked for in vain."""
COMPOUND_SHARE = 0.3
"""Share of the tables and columns with a modifier: night_guard, second_owner."""

SHAPES: tuple[tuple[tuple[TableKind, int | None], ...], ...] = (
    (("place", None), ("thing", 0), ("person", 0)),
    (("place", None), ("person", 0), ("person", 0)),
    (("place", None), ("person", 0), ("thing", 1)),
    (("place", None), ("thing", 0), ("thing", 1)),
    (("person", None), ("thing", 0), ("thing", 0)),
    (("person", None), ("thing", 0)),
    (("thing", None), ("person", 0), ("person", 0)),
    (("place", None), ("person", 0)),
)
"""Kinds of the tables of a database, each with the place of its parent."""

TEXT_KINDS: Mapping[TableKind, Mapping[TextKind, float]] = {
    "place": {"city": 4, "country": 2, "person": 2, "size": 2, "status": 2, "style": 1},
    "person": {"city": 3, "country": 3, "person": 1, "status": 2, "month": 1, "style": 1},
    "thing": {"color": 3, "material": 3, "style": 2, "size": 2, "person": 1, "month": 1, "city": 1},
}
"""What a column of text beside the name holds, as often as the number says."""
NAME_SHARE = 0.8
"""Share of the tables that have a name."""
_RESERVED = reserved_words()
KEYS = ("id", "id", "id", "code", "uid", "ref")
"""What primary keys are called; a foreign key is called after the parent: shop_id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """The words of a column, in title case, and what kind of words they are."""

    kind: TextKind
    words: tuple[str, ...]
    is_name: bool = False
    """It tells the rows of its table apart: nobody counts them for each of its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """A table: its key, then `PARENT_key` if it has a parent, then texts and numbers, mixed."""

    name: str
    parent: str
    """Empty for a table that refers to none."""
    texts: Mapping[str, TextColumn]
    numbers: Mapping[str, NumberRange]
    columns: tuple[str, ...]
    """What a question may ask for, in the order of the schema; keys are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Tables that belong together, in the order of the schema."""

    tables: tuple[TableSpec, ...]
    key: str = "id"
    """The primary key of every table."""

    def table(self, name: str) -> TableSpec:
        return next(table for table in self.tables if table.name == name)

    def children(self, name: str) -> tuple[TableSpec, ...]:
        return tuple(table for table in self.tables if table.parent == name)

    @property
    def parents_first(self) -> tuple[TableSpec, ...]:
        def depth(table: TableSpec) -> int:
            return 1 + depth(self.table(table.parent)) if table.parent else 0

        return tuple(sorted(self.tables, key=depth))


def said(name: str) -> str:
    """A name as a question says it: night guard."""
    return name.replace("_", " ")


def plural(table: str) -> str:
    """Several of a table's rows as a question says it: night guards."""
    return f"{said(table)}s"


def role_of(domain: Domain) -> Role:
    return "known" if domain in DOMAINS["known"] else "unseen"


def make_layout(domain: Domain, rng: Random, *, coins: bool = False) -> Layout:
    """Tables of the domain; names and their order come from `rng` alone.

    Args:
        coins: tables and columns have coined words for names, which can only be read.
    """
    role = role_of(domain)
    shape = rng.choice(SHAPES)
    nouns: dict[TableKind, list[str]] = {
        kind: [coined(rng) for _ in words] if coins else rng.sample(words, len(words))
        for kind, words in domain.nouns.items()
    }
    taken: set[str] = set()
    tables: list[TableSpec] = []
    for kind, parent in shape:
        name = _new_name(nouns[kind].pop(), TABLE_MODIFIERS, taken, rng)
        above = "" if parent is None else tables[parent].name
        tables.append(_table(name, kind, above, role, rng, coins=coins))
    return Layout(tables=tuple(rng.sample(tables, len(tables))), key=rng.choice(KEYS))


def _table(
    name: str, kind: TableKind, parent: str, role: Role, rng: Random, *, coins: bool
) -> TableSpec:
    taken: set[str] = set()
    kinds = list(TEXT_KINDS[kind])
    shares = list(TEXT_KINDS[kind].values())
    chosen: list[TextKind] = ["name"] if rng.random() < NAME_SHARE else []
    for _ in range(rng.choice((1, 1, 2))):
        chosen.append(rng.choices(kinds, shares)[0])
    texts: dict[str, TextColumn] = {}
    for text_kind in chosen:
        word = coined(rng) if coins else rng.choice(TEXT_COLUMNS[role][text_kind])
        is_name = text_kind == "name"
        held: TextKind = "person" if is_name and kind == "person" else text_kind
        texts[_new_name(word, COLUMN_MODIFIERS, taken, rng)] = TextColumn(
            kind=held, words=new_words(held, rng), is_name=is_name
        )
    numbers: dict[str, NumberRange] = {}
    for _ in range(rng.choice((0, 1, 1, 2)) if len(texts) > 1 else rng.choice((1, 2))):
        column = rng.choice(list(NUMBER_COLUMNS[role]))
        word = coined(rng) if coins else column
        numbers[_new_name(word, COLUMN_MODIFIERS, taken, rng)] = NUMBER_COLUMNS[role][column]
    columns = (*texts, *numbers)
    return TableSpec(
        name=name,
        parent=parent,
        texts=texts,
        numbers=numbers,
        columns=tuple(rng.sample(columns, len(columns))),
    )


def _new_name(word: str, modifiers: Sequence[str], taken: set[str], rng: Random) -> str:
    """The word, or with a modifier before it; never one of `taken`, to which it is added."""
    name = word
    while name in taken or (name == word and rng.random() < COMPOUND_SHARE and "_" not in word):
        name = f"{rng.choice(modifiers)}_{word}"
    taken.add(name)
    return name


def coined(rng: Random) -> str:
    """A word of two or three syllables."""
    while True:
        middles = "".join(
            rng.choice(COINED["vowel"]) + rng.choice(COINED["middle"])
            for _ in range(rng.choice((1, 1, 2)))
        )
        begin = rng.choice(COINED["onset"])
        word = f"{begin}{middles}{rng.choice(COINED['vowel'])}{rng.choice(COINED['end'])}"
        if word not in _RESERVED:
            return word


def new_words(kind: TextKind, rng: Random) -> tuple[str, ...]:
    """The words of one column."""
    if kind in PLAIN_WORDS:
        return tuple(rng.sample(PLAIN_WORDS[kind], VOCABULARY_SIZE))
    end = kind if kind in ("person", "city", "country") else "name"
    begins, middles, ends = (SYLLABLES[part] for part in ("begin", "middle", end))
    found: dict[str, None] = {}
    while len(found) < VOCABULARY_SIZE:
        middle = rng.choice(middles) if rng.random() < 0.5 else ""
        word = f"{rng.choice(begins)}{middle}{rng.choice(ends)}".title()
        found.setdefault(f"New {word}" if rng.random() < 0.05 else word)
    return tuple(found)
