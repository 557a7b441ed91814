"""A chain as a request to the SQL pool, so that its first views need not be computed again."""

from collections.abc import Iterable
from functools import lru_cache

from sqlglot import exp

from mtsql.chains.chain import Chain, name_in_sql
from mtsql.query.reading import parse_query
from mtsql.sql.records import QueryLimits, QueryRequest, ViewText

_ADDING = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max)
"""Aggregates that do not look at the order of rows."""
_DRAWN = frozenset(
    {"random", "randomblob", "changes", "total_changes", "last_insert_rowid", "total"}
)


def request_of(db_id: str, chain: Chain, limits: QueryLimits) -> QueryRequest:
    """The composed query, with its views where their rows may be kept."""
    return QueryRequest(db_id=db_id, sql=chain.sql, limits=limits, views=view_texts(chain))


@lru_cache(maxsize=4096)
def view_texts(chain: Chain) -> tuple[ViewText, ...]:
    """The chain's views as the pool keeps them; () where that could show other rows.

    Kept rows are read in another way than the composed query goes about it. The rows are the same
    where the SQL alone settles them: neither LIMIT nor a window, no aggregate that looks at the
    order, no column beside a group that the group does not settle, and nothing random. Ties of an
    ORDER BY may stand in another order, as they may in any two runs.
    """
    if not all(is_settled(view.sql) for view in chain.views):
        return ()
    return tuple((name_in_sql(view.name), view.sql) for view in chain.views)


@lru_cache(maxsize=8192)
def is_settled(sql: str) -> bool:
    """Whether a query's rows, as a bag, follow from its text and its sources alone."""
    tree = parse_query(sql)
    if tree is None or tree.args.get("with_"):
        return False
    if tree.find(exp.Limit, exp.Offset, exp.Fetch, exp.Window, exp.With):
        return False
    if any(_is_drawn(one) for one in tree.find_all(exp.Func)):
        return False
    return all(_is_grouped_well(select) for select in tree.find_all(exp.Select))


def _is_drawn(function: exp.Func) -> bool:
    name = (function.name if isinstance(function, exp.Anonymous) else function.sql_name()).lower()
    if isinstance(function, exp.AggFunc) and not isinstance(function, _ADDING):
        return True
    # What json functions return is more than its text, until it is stored.
    return name in _DRAWN or "json" in name or isinstance(function, exp.Rand)


def _is_grouped_well(select: exp.Select) -> bool:
    """No column stands beside a group but those that it is grouped by."""
    group = select.args.get("group")
    having, order = select.args.get("having"), select.args.get("order")
    shown = [*select.expressions, *(one for one in (having, order) if one is not None)]
    if group is None and not any(_aggregates(one) for one in shown):
        return True
    keys = {_plain(key) for key in group.expressions} if group is not None else set[str]()
    aliases = {item.alias.lower() for item in select.expressions if isinstance(item, exp.Alias)}
    return all(_is_settled_by(one, keys, aliases if one is order else set()) for one in shown)


def _is_settled_by(node: exp.Expr, keys: set[str], aliases: set[str]) -> bool:
    if isinstance(node, exp.AggFunc | exp.Query) or _plain(node) in keys:
        return True
    if isinstance(node, exp.Star):
        return False
    if isinstance(node, exp.Column):
        return not node.table and node.name.lower() in aliases
    return all(_is_settled_by(child, keys, aliases) for child in node.iter_expressions())


def _aggregates(node: exp.Expr) -> Iterable[exp.Expr]:
    """The aggregates of a SELECT's own, not those of queries inside."""
    if isinstance(node, exp.AggFunc):
        return [node]
    if isinstance(node, exp.Query):
        return []
    return [found for child in node.iter_expressions() for found in _aggregates(child)]


def _plain(node: exp.Expr) -> str:
    return node.unalias().sql("sqlite").lower()
