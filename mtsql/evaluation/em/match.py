"""Exact set match (EM): are the clauses of two queries equal as sets, values aside?

The semantics of `evaluation.py` in taoyds/test-suite-sql-eval with its default flags (Yu et al.,
EMNLP 2018). What is ignored, and where it is not:

    values, also columns used as values     kept in subqueries of FROM
    DISTINCT                                kept in subqueries of FROM and of conditions
    order of SELECT, WHERE and FROM         kept in subqueries, in GROUP BY and in HAVING
    columns linked by foreign keys          kept apart in subqueries, and when the table is not in
                                            the FROM of the outermost query
    ON conditions                           only OR, NOT, IN and LIKE are seen
    LIMIT's number

The text "value" in a prediction counts as "1", unless the rules keep it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

from mtsql.evaluation.em.grammar import (
    SET_OPERATORS,
    ColumnUse,
    Condition,
    Conditions,
    Query,
    Term,
    Value,
    read,
)
from mtsql.evaluation.rules import OFFICIAL, Rules, judged_text
from mtsql.query.names import Names, names_of
from mtsql.schema import Schema

COMPONENTS = (
    "select",
    "select(no AGG)",
    "where",
    "where(no OP)",
    "group(no Having)",
    "group",
    "order",
    "and/or",
    "IUEN",
    "keywords",
)
"""The official names of the parts of a query that are scored one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of both queries: how many elements each has, and whether they are the same."""

    num_gold: int
    num_pred: int
    is_match: bool


def exact_match(
    gold_sql: str, pred_sql: str, schema: Schema, rules: Rules = OFFICIAL
) -> bool | None:
    """Spider's verdict; None when gold itself is outside Spider's subset.

    A prediction outside the subset is False: it has no clauses to compare.
    """
    names = names_of(schema)
    gold = _comparable(gold_sql, names)
    if gold is None:
        return None
    pred = _comparable(judged_text(pred_sql, rules), names)
    return pred is not None and _match(gold, pred)


def why_outside(sql: str, schema: Schema) -> str:
    """Why a query is outside Spider's subset; "" when it is inside."""
    found = read(sql, names_of(schema))
    return found if isinstance(found, str) else ""


def components(
    gold_sql: str, pred_sql: str, schema: Schema, rules: Rules = OFFICIAL
) -> dict[str, Component] | None:
    """The partial scores, by name; None when gold is outside Spider's subset.

    A prediction outside the subset has no element in any part.
    """
    names = names_of(schema)
    gold = _comparable(gold_sql, names)
    if gold is None:
        return None
    return _components(gold, _comparable(judged_text(pred_sql, rules), names) or _NOTHING)


_NOTHING = Query(
    is_distinct=False,
    select=(),
    tables=(),
    joins=Conditions(),
    where=Conditions(),
    group=(),
    having=Conditions(),
    order=None,
    has_limit=False,
    set_operator=None,
    set_query=None,
)


@lru_cache(maxsize=16384)
def _comparable(sql: str, names: Names) -> Query | None:
    query = read(sql, names)
    if isinstance(query, str):
        return None
    tables = {table for table in query.tables if isinstance(table, str)}
    merged = {
        column: stand_in
        for column, stand_in in names.merged.items()
        if column.partition(".")[0] in tables
    }
    return _merge_columns(_drop_values(query), merged)


def _drop_values(query: Query) -> Query:
    return replace(
        query,
        joins=_drop_condition_values(query.joins),
        where=_drop_condition_values(query.where),
        having=_drop_condition_values(query.having),
        set_query=query.set_query and _drop_values(query.set_query),
    )


def _drop_condition_values(conditions: Conditions) -> Conditions:
    def drop(value: Value) -> Value:
        return _drop_values(value) if isinstance(value, Query) else None

    if not conditions.items:
        return conditions
    return Conditions(
        tuple(
            Condition(item.is_negated, item.operator, item.term, drop(item.value), drop(item.upper))
            for item in conditions.items
        ),
        conditions.connectors,
    )


def _merge_columns(query: Query, merged: Mapping[str, str]) -> Query:
    def use(column: ColumnUse) -> ColumnUse:
        return ColumnUse(column.aggregate, merged.get(column.column, column.column))

    def term(old: Term) -> Term:
        return Term(use(old.left), old.operator, old.right and use(old.right))

    def condition(old: Condition) -> Condition:
        return Condition(old.is_negated, old.operator, term(old.term), old.value, old.upper)

    def conditions(old: Conditions) -> Conditions:
        if not old.items:
            return old
        return Conditions(tuple(condition(item) for item in old.items), old.connectors)

    return replace(
        query,
        is_distinct=False,
        select=tuple(replace(item, term=term(item.term)) for item in query.select),
        where=conditions(query.where),
        group=tuple(use(column) for column in query.group),
        having=conditions(query.having),
        order=query.order and replace(query.order, terms=tuple(map(term, query.order.terms))),
        set_query=query.set_query and _merge_columns(query.set_query, merged),
    )


def _match(gold: Query, pred: Query) -> bool:
    return (
        _same(gold.tables, pred.tables)
        and _same(gold.select, pred.select)
        and _same(gold.where.items, pred.where.items)
        and set(gold.where.connectors) == set(pred.where.connectors)
        and _groups_match(gold, pred)
        and gold.order == pred.order
        and _keywords(gold) == _keywords(pred)
        and _set_queries_match(gold, pred)
    )


def _same(gold: tuple[object, ...], pred: tuple[object, ...]) -> bool:
    return gold == pred or (len(gold) == len(pred) and Counter(gold) == Counter(pred))


def _groups_match(gold: Query, pred: Query) -> bool:
    if [column.column for column in gold.group] != [column.column for column in pred.group]:
        return False
    # Without GROUP BY the official check sees only whether there is a HAVING (in the keywords).
    return not gold.group or gold.having == pred.having


def _set_queries_match(gold: Query, pred: Query) -> bool:
    if gold.set_operator != pred.set_operator:
        return False
    if gold.set_query is None or pred.set_query is None:
        return True
    return _match(gold.set_query, pred.set_query)


def _keywords(query: Query) -> set[str]:
    words: set[str] = set()
    if query.where.items:
        words.add("where")
    if query.group:
        words.add("group")
    if query.having.items:
        words.add("having")
    if query.order is not None:
        words |= {query.order.direction, "order"}
    if query.has_limit:
        words.add("limit")
    if query.set_operator in SET_OPERATORS:
        words.add(query.set_operator)
    every = (query.joins, query.where, query.having)
    if any("or" in conditions.connectors for conditions in every):
        words.add("or")
    for item in chain.from_iterable(conditions.items for conditions in every):
        if item.is_negated:
            words.add("not")
        if item.operator in ("in", "like"):
            words.add(item.operator)
    return words


def _components(gold: Query, pred: Query) -> dict[str, Component]:
    def bag(of_gold: list[object], of_pred: list[object]) -> Component:
        is_match = Counter(of_gold) == Counter(of_pred)
        return Component(num_gold=len(of_gold), num_pred=len(of_pred), is_match=is_match)

    def one(in_gold: bool, in_pred: bool, is_match: bool) -> Component:
        is_match = in_gold == in_pred and (is_match or not in_gold)
        return Component(num_gold=int(in_gold), num_pred=int(in_pred), is_match=is_match)

    def last_names(query: Query) -> list[object]:
        return [column.column.rpartition(".")[2] for column in query.group]

    connectors = [set(query.where.connectors) for query in (gold, pred)]
    # Their numbers stand the other way round in the official script.
    and_or = Component(num_gold=len(connectors[1]), num_pred=len(connectors[0]), is_match=False)
    if connectors[0] == connectors[1]:
        and_or = Component(num_gold=1, num_pred=1, is_match=True)
    return {
        "select": bag([*gold.select], [*pred.select]),
        "select(no AGG)": bag([x.term for x in gold.select], [x.term for x in pred.select]),
        "where": bag([*gold.where.items], [*pred.where.items]),
        "where(no OP)": bag([x.term for x in gold.where.items], [x.term for x in pred.where.items]),
        "group(no Having)": bag(last_names(gold), last_names(pred)),
        "group": one(bool(gold.group), bool(pred.group), _groups_match(gold, pred)),
        "order": one(
            gold.order is not None,
            pred.order is not None,
            gold.order == pred.order and gold.has_limit == pred.has_limit,
        ),
        "and/or": and_or,
        "IUEN": one(
            gold.set_query is not None,
            pred.set_query is not None,
            _set_queries_match(gold, pred),
        ),
        "keywords": bag([*_keywords(gold)], [*_keywords(pred)]),
    }
