"""Queries become chains of views by rules on their trees: no model writes them.

Clauses become views in the order in which a database works through them. How many do, a style says,
so that one query gives several different chains:

    SELECT city, count(*) FROM shop JOIN sale ON shop.id = sale.shop_id
    WHERE price > 5 GROUP BY city ORDER BY count(*) DESC LIMIT 1

    stages   join, then condition, then groups, then the first row
    filters  the sales above 5, then the join, then groups
    joins    of three tables and more: two of them, then one more at a time, then groups
    rows     join and condition together, then all else
    groups   all up to the groups, then all else

Of each query nested ones and both sides of UNION, INTERSECT and EXCEPT are taken apart likewise.
The rules keep the result, but for what SQL leaves open (ties, the order of rows); what they give
counts only after `mtsql.chains.build` has run it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from mtsql.chains.chain import Chain, View
from mtsql.chains.reading import LAST_VIEW, ChainError, NoViewError, read_chain
from mtsql.query.names import names_of
from mtsql.query.reading import SQLITE, parse_query
from mtsql.query.scopes import ROW_IDS, selects_around, sources
from mtsql.query.texts import Texts
from mtsql.schema import Schema
from mtsql.sql.quoting import needs_quotes

_GENERATOR = SQLITE.generator(comments=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What becomes a view, besides nested queries and the sides of set operations."""

    name: str
    tables: bool = False
    """Each table of a join with its own conditions."""
    joins: bool = False
    """A join of three tables and more one table at a time."""
    rows: bool = False
    """FROM and WHERE."""
    conditions: bool = False
    """With `rows`: WHERE apart from FROM."""
    groups: bool = False
    """GROUP BY with its aggregates; with `rows`, HAVING too."""
    first: bool = False
    """ORDER BY with LIMIT 1; of more rows the last query would not promise the order."""


STYLES = (
    Style(name="stages", rows=True, conditions=True, groups=True, first=True),
    Style(name="filters", tables=True, rows=True, groups=True),
    Style(name="joins", joins=True, rows=True, groups=True),
    Style(name="steps", rows=True, groups=True),
    Style(name="groups", groups=True),
    Style(name="rows", rows=True),
    Style(name="tables", tables=True),
    Style(name="parts"),
)


def chains_of(sql: str, schema: Schema) -> list[Chain]:
    """Chains with at least one view before their last, each from another style; not yet run.

    A query that is a chain already comes back as it is.

    Raises:
        ChainError: it is not one query that can be read.
        NoViewError: nothing of it can become a view.
    """
    return list(chains_by_style(sql, schema).values())


def chains_by_style(sql: str, schema: Schema) -> dict[Style, Chain]:
    """As `chains_of`, with the first style that gives each."""
    whole = read_chain(sql)
    if len(whole.views) > 1:
        return {STYLES[0]: whole}
    tree = _qualified(sql, schema)
    found: dict[str, tuple[Style, Chain]] = {}
    for style in STYLES:
        chain = _Builder(schema, style, tree).chain()
        if len(chain.views) > 1:
            found.setdefault(chain.sql, (style, chain))
    if not found:
        raise NoViewError("nothing of it can become a view")
    return dict(found.values())


def chain_in_style(sql: str, schema: Schema, style: Style) -> Chain:
    """The chain that a style makes of a query, which may have one view only.

    Raises:
        ChainError: it is not one query that can be read.
    """
    whole = read_chain(sql)
    return (
        whole if len(whole.views) > 1 else _Builder(schema, style, _qualified(sql, schema)).chain()
    )


def _qualified(sql: str, schema: Schema) -> exp.Query:
    """The tree with texts as texts, and with its table before each column."""
    tree = parse_query(sql.strip().rstrip(";"))
    if tree is None:
        raise ChainError("this is not one query that can be read: write one SELECT statement")
    texts = Texts(tree, sql, names_of(schema))
    for column in [one for one in tree.find_all(exp.Column) if texts.is_text(one)]:
        column.replace(exp.Literal.string(column.name))
    columns: dict[str, object] = {
        table.name.lower(): {column.name.lower(): "text" for column in table.columns}
        for table in schema.tables
    }
    try:
        qualified = qualify(
            tree,
            dialect=SQLITE,
            schema=columns,
            quote_identifiers=False,
            expand_stars=False,
            validate_qualify_columns=False,
        )
    except (SqlglotError, RecursionError) as error:
        raise ChainError(f"its names cannot be resolved: {error}") from error
    assert isinstance(qualified, exp.Query)
    for select in qualified.find_all(exp.Select):
        _inline_output_names(select)
    return qualified


def _inline_output_names(select: exp.Select) -> None:
    """`count(*) AS n ... ORDER BY n` reads `ORDER BY count(*)`."""
    outputs = {item.alias: item.this for item in select.expressions if isinstance(item, exp.Alias)}
    for key in ("having", "order"):
        clause = select.args.get(key)
        for column in list(clause.find_all(exp.Column)) if clause is not None else ():
            if not column.table and column.name in outputs:
                column.replace(outputs[column.name].copy())


class _Builder:
    """Takes one query apart in one style."""

    def __init__(self, schema: Schema, style: Style, tree: exp.Query) -> None:
        self._style = style
        self._tree = tree.copy()
        self._views: list[tuple[str, exp.Query, str]] = []
        self._outputs = {
            table.name.lower(): [column.name.lower() for column in table.columns]
            for table in schema.tables
        }
        """Columns by table and view."""
        self._tables = frozenset(self._outputs)
        self._spelling = {
            column.name.lower(): column.name for table in schema.tables for column in table.columns
        } | {table.name.lower(): table.name for table in schema.tables}
        self._taken = set(self._outputs) | {
            identifier.name.lower() for identifier in tree.find_all(exp.Identifier)
        }

    def chain(self) -> Chain:
        last = self._reduce(self._tree)
        views = [
            View(name=name, sql=self._text(query), rationale=why)
            for name, query, why in self._views
        ]
        return Chain((*views, View(name=LAST_VIEW, sql=self._text(last))))

    # Queries.

    def _reduce(self, query: exp.Expr) -> exp.Query:
        """What is left of a query when its views are taken out of it; changes it in place."""
        if isinstance(query, exp.Subquery):
            return self._reduce(query.this)
        if isinstance(query, exp.SetOperation):
            for key, word in (("this", "first"), ("expression", "second")):
                side = query.args[key]
                reduced = self._reduce(side)
                if isinstance(reduced, exp.Select) and not _looks_out(reduced):
                    reduced = self._as_view(f"{word}_part", reduced, f"The {word} part.")
                if reduced is not side:
                    side.replace(reduced)
            return query
        assert isinstance(query, exp.Select)
        self._take_out_nested(query)
        if self._can_be_taken_apart(query):
            self._spell_out_stars(query)
            if self._style.tables:
                self._take_out_tables(query)
            if self._style.joins:
                self._take_out_joins(query)
            if self._style.rows:
                self._take_out_rows(query, apart=self._style.conditions)
            if self._style.groups:
                self._take_out_groups(query)
            is_first = query.args.get("order") and _is_one(query.args.get("limit"))
            if self._style.first and is_first and not _looks_out(query):
                return self._as_view("first_row", query, "The first one in order.")
        return query

    def _take_out_nested(self, select: exp.Select) -> None:
        for query in list(_inner_queries(select)):
            is_own = not _looks_out(query)
            holder = query.parent
            reduced = self._reduce(query)
            is_derived = isinstance(holder, exp.Subquery) and isinstance(
                holder.parent, exp.From | exp.Join
            )
            if is_own and is_derived:
                assert holder is not None
                view = self._emit("inner_rows", reduced, "The rows to look at.", keep_names=True)
                holder.replace(_table(view, holder.alias))
            elif is_own:
                query.replace(self._as_view("inner_rows", reduced, "What the rest compares with."))

    def _as_view(self, name: str, query: exp.Query, why: str) -> exp.Query:
        """A query as a view, and the query that reads it; itself if it is that already."""
        if isinstance(query, exp.Select) and self._only_reads_a_view(query):
            return query
        view = self._emit(name, query, why)
        columns = [exp.column(name, table=view) for name in self._outputs[view]]
        return exp.Select(expressions=columns, from_=exp.From(this=_table(view)))

    def _only_reads_a_view(self, select: exp.Select) -> bool:
        found = sources(select)
        is_plain = all(
            not value or key in ("expressions", "from_", "kind")
            for key, value in select.args.items()
        )
        return (
            is_plain
            and len(found) == 1
            and self._is_view(found[0])
            and all(isinstance(item.unalias(), exp.Column) for item in select.expressions)
        )

    def _is_view(self, source: exp.Expr) -> bool:
        return isinstance(source, exp.Table) and source.name.lower() not in self._tables

    def _can_be_taken_apart(self, select: exp.Select) -> bool:
        found = sources(select)
        joins = select.args.get("joins") or ()
        return (
            bool(found)
            and all(isinstance(one, exp.Table) and one.name in self._outputs for one in found)
            and not any(one.args.get("joins") for one in found)
            and not any(join.args.get("using") or join.method for join in joins)
            and select.find(exp.Window) is None
            and all(column.table or column.is_star for column in _columns(select))
            and not any(column.name in ROW_IDS for column in _columns(select))
            and not any(_looks_out(join, select) for join in joins)
        )

    def _spell_out_stars(self, select: exp.Select) -> None:
        """The columns of * in a join: their names may clash."""
        found = sources(select)
        if len(found) == 1:
            return
        items: list[exp.Expr] = []
        for item in select.expressions:
            if not item.is_star:
                items.append(item)
                continue
            table = item.table if isinstance(item, exp.Column) else ""
            items += [
                exp.column(column, table=source.alias_or_name)
                for source in found
                if table in ("", source.alias_or_name)
                for column in self._outputs[source.name]
            ]
        select.set("expressions", items)

    # Clauses.

    def _take_out_tables(self, select: exp.Select) -> None:
        """Each table of a join with the conditions that look at nothing else."""
        found = sources(select)
        if len(found) < 2 or any(join.side for join in select.args.get("joins") or ()):
            return
        own, rest = _conditions_of(select)
        for source in found:
            alias = source.alias_or_name
            conditions = [
                one
                for one in own
                if one.find(exp.Select) is None and {c.table for c in _columns(one)} == {alias}
            ]
            if self._is_view(source) or not conditions:
                continue
            own = [one for one in own if one not in conditions]
            for condition in conditions:
                condition.pop()
            _set_where(select, [*own, *rest])
            needed = dict.fromkeys(c.name for c in _owned_columns(select) if c.table == alias)
            items = [exp.column(name, table=alias) for name in needed or self._some_of(source)]
            inner = exp.Select(expressions=items, from_=exp.From(this=source.copy()))
            _set_where(inner, conditions)
            why = f"Of {source.name} only what fits: {self._said(conditions)}."
            view = self._emit(f"{source.name}_kept", inner, why, keep_names=True)
            source.replace(_table(view, alias))

    def _take_out_joins(self, select: exp.Select) -> None:
        """The first two tables as a view while there are more than these."""
        joins: list[exp.Join] = list(select.args.get("joins") or ())
        if any(join.side or join.args.get("on") is None for join in joins):
            return
        for join in joins[:-1]:
            pair = [select.args["from_"].this, join.this]
            aliases = {source.alias_or_name for source in pair}
            inside = {id(column) for column in _columns(join)}
            remaining = [
                column
                for column in _owned_columns(select)
                if column.table in aliases and id(column) not in inside
            ]
            names = self._name_columns(remaining, pair)
            items = [
                exp.alias_(exp.column(name, table=table), output)
                for (table, name), output in names.items()
            ]
            inner = exp.Select(expressions=items or self._some_columns(pair[0]))
            inner.set("from_", select.args["from_"].pop())
            inner.set("joins", [join.pop()])
            why = f"Join {pair[0].name} and {pair[1].name}."
            view = self._emit("joined_rows", inner, why, keep_names=True)
            for column in remaining:
                column.set("this", exp.to_identifier(names[column.table, column.name]))
                column.set("table", exp.to_identifier(view))
            select.set("from_", exp.From(this=_table(view)))

    def _take_out_rows(self, select: exp.Select, *, apart: bool) -> None:
        """FROM and WHERE as a view; `apart`: as two."""
        found = sources(select)
        own, rest = _conditions_of(select)
        if len(found) == 1 and self._is_view(found[0]) and not own:
            return
        is_late = apart and bool(own)
        joins: list[exp.Expr] = list(select.args.get("joins") or ())
        moved: list[exp.Expr] = [select.args["from_"], *joins, *(() if is_late else own)]
        inside = {id(column) for clause in moved for column in _columns(clause)}
        remaining = [c for c in _owned_columns(select) if id(c) not in inside]
        has_star = any(item.is_star for item in select.expressions)
        inner = exp.Select()
        if has_star:
            names = {(c.table, c.name): c.name for c in remaining}
            inner.set("expressions", [exp.Star()])
        else:
            names = self._name_columns(remaining, found)
            items = [
                exp.alias_(exp.column(name, table=table), output)
                for (table, name), output in names.items()
            ]
            inner.set("expressions", items or self._some_columns(found[0]))
        inner.set("from_", select.args["from_"].pop())
        inner.set("joins", [join.pop() for join in joins])
        if not is_late:
            _set_where(inner, [one.pop() for one in own])
            _set_where(select, rest)
        tables = list(dict.fromkeys(source.name for source in found))
        why = f"{'Join' if len(found) > 1 else 'Take'} {' and '.join(tables)}"
        if own and not is_late:
            why += f" and keep what fits: {self._said(own)}"
        if len(found) > 1:
            hint = "joined_rows"
        else:
            hint = "kept_rows" if self._is_view(found[0]) else f"{found[0].name}_rows"
        view = self._emit(hint, inner, f"{why}.", keep_names=True)
        for column in remaining:
            output = names[column.table, column.name]
            column.set("this", exp.to_identifier(output))
            column.set("table", exp.to_identifier(view))
        for item in select.expressions:
            if item.is_star:
                item.replace(exp.Star())
        select.set("from_", exp.From(this=_table(view)))
        if is_late:
            self._take_out_rows(select, apart=False)

    def _take_out_groups(self, select: exp.Select) -> None:
        """GROUP BY with all aggregates as a view; what is left selects, orders and cuts."""
        group = select.args.get("group")
        aggregates = [
            one for one in select.find_all(exp.AggFunc) if one.find_ancestor(exp.Select) is select
        ]
        if (group is None and (not aggregates or self._style.rows)) or _looks_out(select):
            return
        if any(item.is_star for item in select.expressions):
            return
        having = select.args.get("having")
        after = [*select.expressions, having, select.args.get("order")]
        pieces = [
            piece for clause in after if clause is not None for piece in _pieces(clause, select)
        ]
        keys = [] if group is None else [one for one in group.expressions if _is_column(one)]
        outputs: dict[str, str] = {}
        items: list[exp.Expr] = []
        for piece in (*keys, *pieces):
            text = _sql(piece)
            if text not in outputs:
                outputs[text] = _unused(_output_name(piece), set(outputs.values()))
                items.append(exp.alias_(piece.copy(), outputs[text]))
        view = self._unused_view(_group_name(keys))
        for piece in pieces:
            piece.replace(exp.column(outputs[_sql(piece)], table=view))
        inner = exp.Select(expressions=items)
        for key in ("from_", "joins", "where", "group"):
            inner.set(key, select.args.get(key))
            select.set(key, None)
        select.set("having", None)
        why = (
            f"For each {', '.join(_output_name(key) for key in keys)}" if keys else "Over all rows"
        )
        self._emit(view, inner, f"{why} what is asked for.", keep_names=True)
        select.set("from_", exp.From(this=_table(view)))
        if having is not None:
            select.set("where", exp.Where(this=having.this))
            if self._style.rows:
                self._take_out_rows(select, apart=False)

    # Names and views.

    def _emit(self, name: str, query: exp.Query, why: str, *, keep_names: bool = False) -> str:
        """Add a view; each of its columns gets a name of its own."""
        view = self._unused_view(name)
        first = query
        while isinstance(first, exp.SetOperation):
            first = first.this
        assert isinstance(first, exp.Select)
        names: list[str] = []
        for item in list(first.expressions):
            if item.is_star:
                names += self._outputs[sources(first)[0].name]
                continue
            wanted = item.output_name
            if not keep_names or not wanted:
                wanted = _output_name(item.unalias())
            names.append(_unused(wanted, set(names)))
            item.replace(exp.alias_(item.unalias().copy(), names[-1]))
        self._outputs[view] = names
        self._taken.add(view)
        self._views.append((view, query, why))
        return view

    def _unused_view(self, name: str) -> str:
        plain = "".join(one if one.isalnum() and one.isascii() else "_" for one in name)
        return _unused(f"v_{plain}" if plain[:1].isdigit() else plain, self._taken)

    def _some_of(self, source: exp.Expr) -> list[str]:
        return self._outputs[source.name][:1]

    def _some_columns(self, source: exp.Expr) -> list[exp.Expr]:
        """One column, where only the number of rows is asked for."""
        return [exp.column(one, table=source.alias_or_name) for one in self._some_of(source)]

    def _name_columns(
        self, columns: Iterable[exp.Column], found: Sequence[exp.Expr]
    ) -> dict[tuple[str, str], str]:
        """(table, column) to an output's name: the column's own, with its table where two clash."""
        keys = list(dict.fromkeys((column.table, column.name) for column in columns))
        tables = {source.alias_or_name: source.name for source in found}
        outputs: dict[tuple[str, str], str] = {}
        for table, name in keys:
            clashes = sum(other == name for _, other in keys) > 1
            wanted = f"{tables.get(table, table)}_{name}" if clashes else name
            outputs[table, name] = _unused(wanted, set(outputs.values()))
        return outputs

    def _said(self, conditions: Sequence[exp.Expr]) -> str:
        copies = [one.copy() for one in conditions]
        columns = [column for one in copies for column in _columns(one)]
        if len({column.table for column in columns}) == 1:
            for column in columns:
                column.set("table", None)
        return " and ".join(map(self._text, copies))

    def _text(self, node: exp.Expr) -> str:
        """SQL as a person writes it: the schema's spelling, and no names that say nothing."""
        for select in node.find_all(exp.Select):
            _tidy(select)
        for table in node.find_all(exp.Table):
            if table.alias == table.name:
                table.set("alias", None)
        for identifier in node.find_all(exp.Identifier):
            name = self._spelling.get(identifier.name.lower(), identifier.name)
            identifier.set("this", name)
            identifier.set("quoted", needs_quotes(name, "sqlite"))
        return _sql(node)


# Trees.


def _sql(node: exp.Expr) -> str:
    return _GENERATOR.generate(node)


def _table(name: str, alias: str = "") -> exp.Table:
    return exp.table_(name, alias=alias or name)


def _unused(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found.lower() in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _columns(node: exp.Expr) -> list[exp.Column]:
    return list(node.find_all(exp.Column))


def _is_one(limit: exp.Expr | None) -> bool:
    return isinstance(limit, exp.Limit) and limit.expression.name == "1"


def _is_column(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column)


def _owner(column: exp.Column) -> exp.Select | None:
    """The SELECT whose FROM has the column's table."""
    for select in selects_around(column):
        if any(source.alias_or_name == column.table for source in sources(select)):
            return select
    return None


def _is_inside(node: exp.Expr | None, whole: exp.Expr) -> bool:
    while node is not None and node is not whole:
        node = node.parent
    return node is not None


def _is_from_outside(column: exp.Column, query: exp.Expr) -> bool:
    """Whether a column inside a query belongs to a SELECT around it."""
    owner = _owner(column)
    return owner is not None and not _is_inside(owner, query)


def _looks_out(node: exp.Expr, query: exp.Expr | None = None) -> bool:
    """Whether a query, or a part of it, has a column that belongs to a SELECT around the query."""
    return any(_is_from_outside(column, query or node) for column in _columns(node))


def _owned_columns(select: exp.Select) -> list[exp.Column]:
    return [
        column for column in _columns(select) if not column.is_star and _owner(column) is select
    ]


def _inner_queries(select: exp.Select) -> Iterator[exp.Query]:
    """The queries right inside a SELECT."""

    def is_query(node: exp.Expr) -> bool:
        return node is not select and isinstance(node, exp.Select | exp.SetOperation)

    for node in select.walk(bfs=False, prune=is_query):
        if is_query(node):
            assert isinstance(node, exp.Query)
            yield node


def _pieces(clause: exp.Expr, select: exp.Select) -> list[exp.Expr]:
    """Aggregates and other columns of a SELECT in one of its clauses, the outermost ones."""

    def is_piece(node: exp.Expr) -> bool:
        if isinstance(node, exp.AggFunc):
            return node.find_ancestor(exp.Select) is select
        return isinstance(node, exp.Column) and _owner(node) is select

    return [node for node in clause.walk(bfs=False, prune=is_piece) if is_piece(node)]


def _conditions_of(select: exp.Select) -> tuple[list[exp.Expr], list[exp.Expr]]:
    """The conjuncts of WHERE: those of this query alone, and those that look outside."""
    where = select.args.get("where")
    own: list[exp.Expr] = []
    rest: list[exp.Expr] = []
    for conjunct in () if where is None else _conjuncts(where.this):
        (rest if _looks_out(conjunct, select) else own).append(conjunct)
    return own, rest


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    inner = node.unnest()
    if isinstance(inner, exp.And):
        yield from _conjuncts(inner.left)
        yield from _conjuncts(inner.right)
    else:
        yield node


def _set_where(select: exp.Select, conditions: Sequence[exp.Expr]) -> None:
    whole = exp.and_(*conditions, copy=False) if conditions else None
    select.set("where", None if whole is None else exp.Where(this=whole))


def _output_name(node: exp.Expr) -> str:
    """Example: age, num, num_name, avg_age, total_pages."""
    if isinstance(node, exp.Column):
        return node.name
    column = node.find(exp.Column)
    subject = "" if column is None else f"_{column.name}"
    if isinstance(node, exp.Count):
        return f"num{subject}"
    if isinstance(node, exp.Sum):
        return f"total{subject}"
    word = node.key if isinstance(node, exp.AggFunc) else "item"
    return f"{word}{subject}"


def _group_name(keys: Sequence[exp.Expr]) -> str:
    return f"by_{_output_name(keys[0])}" if keys else "totals"


def _tidy(select: exp.Select) -> None:
    """Leave out the names of tables where there is one, and `name AS name`."""
    for item in list(select.expressions):
        is_made = item.alias.startswith("_col_")
        if isinstance(item, exp.Alias) and (item.alias == item.this.name or is_made):
            item.replace(item.this)
    found = sources(select)
    if len(found) != 1:
        return
    own = [column for column in _columns(select) if column.table == found[0].alias_or_name]
    if all(column.find_ancestor(exp.Select) is select for column in own):
        for column in own:
            column.set("table", None)
        if isinstance(found[0], exp.Table):
            found[0].set("alias", None)
