"""Names and texts as they stand in SQL."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a pool's template loads this file, and pydantic would double its start
    from mtsql.schema import EngineName, Table


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RESERVED: "Mapping[EngineName, frozenset[str]]" = {
    "sqlite": _words(
        """
        add all alter and as autoincrement between case cast check collate commit constraint
        create current_date current_time current_timestamp default deferrable delete distinct
        drop else escape except exists foreign from group having in index insert intersect into
        is isnull join limit not nothing notnull null on or order primary raise references
        returning select set table then to transaction union unique update using values when
        where with
        """
    ),
    "duckdb": _words(
        """
        all analyse analyze and anti any array as asc asof asymmetric at authorization binary
        both by case cast check collate collation column columns concurrently constraint create
        cross default deferrable desc describe distinct do else end except false fetch for
        foreign freeze from full generated glob group having ilike in initially inner intersect
        into is isnull join lambda lateral leading left like limit map natural not notnull null
        offset on only or order outer overlaps pivot pivot_longer pivot_wider placing positional
        primary qualify references returning right select semi show similar some struct
        summarize symmetric table tablesample then to trailing true try_cast tuple union unique
        unpack unpivot using variadic verbose when where window with
        """
    ),
    "postgresql": _words(
        """
        all analyse analyze and any array as asc asymmetric authorization between bigint binary
        bit boolean both case cast char character check coalesce collate collation column
        concurrently constraint create cross current_catalog current_date current_role
        current_schema current_time current_timestamp current_user dec decimal default
        deferrable desc distinct do else end except exists extract false fetch float for foreign
        freeze from full grant greatest group grouping having ilike in initially inner inout int
        integer intersect interval into is isnull join lateral leading least left like limit
        localtime localtimestamp national natural nchar none normalize not notnull null nullif
        numeric offset on only or order out outer overlaps overlay placing position precision
        primary real references returning right row select session_user setof similar smallint
        some substring symmetric table tablesample then time timestamp to trailing treat trim
        true union unique user using values varchar variadic verbose when where window with
        xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi
        xmlroot xmlserialize xmltable
        """
    ),
}
"""Words that stand for no table or column without quotes. PostgreSQL's own quote_ident quotes
these, which is more than it needs."""
_BARE: "Mapping[EngineName, re.Pattern[str]]" = {
    "sqlite": re.compile(r"[^\W\d][\w$]*"),
    "duckdb": re.compile(r"[A-Za-z_]\w*", re.ASCII),
    "postgresql": re.compile(r"[a-z_][a-z0-9_]*"),  # it folds a name without quotes to lower case
}


def needs_quotes(name: str, engine: "EngineName") -> bool:
    """Whether an engine reads the name as another one, or not at all, when it stands alone.

    An engine that we do not know is taken for SQLite.
    """
    known: EngineName = "sqlite" if engine == "other" else engine
    return not _BARE[known].fullmatch(name) or name.lower() in _RESERVED[known]


def quote_name(name: str) -> str:
    """A name of any characters: `shop "A" id` is `"shop ""A"" id"`."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as a literal: `St John's` is `'St John''s'`."""
    return "'" + text.replace("'", "''") + "'"


def qualified(table: "Table") -> str:
    """A table's name in quotes, with its schema where it needs one: `"sales"."order"`."""
    name = quote_name(table.name)
    return f"{quote_name(table.namespace)}.{name}" if table.namespace else name
