"""Conditions: what may be asked of a database, and the words for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from mtsql.data.embedded.layout import Layout, TableSpec, plural, said
from mtsql.data.embedded.lexicon import PREPOSITIONS, TextKind
from mtsql.data.embedded.query import (
    AverageIs,
    Condition,
    HasChild,
    HasNoChild,
    NumberIs,
    Query,
    Ref,
    Sign,
    TextIs,
)

T = TypeVar("T")

UNKNOWN_SHARE = 0.9
"""How often a text condition takes a column that no earlier turn has shown, when there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where a turn is spoken: a database, and what the dialogue has shown of it."""

    layout: Layout
    texts: Callable[[Query, Ref], Sequence[str]]
    """The values of a text column in the rows a query speaks of, sorted, in title case."""
    numbers: Callable[[Query, Ref], Sequence[int]]
    """The same for a column of numbers."""
    known: frozenset[Ref]
    """Text columns that an earlier turn's SQL compares with a value: their form can be read."""
    wants_absent: bool
    """The turn asks for a text value that the column does not hold."""


def new_condition(
    scene: Scene, query: Query, rng: Random, *, but: Condition | None = None
) -> Condition | None:
    """A condition on a column that `query` and `but` do not restrict yet."""
    table = scene.layout.table(query.table)
    children = scene.layout.children(table.name)
    old = query.conditions if but is None else (*query.conditions, but)
    taken = [
        c.child.ref if isinstance(c, HasChild) else c.ref
        for c in old
        if not isinstance(c, HasNoChild)
    ]
    if scene.wants_absent:
        kind = "own"
    else:
        kind = weighted(
            rng,
            {
                "own": 58,
                "parent": 9 if table.parent else 0,
                "child": 5 if children else 0,
                "number": 24 if table.numbers else 0,
                "average": 4 if table.numbers else 0,
                "childless": 3 if children else 0,
            },
        )
    if kind == "own":
        return _text(scene, query, table, taken, rng)
    if kind == "parent":
        return _text(scene, query, scene.layout.table(table.parent), taken, rng)
    if kind == "child":
        child = rng.choice(children)
        text = _text(scene, Query(table=child.name, select=()), child, taken, rng)
        return None if text is None else HasChild(child=text)
    if kind == "childless":
        return HasNoChild(child=rng.choice(children).name)
    ref = Ref(table.name, rng.choice(list(table.numbers)))
    if ref in taken:
        return None
    sign: Sign = ">" if rng.random() < 0.5 else "<"
    if kind == "average":
        return AverageIs(ref=ref, sign=sign)
    numbers = scene.numbers(query, ref)
    span = table.numbers[ref.column]
    between = [
        limit
        for limit in range(span.low - span.low % span.step, span.high, span.step)
        if numbers and numbers[0] < limit < numbers[-1]
    ]
    return NumberIs(ref=ref, sign=sign, value=rng.choice(between)) if between else None


def _text(
    scene: Scene, query: Query, table: TableSpec, taken: Sequence[Ref], rng: Random
) -> TextIs | None:
    free = [Ref(table.name, column) for column in table.texts]
    free = [ref for ref in free if ref not in taken]
    unknown = [ref for ref in free if ref not in scene.known]
    if not free:
        return None
    ref = rng.choice(unknown if unknown and rng.random() < UNKNOWN_SHARE else free)
    value = new_value(scene, query, ref, rng)
    return None if value is None else TextIs(ref=ref, value=value)


def new_value(scene: Scene, query: Query, ref: Ref, rng: Random, *, but: str = "") -> str | None:
    """A value of the column that occurs in the query's rows; or, when asked for, in none at all."""
    if scene.wants_absent:
        held = scene.texts(Query(table=ref.table, select=()), ref)
        values = [v for v in scene.layout.table(ref.table).texts[ref.column].words if v not in held]
    else:
        values = [value for value in scene.texts(query, ref) if value != but]
    return rng.choice(values) if values else None


def is_only_of_its_kind(scene: Scene, query: Query, condition: TextIs | HasChild) -> bool:
    """Whether no other condition could take the same words: origin and destination could."""

    def kind(ref: Ref) -> TextKind:
        return scene.layout.table(ref.table).texts[ref.column].kind

    text = condition.child if isinstance(condition, HasChild) else condition
    return [kind(other.ref) for other in query.texts].count(kind(text.ref)) == 1


def distance(condition: Condition, table: str) -> int:
    """How far from the table a condition reaches: itself, a number of it, its parent, a child."""
    match condition:
        case TextIs(ref=ref):
            return 0 if ref.table == table else 2
        case NumberIs() | AverageIs():
            return 1
        case HasChild() | HasNoChild():
            return 3


def words(condition: Condition, table: str, rng: Random) -> str:
    """The condition as a question about `table` says it: "in 'Rome'", "of shops in 'Rome'"."""
    match condition:
        case TextIs(ref=ref, value=value):
            plain = f"with {said(ref.column)} '{value}'"
            short = f"{PREPOSITIONS[ref.column]} '{value}'" if ref.column in PREPOSITIONS else plain
            phrase = rng.choice((short, plain))
            return phrase if ref.table == table else f"of {plural(ref.table)} {phrase}"
        case NumberIs(ref=ref, sign=sign, value=value):
            word = rng.choice(("above", "over") if sign == ">" else ("below", "under"))
            return f"with {said(ref.column)} {word} {value}"
        case AverageIs(ref=ref, sign=sign):
            return f"with {said(ref.column)} {'above' if sign == '>' else 'below'} average"
        case HasChild(child=child):
            return f"that have {plural(child.ref.table)} {words(child, child.ref.table, rng)}"
        case HasNoChild(child=child):
            return rng.choice((f"without {plural(child)}", f"that have no {plural(child)}"))


def weighted(rng: Random, weights: Mapping[T, float]) -> T:
    """A key of `weights`, as often as its weight says."""
    return rng.choices(list(weights), list(weights.values()))[0]
