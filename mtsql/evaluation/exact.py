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

One line of the official script is not followed: it replaces the text "value" by "1" in every
prediction, which makes columns such as market_value impossible to predict.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from mtsql.evaluation.spider_sql import (
    ColumnUse,
    Condition,
    Conditions,
    Names,
    Query,
    Term,
    Value,
    names_of,
    parse_with_names,
)
from mtsql.schema import Schema


def exact_match(gold_sql: str, pred_sql: str, schema: Schema) -> bool | None:
    """Spider's verdict; None when gold itself is outside Spider's subset.

    A prediction outside the subset is False: it has no clauses to compare.
    """
    names = names_of(schema)
    gold = _comparable(gold_sql, names)
    if gold is None:
        return None
    pred = _comparable(pred_sql, names)
    return pred is not None and _match(gold, pred)


@lru_cache(maxsize=16384)
def _comparable(sql: str, names: Names) -> Query | None:
    query = parse_with_names(sql, names)
    if query is None:
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

    return replace(
        conditions,
        items=tuple(
            replace(item, value=drop(item.value), upper=drop(item.upper))
            for item in conditions.items
        ),
    )


def _merge_columns(query: Query, merged: Mapping[str, str]) -> Query:
    def use(column: ColumnUse) -> ColumnUse:
        return ColumnUse(column.aggregate, merged.get(column.column, column.column))

    def term(old: Term) -> Term:
        return Term(use(old.left), old.operator, old.right and use(old.right))

    def condition(old: Condition) -> Condition:
        return replace(old, term=term(old.term))

    def conditions(old: Conditions) -> Conditions:
        return replace(old, items=tuple(condition(item) for item in old.items))

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
        Counter(gold.tables) == Counter(pred.tables)
        and Counter(gold.select) == Counter(pred.select)
        and Counter(gold.where.items) == Counter(pred.where.items)
        and set(gold.where.connectors) == set(pred.where.connectors)
        and _groups_match(gold, pred)
        and gold.order == pred.order
        and _keywords(gold) == _keywords(pred)
        and _set_queries_match(gold, pred)
    )


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


def _keywords(query: Query) -> frozenset[str]:
    """Presence of what the other comparisons do not see: HAVING, LIMIT, and words inside ON."""
    every = (query.joins, query.where, query.having)
    items = [item for conditions in every for item in conditions.items]
    present = {
        "having": bool(query.having.items),
        "limit": query.has_limit,
        "or": any("or" in conditions.connectors for conditions in every),
        "not": any(item.is_negated for item in items),
        "in": any(item.operator == "in" for item in items),
        "like": any(item.operator == "like" for item in items),
    }
    return frozenset(word for word, is_present in present.items() if is_present)
