"""Spider's hardness label of a gold query."""

from mtsql.dialogue import Hardness
from mtsql.evaluation.em.grammar import Conditions, Query, parse
from mtsql.schema import Schema


def hardness(sql: str, schema: Schema) -> Hardness | None:
    """easy, medium, hard or extra, by counting clauses.

    None: the SQL is outside Spider's subset, so there are no clauses to count. The official
    evaluator takes such a query for an empty one and calls it easy, which says nothing about it.

    Source: `eval_hardness` of taoyds/test-suite-sql-eval (Yu et al., EMNLP 2018).
    """
    query = parse(sql, schema)
    if query is None:
        return None
    clauses, nested, others = _num_clauses(query), _num_nested(query), _num_others(query)
    if clauses <= 1 and others == 0 and nested == 0:
        return "easy"
    if nested == 0 and ((others <= 2 and clauses <= 1) or (others < 2 and clauses <= 2)):
        return "medium"
    if nested == 0 and ((others > 2 and clauses <= 2) or (clauses == 3 and others <= 2)):
        return "hard"
    if clauses <= 1 and others == 0 and nested == 1:
        return "hard"
    return "extra"


def _all_conditions(query: Query) -> tuple[Conditions, Conditions, Conditions]:
    return query.joins, query.where, query.having


def _num_clauses(query: Query) -> int:
    present = (query.where.items, query.group, query.order is not None, query.has_limit)
    count = sum(1 for clause in present if clause) + max(0, len(query.tables) - 1)
    for conditions in _all_conditions(query):
        count += conditions.connectors.count("or")
        count += sum(item.operator == "like" for item in conditions.items)
    return count


def _num_nested(query: Query) -> int:
    values = [
        value
        for conditions in _all_conditions(query)
        for item in conditions.items
        for value in (item.value, item.upper)
    ]
    return sum(isinstance(value, Query) for value in values) + (query.set_query is not None)


def _num_others(query: Query) -> int:
    return (
        (_num_aggregates(query) > 1)
        + (len(query.select) > 1)
        # A dangling AND counts as a second condition: the official list holds both kinds.
        + (len(query.where.items) + len(query.where.connectors) > 1)
        + (len(query.group) > 1)
    )


def _num_aggregates(query: Query) -> int:
    count = sum(item.aggregate != "" for item in query.select)
    count += sum(column.aggregate != "" for column in query.group)
    if query.order is not None:
        for term in query.order.terms:
            count += term.left.aggregate != ""
            count += term.right is not None and term.right.aggregate != ""
    # In conditions the official count meets the NOT flag, and in HAVING the AND / OR as well; the
    # labels of the published data depend on it.
    count += sum(item.is_negated for item in query.where.items)
    count += sum(item.is_negated for item in query.having.items)
    return count + sum(isinstance(one, str) or one.is_negated for one in query.having.connectors)
