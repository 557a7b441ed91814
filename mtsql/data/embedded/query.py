"""What a turn asks for, as a value: each operation of a dialogue changes it a little."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Sign = Literal["<", ">"]
Function = Literal["count", "avg", "max", "min", "sum"]


class Ref(NamedTuple):
    """A column of a table."""

    table: str
    column: str


Spell = Callable[[Ref, str], str]
"""How a column stores a value: Rome, or ROME."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextIs:
    """city = 'Rome'; a column of the parent makes the query a join."""

    ref: Ref
    value: str
    """Title case, as questions say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberIs:
    """price > 50"""

    ref: Ref
    sign: Sign
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageIs:
    """price > (SELECT avg(price) FROM product): the average of the whole table."""

    ref: Ref
    sign: Sign


@dataclass(frozen=True, slots=True, kw_only=True)
class HasChild:
    """id IN (SELECT shop_id FROM product WHERE color = 'Blue')"""

    child: TextIs


@dataclass(frozen=True, slots=True, kw_only=True)
class HasNoChild:
    """id NOT IN (SELECT shop_id FROM product)"""

    child: str


Condition = TextIs | NumberIs | AverageIs | HasChild | HasNoChild


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """ORDER BY, with LIMIT 1 for a superlative; `by` None orders groups by their size."""

    by: Ref | None
    is_descending: bool
    is_superlative: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """A second query, equal to the first but for its only condition."""

    operator: Literal["INTERSECT", "EXCEPT"]
    condition: TextIs


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    function: Function
    ref: Ref | None = None
    """None only for count(*)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The state of a dialogue after a turn.

    Example: table shop, select (shop.name,), conditions (city is Rome,) in a database that
    stores cities in upper case: SELECT name FROM shop WHERE city = 'ROME'
    """

    table: str
    select: tuple[Ref, ...]
    """The columns shown; kept, but not written, while an aggregate or a group is asked for."""
    conditions: tuple[Condition, ...] = ()
    aggregate: Aggregate | None = None
    group: Ref | None = None
    order: Order | None = None
    combination: Combination | None = None

    @property
    def is_list(self) -> bool:
        """Rows of the table, all of them: "they" have a meaning."""
        return not (self.aggregate or self.group or self.combination or self.is_superlative)

    @property
    def is_superlative(self) -> bool:
        return self.order is not None and self.order.is_superlative

    @property
    def joined(self) -> str:
        """The parent table, if the query speaks of it; otherwise empty."""
        return next((ref.table for ref in _outer_refs(self) if ref.table != self.table), "")

    @property
    def texts(self) -> tuple[TextIs, ...]:
        """Every condition on a text value, nested ones too, in the order of the SQL."""
        found = [c.child if isinstance(c, HasChild) else c for c in self.conditions]
        if self.combination is not None:
            found.append(self.combination.condition)
        return tuple(condition for condition in found if isinstance(condition, TextIs))


def _outer_refs(query: Query) -> Iterator[Ref]:
    if query.group is not None:
        yield query.group
    elif query.aggregate is None:
        yield from query.select
    for condition in query.conditions:
        if isinstance(condition, TextIs | NumberIs | AverageIs):
            yield condition.ref


def to_sql(query: Query, spell: Spell, key: str = "id") -> str:
    """Write the query; names are qualified in joins only, `key` is every table's primary key."""
    if query.combination is None:
        return _select(query, query.conditions, spell, key)
    second = _select(query, (query.combination.condition,), spell, key)
    first = _select(query, query.conditions, spell, key)
    return f"{first} {query.combination.operator} {second}"


def _select(query: Query, conditions: tuple[Condition, ...], spell: Spell, key: str) -> str:
    joined = query.joined

    def name(ref: Ref) -> str:
        return f"{ref.table}.{ref.column}" if joined else ref.column

    sql = f"SELECT {_shown(query, name)} FROM {query.table}"
    if joined:
        sql += f" JOIN {joined} ON {query.table}.{joined}_{key} = {joined}.{key}"
    if conditions:
        sql += " WHERE " + " AND ".join(
            _condition(c, name, key, query.table, spell) for c in conditions
        )
    if query.group is not None:
        sql += f" GROUP BY {name(query.group)}"
    if query.order is not None:
        by = "count(*)" if query.order.by is None else name(query.order.by)
        sql += f" ORDER BY {by} {'DESC' if query.order.is_descending else 'ASC'}"
        sql += " LIMIT 1" if query.order.is_superlative else ""
    return sql


def _shown(query: Query, name: Callable[[Ref], str]) -> str:
    if query.group is not None:
        return name(query.group) + ("" if query.is_superlative else ", count(*)")
    if query.aggregate is not None:
        of = query.aggregate.ref
        return f"{query.aggregate.function}({'*' if of is None else name(of)})"
    return ", ".join(name(ref) for ref in query.select)


def _condition(
    condition: Condition, name: Callable[[Ref], str], key: str, table: str, spell: Spell
) -> str:
    own = name(Ref(table, key))
    match condition:
        case TextIs(ref=ref, value=value):
            return f"{name(ref)} = '{spell(ref, value)}'"
        case NumberIs(ref=ref, sign=sign, value=value):
            return f"{name(ref)} {sign} {value}"
        case AverageIs(ref=ref, sign=sign):
            return f"{name(ref)} {sign} (SELECT avg({ref.column}) FROM {ref.table})"
        case HasChild(child=TextIs(ref=ref, value=value)):
            stored = spell(ref, value)
            return (
                f"{own} IN (SELECT {table}_{key} FROM {ref.table} WHERE {ref.column} = '{stored}')"
            )
        case HasNoChild(child=child):
            return f"{own} NOT IN (SELECT {table}_{key} FROM {child})"
