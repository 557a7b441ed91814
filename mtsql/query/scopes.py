"""Which table a column belongs to: one of its own SELECT, else one of a SELECT around it.

sqlglot has the same in `optimizer.scope`, which takes twice the time and gives an ORDER BY's names
no table; on SParC's columns both agree but for 8 of 29,583.
"""

from collections.abc import Iterator, Mapping

from sqlglot import exp

from mtsql.query.names import Names

ColumnKey = tuple[str, str]
"""(table, column) in lower case; the table is empty where the SQL does not tell it."""

ROW_IDS = frozenset({"rowid", "oid", "_rowid_"})
"""Columns that SQLite's tables have without being told."""

_KEEPING = (
    exp.Paren,
    exp.Collate,
    exp.Cast,
    exp.Lower,
    exp.Upper,
    exp.Trim,
    exp.Substring,
    exp.Replace,
    exp.Coalesce,
    exp.Min,
    exp.Max,
    exp.Date,
    exp.TimeToStr,
    exp.TsOrDsToTimestamp,
    exp.JSONExtract,
    exp.JSONExtractScalar,
)
"""What they return comes out of their first argument's text."""


def selects_around(node: exp.Expr) -> Iterator[exp.Select]:
    """The SELECTs that a node stands in, the innermost first."""
    while (select := node.find_ancestor(exp.Select)) is not None:
        yield select
        node = select


def sources(select: exp.Select) -> list[exp.Expr]:
    """Tables and derived tables of FROM and JOIN, in order, also of joins in parentheses."""
    clauses = (select.args.get("from_"), *(select.args.get("joins") or ()))
    return [source for clause in clauses if clause is not None for source in _unpacked(clause.this)]


def subject_of(node: exp.Expr) -> exp.Column | None:
    """The one column that an expression takes its text from: `city` of `lower(trim(s.city))`."""
    while True:
        if isinstance(node, _KEEPING):
            node = node.this
        elif isinstance(node, exp.Subquery):
            query = node.this
            if not isinstance(query, exp.Select) or len(query.expressions) != 1:
                return None
            node = query.expressions[0].unalias()
        else:
            return node if isinstance(node, exp.Column) else None


class Scopes:
    """The columns' tables in one statement's tree; each SELECT is read once.

    Example: SELECT name FROM shop AS s WHERE EXISTS (SELECT 1 FROM sale WHERE shop_id = s.id)
        name: shop    shop_id: sale    s.id: shop
    """

    def __init__(self, names: Names | None = None) -> None:
        """
        Args:
            names: lets a column without its table find it in a join.
        """
        self._names = names
        self._tables: dict[int, Mapping[str, str]] = {}
        self._held: dict[tuple[int, str], bool] = {}
        """Whether a query has an output of that name."""

    def table_of(self, column: exp.Column) -> str | None:
        """The table in lower case, a derived table by its alias; None if the text does not tell."""
        for select in selects_around(column):
            tables = self._tables_of(select)
            if column.table:
                if column.table.lower() in tables:
                    return tables[column.table.lower()]
            elif len(distinct := set(tables.values())) == 1:
                return distinct.pop()
            elif self._names is None:
                if distinct:
                    return None
            else:
                known = self._names.tables_by_column.get(column.name.lower(), frozenset())
                if owners := distinct & known:
                    return owners.pop() if len(owners) == 1 else None
        return None

    def key_of(self, column: exp.Column) -> ColumnKey:
        """The stored column that a name stands for, through derived tables, CTEs and aliases.

        Example: WITH c AS (SELECT city AS town FROM shop) SELECT 1 FROM c WHERE town = 'Oslo'
            town: (shop, city)
        """
        found = self._stored(column, frozenset())
        return found or (self.table_of(column) or column.table.lower(), column.name.lower())

    def can_name(self, column: exp.Column) -> bool:
        """Whether a name without its table can be that of a column or an output in its scope.

        True where it may be one of a table that the schema does not know; without a schema, False
        for all columns of its tables.
        """
        name = column.name.lower()
        for query, sees_outputs in _visible(column):
            if isinstance(query, exp.SetOperation):
                return True  # its ORDER BY takes nothing but outputs
            found = sources(query)
            if any(self._holds(source, name) for source in found):
                return True
            if name in ROW_IDS and len(found) == 1 and definition_of(found[0]) is None:
                return True
            if sees_outputs and name in _aliases(query):
                return True
        return False

    def _tables_of(self, select: exp.Select) -> Mapping[str, str]:
        """Tables by the name that the columns use."""
        tables = self._tables.get(id(select))
        if tables is None:
            tables = self._tables[id(select)] = {
                source.alias_or_name.lower(): (
                    source.name if isinstance(source, exp.Table) else source.alias_or_name
                ).lower()
                for source in sources(select)
            }
        return tables

    def _holds(self, source: exp.Expr, name: str) -> bool:
        """Whether a source may have a column of this name."""
        if isinstance(derived := definition_of(source), exp.Query):
            return self._has_output(derived, name)
        if not isinstance(source, exp.Table) or not isinstance(source.this, exp.Identifier):
            return self._names is not None
        if isinstance(derived, exp.CTE):
            if outputs := [one.lower() for one in derived.alias_column_names]:
                return name in outputs
            return self._has_output(derived.this, name)
        if self._names is None:
            return False
        columns = self._names.columns.get(source.name.lower())
        return columns is None or name in columns

    def _has_output(self, query: exp.Expr, name: str) -> bool:
        key = id(query), name
        if key not in self._held:
            self._held[key] = True  # of a CTE that reads itself nothing is known
            select = _first_select(query)
            self._held[key] = select is None or any(
                self._gives(item, select, name) for item in select.expressions
            )
        return self._held[key]

    def _gives(self, item: exp.Expr, select: exp.Select, name: str) -> bool:
        """Whether an item of a SELECT is, or with * may be, an output of this name."""
        if item.is_star:
            return any(self._holds(source, name) for source in _starred(item, select))
        # An expression without an alias is called by its text.
        return name == item.output_name.lower() or (
            not item.output_name and _squeezed(name) == _squeezed(item.sql("sqlite"))
        )

    def _stored(self, column: exp.Column, seen: frozenset[int]) -> ColumnKey | None:
        """None where the text does not tell, or the column is computed."""
        if id(column) in seen:
            return None
        seen |= {id(column)}
        name = column.name.lower()
        for query, sees_outputs in _visible(column):
            if isinstance(query, exp.SetOperation):
                return None
            found = sources(query)
            if column.table:
                found = [one for one in found if one.alias_or_name.lower() == column.table.lower()]
            elif len(found) > 1 or self._names is not None:
                found = [one for one in found if self._holds(one, name)]
            if found:
                return self._stored_in(found[0], name, seen) if len(found) == 1 else None
            if not column.table and sees_outputs and name in (aliases := _aliases(query)):
                return self._stored_as(aliases[name], seen)
        return None

    def _stored_in(self, source: exp.Expr, name: str, seen: frozenset[int]) -> ColumnKey | None:
        derived = definition_of(source)
        if derived is None:
            return (source.name.lower(), name) if isinstance(source, exp.Table) else None
        if id(derived) in seen:
            return None
        seen |= {id(derived)}
        outputs: list[str] = []
        if isinstance(derived, exp.CTE):
            outputs = [one.lower() for one in derived.alias_column_names]
            derived = derived.this
        select = _first_select(derived)
        if select is None:
            return None
        for place, item in enumerate(select.expressions):
            if item.is_star and not outputs:
                inner = [one for one in _starred(item, select) if self._holds(one, name)]
                if len(inner) == 1:
                    return self._stored_in(inner[0], name, seen)
            elif name == (outputs[place : place + 1] or [item.output_name.lower()])[0]:
                return self._stored_as(item.unalias(), seen)
        return None

    def _stored_as(self, expression: exp.Expr, seen: frozenset[int]) -> ColumnKey | None:
        column = subject_of(expression)
        return None if column is None else self._stored(column, seen)


def _unpacked(source: exp.Expr) -> Iterator[exp.Expr]:
    inner = source
    while isinstance(inner, exp.Subquery | exp.Paren) and not isinstance(inner.this, exp.Query):
        inner = inner.this
    yield inner
    for part in {id(one): one for one in (source, inner)}.values():
        for join in part.args.get("joins") or ():
            yield from _unpacked(join.this)


def _visible(node: exp.Expr) -> Iterator[tuple[exp.Select | exp.SetOperation, bool]]:
    """The queries whose names a node sees, the innermost first, and whether that is their outputs'
    names, too.

    A derived table and a CTE see what their query stands in, but not their neighbours in FROM.
    """
    is_derived = False
    while (parent := node.parent) is not None:
        if isinstance(node, exp.Subquery) and isinstance(parent, exp.From | exp.Join):
            is_derived = node.arg_key == "this"
        if isinstance(parent, exp.Select):
            if not is_derived and node.arg_key != "with_":
                yield parent, node.arg_key != "expressions"
            is_derived = False
        elif isinstance(parent, exp.SetOperation) and node.arg_key == "order":
            yield parent, True
        node = parent


def definition_of(source: exp.Expr) -> exp.Query | exp.CTE | None:
    """The query of a derived table, or the CTE that a table's name stands for; None: a table."""
    if isinstance(source, exp.Subquery):
        return source.this if isinstance(source.this, exp.Query) else None
    if not isinstance(source, exp.Table) or source.db:
        return None
    node: exp.Expr | None = source
    while node is not None:
        with_ = node.args.get("with_")
        for cte in with_.expressions if with_ is not None else ():
            if cte.alias.lower() == source.name.lower():
                return cte
        node = node.parent
    return None


def _first_select(query: exp.Expr) -> exp.Select | None:
    """The one that names a query's outputs."""
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this
    return query if isinstance(query, exp.Select) else None


def _starred(item: exp.Expr, select: exp.Select) -> list[exp.Expr]:
    """The sources of `*` or `t.*`."""
    table = item.table.lower() if isinstance(item, exp.Column) else ""
    return [source for source in sources(select) if table in ("", source.alias_or_name.lower())]


def _aliases(select: exp.Select) -> dict[str, exp.Expr]:
    return {
        item.alias.lower(): item.this for item in select.expressions if isinstance(item, exp.Alias)
    }


def _squeezed(text: str) -> str:
    return "".join(text.lower().split())
