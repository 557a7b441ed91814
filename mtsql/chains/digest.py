"""The digest of a view: what its rows and its query show, told in the same bytes to everybody.

All of it is computed: from the view's rows, from the chain, and by one or two queries (probes) over
the same tables. A probe that the database cannot answer within its limits gives no warning.

Example: a view over 5 sales of 2 shops, of which nobody has entered a price
    SELECT shop.name, sale.price FROM shop JOIN sale ON sale.shop_id = shop.id WHERE shop.id > 0
    {"columns": ["name", "price"], "rows": [["Apex", null], ...], "num_rows": 5, "more": true,
     "distinct": [2, 0], "null": [0, 1],
     "warnings": {"all_null": ["price"], "keeps_all": ["shop.id > 0"]}}
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from mtsql.chains.chain import Chain
from mtsql.chains.prefix import request_of
from mtsql.chains.probes import Probe, ViewWarning, WarningKind, probe_limits, probes
from mtsql.query.reading import parse_sql
from mtsql.schema import Schema
from mtsql.shown.harmless import to_json
from mtsql.shown.results import observe_result, preview_cell
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus, SqlExecutor

MAX_NAMED = 4
"""Of one kind of warning, so many are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewDigest:
    """What is known of the last view of a chain."""

    result: QueryResult
    """Of the chain up to the view; a failure is a digest, too."""
    num_distinct: tuple[int, ...] | None
    """Of each column, NULL not counted; None where not all rows are known."""
    num_null: tuple[int, ...] | None
    """The same for NULLs."""
    warnings: tuple[ViewWarning, ...]


async def digest_view(
    executor: SqlExecutor, db_id: str, chain: Chain, schema: Schema, limits: QueryLimits
) -> ViewDigest:
    """Run the chain and its probes, in one call, and tell what its last view shows."""
    asked = probes(chain, schema)
    bounds = probe_limits(limits)
    result, *answers = await executor.execute_many(
        [
            request_of(db_id, chain, limits),
            *(QueryRequest(db_id=db_id, sql=probe.sql, limits=bounds) for probe in asked),
        ]
    )
    return digest_of(chain, result, asked, answers)


def digest_of(
    chain: Chain, result: QueryResult, asked: Sequence[Probe], answers: Sequence[QueryResult]
) -> ViewDigest:
    """The digest of a chain's last view from what was run.

    Args:
        asked: the chain's `probes`, with their answers in order.
    """
    if result.status is not QueryStatus.OK:
        return ViewDigest(result=result, num_distinct=None, num_null=None, warnings=())
    warnings = [] if result.rows else [ViewWarning(kind=WarningKind.EMPTY)]
    num_distinct = num_null = None
    if not result.truncated:
        cells = list(zip(*result.rows, strict=True)) if result.rows else [()] * len(result.columns)
        num_distinct = tuple(len({*column} - {None}) for column in cells)
        num_null = tuple(sum(cell is None for cell in column) for column in cells)
        warnings += [
            ViewWarning(kind=WarningKind.ALL_NULL, about=name)
            for name, nulls in zip(result.columns, num_null, strict=True)
            if nulls and nulls == len(result.rows)
        ]
    for probe, answer in zip(asked, answers, strict=True):
        warnings += probe.warnings(answer)
    warnings += [ViewWarning(kind=WarningKind.UNUSED, about=name) for name in unused_views(chain)]
    return ViewDigest(
        result=result, num_distinct=num_distinct, num_null=num_null, warnings=tuple(warnings)
    )


def observe_digest(
    digest: ViewDigest, *, preview_rows: int, preview_cell_chars: int, preview_chars: int
) -> dict[str, object]:
    """The digest as JSON values: what `observe_result` shows, then what is known of the columns.

    Bounded as a preview is: only columns that are shown have figures, a warning is as long as a
    cell, and of each kind there are `MAX_NAMED`. Shares of NULL have two decimals, and only none
    and all are 0 and 1.
    """
    observation = observe_result(
        digest.result,
        preview_rows=preview_rows,
        preview_cell_chars=preview_cell_chars,
        preview_chars=preview_chars,
    )
    num_rows = len(digest.result.rows)
    shown: Any = observation.get("columns", ())
    if num_rows > 1 and digest.num_distinct is not None and digest.num_null is not None:
        observation["distinct"] = list(digest.num_distinct[: len(shown)])
        if any(nulls := digest.num_null[: len(shown)]):
            observation["null"] = [_share(number, num_rows) for number in nulls]
    named: dict[str, list[object]] = {}
    for warning in digest.warnings:
        if warning.about and len(found := named.setdefault(warning.kind, [])) < MAX_NAMED:
            found.append(preview_cell(warning.about, preview_cell_chars))
    # Emptiness is the result's own note.
    return observation | ({"warnings": named} if named else {})


def digest_text(
    digest: ViewDigest, *, preview_rows: int, preview_cell_chars: int, preview_chars: int
) -> str:
    """One line of harmless JSON; an observation that tells more begins with it."""
    return to_json(
        observe_digest(
            digest,
            preview_rows=preview_rows,
            preview_cell_chars=preview_cell_chars,
            preview_chars=preview_chars,
        )
    )


def unused_views(chain: Chain) -> list[str]:
    """Views before the last one that no view of the chain reads.

    A view that the parser cannot read may use all of them.
    """
    read: set[str] = set()
    for view in chain.views:
        tree = parse_sql(view.sql)
        if tree is None:
            return []
        read |= {table.name.lower() for table in tree.find_all(exp.Table)}
    return [view.name for view in chain.views[:-1] if view.name.lower() not in read]


def _share(number: int, total: int) -> float:
    if number in (0, total):
        return number // total
    return min(0.99, max(0.01, round(number / total, 2)))
