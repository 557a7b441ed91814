"""The truth of a view: can gold's result still be computed from where a chain stands?

A completion reads the chain's open views (its last one, and those that nothing has passed on row
by row), tables whose rows no view has passed on as often as gold reads them, and by their key other
columns of rows that a view still holds.

sufficient    proven by a completion: the view stands for an intermediate result of gold, and what
              follows gives gold's result, here and in each world (`mtsql.chains.worlds`), some of
              which change gold's result
insufficient  proven by a pair of worlds: the same rows in every open view, other rows of gold; no
              completion can tell them apart
unknown       neither is proven; nothing is paid for it

No text is compared with another. Rows that a look at this database cannot tell apart are no proof,
so that luck (a lost condition that nothing fails, an empty database) ends in unknown.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, product

from cachetools import LRUCache
from sqlglot import exp

from mtsql.chains.chain import Chain, View, name_in_sql
from mtsql.chains.decompose import chains_of
from mtsql.chains.reading import ChainError, read_chain
from mtsql.chains.worlds import World, in_world, worlds_of
from mtsql.evaluation.ex.match import ResultRows, needs_order, strict_match
from mtsql.evaluation.golds import cut_ties
from mtsql.per_object import PerObject
from mtsql.query.reading import parse_sql
from mtsql.schema import Schema
from mtsql.sql.quoting import quote_name
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus, SqlExecutor

MAX_COMPLETIONS = 12
MAX_MAPPINGS = 8
"""Ways to find the columns of an intermediate result in a view."""
MAX_REMEMBERED = 16_384
_INPUT = "view_in_place"


class Truth(StrEnum):
    SUFFICIENT = "sufficient"
    INSUFFICIENT = "insufficient"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewTruth:
    truth: Truth
    proof: str = ""
    """Of sufficient: the completion, one WITH query. Of insufficient: the tables that hide stored
    ones, `NAME AS (QUERY)`. Of unknown: why."""


async def view_truth(
    executor: SqlExecutor,
    db_id: str,
    chain: Chain,
    gold_sql: str,
    schema: Schema,
    *,
    limits: QueryLimits,
) -> ViewTruth:
    """The truth of a chain's last view; what an executor has found out is remembered.

    Args:
        chain: up to the view.
        gold_sql: a query of which `mtsql.chains.decompose` knows intermediate results.
    """
    known, key = _REMEMBERED.of(executor), (db_id, chain, gold_sql, limits)
    truth = known.get(key)
    if truth is None:
        try:
            truth = await _find_truth(executor, db_id, chain, gold_sql, schema, limits)
        except _NotRunError:
            return _unknown("gold or a view fails or has too many rows")
        known[key] = truth
    return truth


class _NotRunError(Exception):
    """Gold or a view, perhaps only this time."""


async def _find_truth(
    executor: SqlExecutor,
    db_id: str,
    chain: Chain,
    gold_sql: str,
    schema: Schema,
    limits: QueryLimits,
) -> ViewTruth:
    try:
        whole = [Chain((View(name="result", sql=gold_sql),))]
        completed = [*_chains(gold_sql, schema), *whole]
        reads, gold_reads = _reads([view.sql for view in chain.views]), _reads([gold_sql])
    except ChainError as error:
        return _unknown(str(error))
    if schema.engine != "sqlite":
        return _unknown("worlds are made for SQLite only")
    if any(name.startswith("main.") for name in reads):
        return _unknown("a view names the database of its table")
    views = [chain.prefix(place + 1).sql for place in _open_places(chain)]
    run = _Runner(executor, db_id, limits)
    gold, *found = await run([gold_sql, *views])
    if not _is_whole(gold) or not all(map(_is_whole, found)):
        raise _NotRunError
    if (await cut_ties(executor, [(db_id, gold_sql)], limits))[0]:
        return _unknown("gold's LIMIT cuts a tie")
    hidden = [name for name in gold_reads if name in reads]
    names = _names([gold_sql, *views])
    worlds = await worlds_of(executor, db_id, schema, hidden, names, limits, others=reads)
    golds = await run.in_worlds(worlds, gold_sql)
    passed = _reads([view.sql for view in chain.views if _passes_rows(view)])
    covered = {name for name in reads if passed[name] >= gold_reads[name]}
    held = {name.lower() for result in found for name in result.columns} | _outputs(views)
    keyed = {
        table.name.lower()
        for table in schema.tables
        if any(one.is_primary for one in table.columns)
        and all(one.name.lower() in held for one in table.columns if one.is_primary)
    }
    mine = [
        world
        for world in worlds
        if all(
            (name := change.table.name.lower()) in covered
            and (change.changes_rows or name not in keyed)
            for change in world
        )
    ]
    if world := await _witness(run, mine, golds, views, found, gold):
        tables = [change.table for change in world]
        return ViewTruth(
            truth=Truth.INSUFFICIENT,
            proof=", ".join(f"{name_in_sql(one.name)} AS ({one.sql})" for one in tables),
        )
    changes = [world for world in worlds if _differ(golds.get(world), gold)]
    if not changes:
        return _unknown("no small change of the tables changes gold's result")
    is_ordered = needs_order(gold_sql)
    for completion in await _completions(run, chain, found[-1], completed):
        if await _holds(run, completion, gold, golds, ordered=is_ordered):
            return ViewTruth(truth=Truth.SUFFICIENT, proof=completion)
    return _unknown("no completion is known, and no pair of worlds")


def _new(_executor: SqlExecutor) -> "LRUCache[tuple[Hashable, ...], ViewTruth]":
    return LRUCache(MAX_REMEMBERED)


_REMEMBERED: PerObject[SqlExecutor, "LRUCache[tuple[Hashable, ...], ViewTruth]"] = PerObject(_new)


def _unknown(why: str) -> ViewTruth:
    return ViewTruth(truth=Truth.UNKNOWN, proof=why)


def _chains(sql: str, schema: Schema) -> list[Chain]:
    try:
        return chains_of(sql, schema)
    except ChainError:
        return [read_chain(sql)]


class _Runner:
    def __init__(self, executor: SqlExecutor, db_id: str, limits: QueryLimits) -> None:
        self._executor, self._db_id, self._limits = executor, db_id, limits

    async def __call__(self, texts: Sequence[str]) -> list[QueryResult]:
        return await self._executor.execute_many(
            [QueryRequest(db_id=self._db_id, sql=sql, limits=self._limits) for sql in texts]
        )

    async def in_worlds(self, worlds: Sequence[World], sql: str) -> dict[World, QueryResult]:
        """Results in the changed worlds, of those whose unchanged form gives what is stored."""
        stored, *results = await self(
            [
                sql,
                *(in_world([change.table for change in world], sql) for world in worlds),
                *(in_world([change.same for change in world], sql) for world in worlds),
            ]
        )
        changed, same = results[: len(worlds)], results[len(worlds) :]
        return {
            world: one
            for world, one, control in zip(worlds, changed, same, strict=True)
            if _is_whole(one) and _agree(control, stored, ordered=needs_order(sql))
        }


async def _witness(
    run: _Runner,
    worlds: Sequence[World],
    golds: Mapping[World, QueryResult],
    views: Sequence[str],
    stored: Sequence[QueryResult],
    gold: QueryResult,
) -> World | None:
    """A world with the same rows in all open views and other rows of gold."""
    left = [world for world in worlds if _differ(golds.get(world), gold)]
    for sql, rows in zip(views, stored, strict=True):
        seen = await run.in_worlds(left, sql)
        left = [one for one in left if one in seen and _agree(seen[one], rows, ordered=False)]
    return left[0] if left else None


async def _holds(
    run: _Runner,
    completion: str,
    gold: QueryResult,
    golds: Mapping[World, QueryResult],
    *,
    ordered: bool,
) -> bool:
    """Whether a completion gives gold's rows, here and in all worlds."""
    worlds = list(golds)
    here, *found = await run(
        [
            completion,
            *(in_world([change.table for change in world], completion) for world in worlds),
        ]
    )
    return _agree(here, gold, ordered=ordered) and all(
        _agree(one, golds[world], ordered=ordered) for world, one in zip(worlds, found, strict=True)
    )


async def _completions(
    run: _Runner, chain: Chain, rows: QueryResult, decompositions: Sequence[Chain]
) -> list[str]:
    """Queries that go on from the chain's last view as from an intermediate result of gold.

    Args:
        rows: of the chain's last view.
    """
    steps = [
        (whole, place) for whole in decompositions for place in reversed(range(len(whole.views)))
    ]
    results = await run([whole.prefix(place + 1).sql for whole, place in steps])
    found: dict[str, None] = {}
    for (whole, place), wanted in zip(steps, results, strict=True):
        if not _is_whole(wanted):
            continue
        for mapping in _mappings(rows, wanted):
            found[_completed(chain, whole, place, mapping, rows, wanted)] = None
    return list(found)[:MAX_COMPLETIONS]


def _completed(
    chain: Chain,
    whole: Chain,
    place: int,
    mapping: Sequence[int],
    rows: QueryResult,
    wanted: QueryResult,
) -> str:
    """The chain, its last view in another's place, and the views after that one."""
    pairs = [
        f"{quote_name(rows.columns[own])} AS {quote_name(name)}"
        for own, name in zip(mapping, wanted.columns, strict=True)
    ]
    taken = f"SELECT {', '.join(pairs)} FROM {name_in_sql(chain.views[-1].name)}"
    # Inner names hide the outer ones, so that views of both chains may share theirs.
    inner = Chain(
        (
            *whole.views[:place],
            View(name=whole.views[place].name, sql=f"SELECT * FROM {_INPUT}"),
            *whole.views[place + 1 :],
        )
    ).sql
    return Chain(
        (
            *chain.views,
            View(name=_INPUT, sql=taken),
            View(name="result", sql=f"SELECT * FROM ({inner}\n)"),
        )
    ).sql


def _mappings(rows: QueryResult, wanted: QueryResult) -> Iterator[tuple[int, ...]]:
    """For each wanted column one of the view's with the same values, a namesake first; all together
    give the wanted rows as a bag."""
    if len(rows.rows) != len(wanted.rows) or not rows.columns or not rows.rows:
        return
    if len(set(rows.columns)) < len(rows.columns):
        return
    own = [Counter(map(repr, column)) for column in zip(*rows.rows, strict=True)]
    options: list[list[int]] = []
    for name, column in zip(wanted.columns, zip(*wanted.rows, strict=True), strict=True):
        bag = Counter(map(repr, column))
        fitting = [place for place, other in enumerate(own) if other == bag]
        options.append(
            sorted(fitting, key=lambda place: rows.columns[place].lower() != name.lower())
        )
    for mapping in islice(product(*options), MAX_MAPPINGS):
        cells = tuple(tuple(row[place] for place in mapping) for row in rows.rows)
        if Counter(map(repr, cells)) == Counter(map(repr, wanted.rows)):
            yield mapping


def _is_whole(result: QueryResult) -> bool:
    return result.status is QueryStatus.OK and not result.truncated


def _agree(one: QueryResult, other: QueryResult, *, ordered: bool) -> bool:
    return (
        _is_whole(one)
        and _is_whole(other)
        and strict_match(ResultRows(one), ResultRows(other), ordered=ordered)
    )


def _differ(one: QueryResult | None, other: QueryResult) -> bool:
    return one is not None and not _agree(one, other, ordered=False)


def _open_places(chain: Chain) -> list[int]:
    """The last view, and all that are not passed on, row by row, to a later one.

    A view that groups or counts the rows of another takes nothing away from it: its result may be
    compared with these rows again.
    """
    passed = _reads([view.sql for view in chain.views if _passes_rows(view)])
    last = len(chain.views) - 1
    return [
        place
        for place, view in enumerate(chain.views)
        if place == last or view.name.lower() not in passed
    ]


def _passes_rows(view: View) -> bool:
    """It filters, joins and cuts columns off, and nothing else."""
    tree = parse_sql(view.sql)
    return (
        isinstance(tree, exp.Select)
        and not any(tree.args.get(key) for key in ("group", "distinct", "limit", "with_"))
        and tree.find(exp.AggFunc) is None
        and all(select is tree for select in tree.find_all(exp.Select))
    )


def _outputs(texts: Sequence[str]) -> set[str]:
    """Columns that a query returns, by the names that they have in it."""
    trees = [tree for sql in texts if isinstance(tree := parse_sql(sql), exp.Select)]
    items = [item.unalias() for tree in trees for item in tree.expressions]
    return {item.name.lower() for item in items if isinstance(item, exp.Column)}


def _reads(texts: Sequence[str]) -> Counter[str]:
    """How often each table is read, by its name in lower case.

    Raises:
        ChainError: a text cannot be read.
    """
    found: Counter[str] = Counter()
    for sql in texts:
        tree = parse_sql(sql)
        if tree is None:
            raise ChainError("a query cannot be read")
        for table in tree.find_all(exp.Table):
            found[f"main.{table.name}" if table.db else table.name.lower()] += 1
    return found


def _names(texts: Sequence[str]) -> set[str]:
    trees = [tree for sql in texts if (tree := parse_sql(sql)) is not None]
    return {one.name.lower() for tree in trees for one in tree.find_all(exp.Identifier)}
