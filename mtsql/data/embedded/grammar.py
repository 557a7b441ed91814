"""The dialogue grammar: operations that turn the last query into the next one, and say so.

An operation proposes; it may return None (nothing to say here) or a candidate that fails the
checks of `generate`, which then asks again. Words are few and regular on purpose: a model of two
million parameters learns them in minutes, and what is left to learn is to look at results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from mtsql.data.embedded.conditions import (
    Scene,
    distance,
    is_only_of_its_kind,
    new_condition,
    new_value,
    weighted,
    words,
)
from mtsql.data.embedded.layout import TableSpec, plural, said
from mtsql.data.embedded.query import (
    Aggregate,
    Combination,
    Function,
    HasChild,
    Order,
    Query,
    Ref,
    TextIs,
)

FUNCTION_WORDS: Mapping[Function, str] = {
    "avg": "average",
    "max": "maximum",
    "min": "minimum",
    "sum": "total",
}

Kind = Literal["list", "count", "function", "superlative", "group"]

OPENINGS: Mapping[Kind, float] = {
    "list": 60,
    "count": 14,
    "function": 10,
    "superlative": 8,
    "group": 7,
}
COMBINATION_SHARE = 0.12
"""Share of the lists that are an INTERSECT or EXCEPT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a turn might be."""

    query: Query
    question: str
    tags: tuple[str, ...] = ()
    """What the operation shows; what the query itself shows is added later."""


Operation = Callable[[Scene, Query, Random], Candidate | None]


def start(
    scene: Scene, rng: Random, *, tables: Sequence[TableSpec], tags: tuple[str, ...] = ()
) -> Candidate | None:
    """A question that stands by itself, about one of the tables."""
    table = rng.choice(tables)
    kind = weighted(rng, OPENINGS)
    if kind == "list" and rng.random() < COMBINATION_SHARE:
        return _combination(scene, table, rng, tags)
    select = _columns(table, rng, 1 if kind == "superlative" or rng.random() < 0.7 else 2)
    query = Query(table=table.name, select=select)
    for _ in range(weighted(rng, {0: 14, 1: 74, 2: 12})):
        condition = new_condition(scene, query, rng)
        if condition is None:
            return None
        query = replace(query, conditions=(*query.conditions, condition))
    # Conditions on the table itself come first: "of shops in Rome" would swallow what follows it.
    ordered = sorted(query.conditions, key=lambda condition: distance(condition, table.name))
    query = replace(query, conditions=tuple(ordered))
    noun = " ".join((plural(table.name), *(words(c, table.name, rng) for c in ordered)))
    opening = _opening(scene, kind, query, noun, rng)
    if opening is None:
        return None
    query, phrasings = opening
    return Candidate(query=query, question=rng.choice(phrasings), tags=tags)


def _opening(
    scene: Scene, kind: Kind, query: Query, noun: str, rng: Random
) -> tuple[Query, tuple[str, ...]] | None:
    """The query turned into one of its kind, and ways to ask for it."""
    which = noun if query.conditions else f"all {noun}"
    shown = _and(query.select)
    if kind == "list":
        wanted = f"the {shown} of {which}"
        return query, (f"show {wanted}", f"list {wanted}", f"what is {wanted} ?")
    if kind == "count":
        query = replace(query, select=(), aggregate=Aggregate(function="count"))
        return query, (f"how many {noun} are there ?", f"count the {noun}")
    if kind == "group":
        group = _group_column(scene, query, rng)
        if group is None:
            return None
        by = _group_word(group, query.table)
        query = replace(query, group=group)
        return query, (
            f"how many {noun} are there for each {by} ?",
            f"count the {noun} for each {by}",
        )
    table = scene.layout.table(query.table)
    if not table.numbers:
        return None
    number = Ref(table.name, rng.choice(list(table.numbers)))
    if kind == "function":
        function = _function(number, table, rng)
        query = replace(query, select=(), aggregate=Aggregate(function=function, ref=number))
        wanted = f"the {FUNCTION_WORDS[function]} {said(number.column)} of {which}"
        return query, (f"what is {wanted} ?", f"show {wanted}")
    is_descending = rng.random() < 0.5
    order = Order(by=number, is_descending=is_descending, is_superlative=True)
    wanted = f"the one with the {_extreme(is_descending)} {said(number.column)} of {which}"
    return replace(query, order=order), (f"show the {shown} of {wanted}",)


def _combination(
    scene: Scene, table: TableSpec, rng: Random, tags: tuple[str, ...]
) -> Candidate | None:
    """Which city has both bakeries and markets (INTERSECT), or bakeries but no markets (EXCEPT)."""
    if len(table.texts) < 2:
        return None
    shown, asked = (Ref(table.name, column) for column in rng.sample(list(table.texts), 2))
    query = Query(table=table.name, select=(shown,))
    values = scene.texts(query, asked)
    if len(values) < 2:
        return None
    first, second = rng.sample(values, 2)
    is_both = rng.random() < 0.5
    query = replace(
        query,
        conditions=(TextIs(ref=asked, value=first),),
        combination=Combination(
            operator="INTERSECT" if is_both else "EXCEPT",
            condition=TextIs(ref=asked, value=second),
        ),
    )
    noun, column = plural(table.name), said(asked.column)
    if is_both:
        question = (
            f"which {said(shown.column)} has {noun} with {column} '{first}' and also '{second}' ?"
        )
    else:
        question = (
            f"which {said(shown.column)} has {noun} with {column} '{first}' but not '{second}' ?"
        )
    return Candidate(query=query, question=question, tags=tags)


def theme_change(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    others = [table for table in scene.layout.tables if table.name != last.table]
    return start(scene, rng, tables=others, tags=("theme_change",))


def refine(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    """One more condition; everything else stays."""
    if last.combination or last.is_superlative:
        return None
    condition = new_condition(scene, last, rng)
    if condition is None:
        return None
    said = words(condition, last.table, rng)
    query = replace(last, conditions=(*last.conditions, condition))
    if last.is_list and rng.random() < 0.3:
        query = replace(query, aggregate=Aggregate(function="count"), order=None)
        question = f"how many of them {said} are there ?"
    else:
        question = rng.choice((f"only those {said}", f"keep those {said}"))
    return Candidate(query=query, question=question, tags=("refinement",))


def swap_value(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    """What about Paris ? The words name a value only; its column must be beyond doubt."""
    places = [
        place
        for place, condition in enumerate(last.conditions)
        if isinstance(condition, TextIs | HasChild) and is_only_of_its_kind(scene, last, condition)
    ]
    if last.combination or not places:
        return None
    place = rng.choice(places)
    old = last.conditions[place]
    rest = (*last.conditions[:place], *last.conditions[place + 1 :])
    if isinstance(old, HasChild):
        around = Query(table=old.child.ref.table, select=())
        text = old.child
    else:
        assert isinstance(old, TextIs)
        around, text = replace(last, conditions=rest), old
    value = new_value(scene, around, text.ref, rng, but=text.value)
    if value is None:
        return None
    text = replace(text, value=value)
    new = HasChild(child=text) if isinstance(old, HasChild) else text
    conditions = (*last.conditions[:place], new, *last.conditions[place + 1 :])
    question = rng.choice((f"what about '{value}' ?", f"and '{value}' ?"))
    return Candidate(
        query=replace(last, conditions=conditions), question=question, tags=("ellipsis",)
    )


def swap_condition(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    """And those from Italy instead ? The only condition gives way to one on another column."""
    if last.combination or len(last.conditions) != 1:
        return None
    bare = replace(last, conditions=())
    condition = new_condition(scene, bare, rng, but=last.conditions[0])
    if condition is None:
        return None
    said = words(condition, last.table, rng)
    question = rng.choice((f"what about those {said} instead ?", f"and those {said} instead ?"))
    query = replace(bare, conditions=(condition,))
    return Candidate(query=query, question=question, tags=("ellipsis",))


def show(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    """Other columns of the same rows; after a superlative, of the one row."""
    if last.combination or (last.group and last.is_superlative):
        return None
    table = scene.layout.table(last.table)
    has_list = last.aggregate is None and last.group is None
    kind = weighted(
        rng, {"own": 70, "also": 20 if has_list else 0, "parent": 12 if table.parent else 0}
    )
    their = "its" if last.is_superlative else "their"
    query = replace(last, aggregate=None, group=None)
    if kind == "parent":
        parent = scene.layout.table(table.parent)
        select = _columns(parent, rng, 1)
        question = f"show the {said(select[0].column)} of {their} {said(parent.name)}"
        return Candidate(
            query=replace(query, select=select), question=question, tags=("coreference",)
        )
    if kind == "also":
        left = [Ref(table.name, c) for c in table.columns if Ref(table.name, c) not in last.select]
        if not left or len(last.select) > 1:
            return None
        column = rng.choice(left)
        question = f"also show {their} {said(column.column)}"
        query = replace(query, select=(*last.select, column))
        return Candidate(query=query, question=question, tags=("coreference",))
    select = _columns(table, rng, 1 if rng.random() < 0.75 else 2)
    shown = _and(select)
    question = rng.choice((f"show {their} {shown}", f"what is {their} {shown} ?"))
    return Candidate(query=replace(query, select=select), question=question, tags=("coreference",))


def aggregate(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    """How many are there ? What is their average price ?"""
    if not last.is_list:
        return None
    bare = replace(last, order=None)
    numbers = list(scene.layout.table(last.table).numbers)
    if not numbers or rng.random() < 0.4:
        question = rng.choice(("how many are there ?", "count them"))
        query = replace(bare, aggregate=Aggregate(function="count"))
        return Candidate(query=query, question=question, tags=("coreference",))
    ref = Ref(last.table, rng.choice(numbers))
    function = _function(ref, scene.layout.table(last.table), rng)
    word = f"{FUNCTION_WORDS[function]} {said(ref.column)}"
    question = rng.choice((f"what is their {word} ?", f"show their {word}"))
    query = replace(bare, aggregate=Aggregate(function=function, ref=ref))
    return Candidate(query=query, question=question, tags=("coreference",))


def sort(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    numbers = list(scene.layout.table(last.table).numbers)
    if not last.is_list or last.order or not numbers:
        return None
    by = Ref(last.table, rng.choice(numbers))
    is_descending = rng.random() < 0.6
    verb = rng.choice(("sort", "order"))
    question = f"{verb} them by {said(by.column)} , {_extreme(is_descending)} first"
    order = Order(by=by, is_descending=is_descending, is_superlative=False)
    return Candidate(query=replace(last, order=order), question=question, tags=("coreference",))


def superlative(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    """The one with the highest price; after that, the one with the lowest."""
    if last.is_superlative and last.order is not None:
        order = replace(last.order, is_descending=not last.order.is_descending)
        word = _extreme(order.is_descending) if order.by else _most(order.is_descending)
        question = rng.choice((f"what about the {word} ?", f"and the {word} ?"))
        return Candidate(query=replace(last, order=order), question=question, tags=("ellipsis",))
    numbers = list(scene.layout.table(last.table).numbers)
    if not last.is_list or not numbers:
        return None
    by = Ref(last.table, rng.choice(numbers))
    is_descending = rng.random() < 0.6
    word = f"{_extreme(is_descending)} {said(by.column)}"
    question = rng.choice((f"which of them has the {word} ?", f"show the one with the {word}"))
    order = Order(by=by, is_descending=is_descending, is_superlative=True)
    return Candidate(query=replace(last, order=order), question=question, tags=("coreference",))


def group(scene: Scene, last: Query, rng: Random) -> Candidate | None:
    """How many for each city ? Which city has the most ?"""
    if last.combination or last.is_superlative:
        return None
    if last.group is not None:
        column = last.group
    elif last.is_list or last.aggregate == Aggregate(function="count"):
        column = _group_column(scene, last, rng)
    else:
        return None
    if column is None:
        return None
    word = _group_word(column, last.table)
    query = replace(last, aggregate=None, order=None, group=column)
    if last.group is None and rng.random() < 0.6:
        question = rng.choice(
            (f"how many are there for each {word} ?", f"count them for each {word}")
        )
        return Candidate(query=query, question=question, tags=("coreference",))
    is_descending = rng.random() < 0.6
    order = Order(by=None, is_descending=is_descending, is_superlative=True)
    question = f"which {word} has the {_most(is_descending)} ?"
    return Candidate(query=replace(query, order=order), question=question, tags=("coreference",))


OPERATIONS: tuple[tuple[Operation, float], ...] = (
    (theme_change, 20),
    (refine, 34),
    (swap_value, 7),
    (swap_condition, 22),
    (show, 7),
    (aggregate, 5),
    (sort, 6),
    (superlative, 8),
    (group, 5),
)
"""Operations and how often each is tried; one that has nothing to say gives way to another."""


def _function(number: Ref, table: TableSpec, rng: Random) -> Function:
    has_total = table.numbers[number.column].has_total
    return rng.choice([f for f in FUNCTION_WORDS if has_total or f != "sum"])


def _group_column(scene: Scene, query: Query, rng: Random) -> Ref | None:
    table = scene.layout.table(query.table)
    fixed = {text.ref for text in query.texts}
    columns = [Ref(table.name, column) for column, text in table.texts.items() if not text.is_name]
    if table.parent:
        columns += [Ref(table.parent, column) for column in scene.layout.table(table.parent).texts]
    columns = [ref for ref in columns if ref not in fixed]
    return rng.choice(columns) if columns else None


def _group_word(column: Ref, table: str) -> str:
    own = said(column.column)
    return own if column.table == table else f"{said(column.table)} {own}"


def _columns(table: TableSpec, rng: Random, number: int) -> tuple[Ref, ...]:
    chosen = rng.sample(table.columns, min(number, len(table.columns)))
    return tuple(Ref(table.name, column) for column in table.columns if column in chosen)


def _and(select: Sequence[Ref]) -> str:
    return " and ".join(said(ref.column) for ref in select)


def _extreme(is_descending: bool) -> str:
    return "highest" if is_descending else "lowest"


def _most(is_descending: bool) -> str:
    return "most" if is_descending else "fewest"
