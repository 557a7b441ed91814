"""What is asked of a database about a view: does a join repeat rows, does a condition exclude any.

A probe is one query over the view's own sources, which answers with one row of counts.

    view     SELECT shop.name FROM shop JOIN sale ON sale.shop_id = shop.id WHERE sale.price > 0
    probes   how many shops are there in the join, and how many rows of it hold one
             how many rows has the join without the condition, and how many with it
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from mtsql.chains.chain import Chain, View
from mtsql.query.names import names_of
from mtsql.query.scopes import sources
from mtsql.schema import EngineName, Schema
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus

MAX_SOURCES = 6
"""Of a join, to be looked at for fan-out."""
PROBE_VM_STEPS = 5_000_000
"""About 60 ms of SQLite's work; a probe that needs more gives no warning."""
_DIALECTS: dict[EngineName, str] = {"duckdb": "duckdb", "postgresql": "postgres"}
_ROW_IDS: dict[EngineName, str] = {"duckdb": "rowid", "postgresql": "ctid"}
_JOINED, _COUNTED = "mtsql_joined", "mtsql_counted"


class WarningKind(StrEnum):
    EMPTY = "empty"
    """The view has no rows."""
    FAN_OUT = "fan_out"
    """A join repeats rows of the tables that the view shows or adds up."""
    ALL_NULL = "all_null"
    """A column holds nothing but NULL."""
    UNUSED = "unused"
    """No view up to this one reads an earlier view."""
    KEEPS_ALL = "keeps_all"
    """A condition excludes no row that the other conditions leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewWarning:
    kind: WarningKind
    about: str = ""
    """A column, a view, a condition, or `shop: 2 rows become 5`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One query about a view, and what its one row of counts says.

    For each label there are two counts, (before, after). FAN_OUT: different rows, and rows of the
    join. KEEPS_ALL: rows that pass all other conditions, and those that pass this one as well.
    """

    kind: WarningKind
    sql: str
    labels: tuple[str, ...]

    def warnings(self, result: QueryResult) -> list[ViewWarning]:
        if result.status is not QueryStatus.OK or len(result.rows) != 1:
            return []
        counts = [value if isinstance(value, int) else 0 for value in result.rows[0]]
        pairs = zip(self.labels, counts[::2], counts[1::2], strict=True)
        if self.kind is WarningKind.KEEPS_ALL:
            return [
                self._say(label) for label, before, after in pairs if before and before == after
            ]
        # The first is about what the view shows, the others about each source alone: where all of
        # them repeat, two tables multiply each other.
        (label, before, after), *others = list(pairs)
        if before < after:
            return [self._say(f"{label}: {before} rows become {after}")]
        if others and all(few < many for _, few, many in others):
            return [self._say(f"{name}: {few} rows become {many}") for name, few, many in others]
        return []

    def _say(self, about: str) -> ViewWarning:
        return ViewWarning(kind=self.kind, about=about)


def probe_limits(limits: QueryLimits) -> QueryLimits:
    """Less work than the view may take; the clock stays, as it must not decide what is shown."""
    return replace(limits, max_vm_steps=min(limits.max_vm_steps, PROBE_VM_STEPS))


@lru_cache(maxsize=4096)
def probes(chain: Chain, schema: Schema) -> tuple[Probe, ...]:
    """What to ask about the last view of a chain; nothing of a view that is no plain SELECT."""
    dialect = _DIALECTS.get(schema.engine, "sqlite")
    select = _tree(chain.views[-1].sql, dialect)
    if not isinstance(select, exp.Select) or select.args.get("with_"):
        return ()
    found = sources(select)
    if not found or any(select.args.get(name) for name in ("laterals", "qualify", "windows")):
        return ()
    asked = (
        _fan_out(chain, schema, select, dialect) if 1 < len(found) <= MAX_SOURCES else None,
        _keeps_all(chain, select, dialect),
    )
    return tuple(probe for probe in asked if probe is not None)


def _tree(sql: str, dialect: str) -> exp.Expr | None:
    try:
        return sqlglot.parse_one(sql, dialect=dialect)
    except (SqlglotError, RecursionError):
        return None


def _fan_out(chain: Chain, schema: Schema, select: exp.Select, dialect: str) -> Probe | None:
    """Which rows of which source stand in each row of the join, counted."""
    aliases = [source.alias_or_name for source in sources(select)]
    if len({alias.lower() for alias in aliases}) < len(aliases):
        return None
    shown = _shown_sources(select, schema, aliases)
    if not shown:
        return None
    joined = _without_outputs(select)
    tables = {table.name.lower() for table in schema.tables} - {
        view.name.lower() for view in chain.views[:-1]
    }
    row_id = _ROW_IDS.get(schema.engine, "rowid")
    for number, source in enumerate(sources(joined)):
        name = row_id
        if not isinstance(source, exp.Table) or source.name.lower() not in tables:
            name = f"mtsql_row{number}"
            source.replace(_numbered(source, name, dialect))
        column = exp.column(
            exp.to_identifier(name), exp.to_identifier(aliases[number], quoted=True)
        )
        joined.select(exp.alias_(column, f"r{number}"), copy=False)
    groups = [shown, *((number,) for number in range(len(aliases)) if len(aliases) > 1)]
    counts: list[str] = []
    for group in groups:
        names = [f"r{number}" for number in group]
        known = " AND ".join(f"{name} IS NOT NULL" for name in names)
        different = f"SELECT DISTINCT {', '.join(names)} FROM {_JOINED} WHERE {known}"
        counts.append(f"(SELECT count(*) FROM ({different}) AS d)")
        counts.append(f"(SELECT count(*) FROM {_JOINED} WHERE {known})")
    labels = tuple(", ".join(aliases[number] for number in group) for group in groups)
    sql = _counting(chain, joined.sql(dialect), f"SELECT {', '.join(counts)}")
    return Probe(kind=WarningKind.FAN_OUT, sql=sql, labels=labels)


def _shown_sources(
    select: exp.Select, schema: Schema, aliases: Sequence[str]
) -> tuple[int, ...] | None:
    """Sources whose repeated rows would change what the view shows; () and None: none, unknown.

    Those of the columns in SELECT; where rows are grouped, those of the columns that are counted or
    added up. DISTINCT, min and max do not care.
    """
    everything = tuple(range(len(aliases)))
    if select.args.get("distinct"):
        return ()
    items: list[exp.Expr] = list(select.expressions)
    is_grouped = bool(select.args.get("group")) or any(one.find(exp.AggFunc) for one in items)
    if is_grouped:
        items = [
            one.this
            for item in items
            for one in item.find_all(exp.Count, exp.Sum, exp.Avg, exp.GroupConcat)
            if one.this is not None and not isinstance(one.this, exp.Distinct)
        ]
        if any(not item.find(exp.Column) or item.is_star for item in items):
            return everything
    if any(isinstance(item, exp.Star) for item in items):
        return everything
    names = names_of(schema)
    tables = [source.name.lower() for source in sources(select)]
    lower = [alias.lower() for alias in aliases]
    shown: set[int] = set()
    for column in (one for item in items for one in item.find_all(exp.Column)):
        if column.table:
            owners = [number for number in everything if lower[number] == column.table.lower()]
        else:
            known = names.tables_by_column.get(column.name.lower(), frozenset())
            owners = [number for number in everything if tables[number] in known]
        if len(owners) != 1:
            return None
        shown.add(owners[0])
    return tuple(sorted(shown))


def _numbered(source: exp.Expr, name: str, dialect: str) -> exp.Expr:
    """The source with a number for each of its rows."""
    inner = source.copy()
    inner.set("alias", None)
    inner.set("joins", None)
    text = f"{inner.sql(dialect)} AS mtsql_source"
    numbered = sqlglot.parse_one(
        f"SELECT *, row_number() OVER () AS {name} FROM {text}", dialect=dialect
    )
    assert isinstance(numbered, exp.Query)
    return numbered.subquery(alias=exp.to_identifier(source.alias_or_name, quoted=True))


def _keeps_all(chain: Chain, select: exp.Select, dialect: str) -> Probe | None:
    """Which conditions hold in each row, counted; those that join two sources are none."""
    where = select.args.get("where")
    if where is None:
        return None
    condition = where.this.unnest()
    parts = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
    joins = [one for one in parts if _is_join(one)]
    filters = [one for one in parts if not _is_join(one)]
    if not filters:
        return None
    joined = _without_outputs(select)
    joined.set("where", exp.Where(this=exp.and_(*joins, dialect=dialect)) if joins else None)
    for number, one in enumerate(filters):
        flag = exp.case().when(one.copy(), exp.Literal.number(1)).else_(exp.Literal.number(0))
        joined.select(exp.alias_(flag, f"f{number}"), copy=False)
    flags = [f"f{number}" for number in range(len(filters))]
    counts: list[str] = []
    for flag in flags:
        others = " * ".join(one for one in flags if one != flag) or "1"
        counts += [f"CAST(sum({others}) AS INTEGER)", f"CAST(sum({' * '.join(flags)}) AS INTEGER)"]
    sql = _counting(chain, joined.sql(dialect), f"SELECT {', '.join(counts)} FROM {_JOINED}")
    labels = tuple(one.sql(dialect) for one in filters)
    return Probe(kind=WarningKind.KEEPS_ALL, sql=sql, labels=labels)


def _is_join(condition: exp.Expr) -> bool:
    """It may compare columns of two sources: without it the probe could meet a cross join."""
    if not isinstance(condition, exp.EQ):
        return False
    one, other = condition.this, condition.expression
    if not isinstance(one, exp.Column) or not isinstance(other, exp.Column):
        return False
    return not one.table or one.table.lower() != other.table.lower()


def _without_outputs(select: exp.Select) -> exp.Select:
    """Sources and conditions of a SELECT."""
    copied = select.copy()
    kept: dict[str, Any] = {name: copied.args.get(name) for name in ("from_", "joins", "where")}
    return exp.Select(**kept)


def _counting(chain: Chain, joined: str, counted: str) -> str:
    views = (View(name=_JOINED, sql=joined), View(name=_COUNTED, sql=counted))
    return Chain((*chain.views[:-1], *views)).sql
