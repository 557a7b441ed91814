"""The truth of views that are edited by rules, each of which says what the truth is.

A sample of what these rules make of the embedded golds.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from sqlglot import exp

from mtsql.chains.chain import Chain
from mtsql.chains.decompose import chains_of
from mtsql.chains.reading import ChainError
from mtsql.chains.truth import Truth, view_truth
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.embedded import generate
from mtsql.mistakes.views import fan_out_join
from mtsql.query.reading import SQLITE, parse_sql
from mtsql.query.scopes import sources
from mtsql.schema import Schema
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits

NUM_EDITS = 24
Edit = tuple[str, str, Chain, str, Truth]
"""Rule, database, chain, gold and truth."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("edits") / "data"
    generate(out, seed=5, num_train=12, num_valid=1, num_test=1, num_test_ood=1)
    return load_dataset(out)


def edits(dataset: Dataset, *, seed: int) -> list[Edit]:
    """All edits of one view of one chain of each gold, in an order of chance."""
    rng = Random(seed)
    found: list[Edit] = []
    golds = dict.fromkeys(
        (dialogue.db_id, turn.gold_sql)
        for dialogue in dataset.splits["train"]
        for turn in dialogue.turns
    )
    for db_id, gold in golds:
        schema = dataset.schemas[db_id]
        try:
            chain = rng.choice(chains_of(gold, schema))
        except ChainError:
            continue
        prefix = chain.prefix(rng.randrange(1, len(chain.views)))
        later = " ".join(view.sql for view in chain.views[len(prefix.views) :])
        for rule, sql, truth in edited(prefix.views[-1].sql, later, gold, schema, rng):
            last = replace(prefix.views[-1], sql=sql)
            found.append((rule, db_id, prefix.replace_last(last), gold, truth))
    rng.shuffle(found)
    return found


def edited(
    sql: str, later: str, gold: str, schema: Schema, rng: Random
) -> Iterator[tuple[str, str, Truth]]:
    """Rule, view and truth.

    Args:
        later: what reads the view.
    """
    yield "as it is", sql, Truth.SUFFICIENT
    tree = parse_sql(sql)
    if not isinstance(tree, exp.Select) or tree.find(exp.AggFunc, exp.Star, exp.Subquery):
        return
    if any(tree.args.get(key) for key in ("group", "distinct", "limit", "order")):
        return
    outputs = [item.alias_or_name for item in tree.expressions]
    keys = {c.name.lower() for table in schema.tables for c in table.columns if c.is_primary}
    has_key = any(item.unalias().name.lower() in keys for item in tree.expressions)
    names = [f"{item.unalias().sql(SQLITE)} AS x{n}" for n, item in enumerate(tree.expressions)]
    renamed = tree.copy()
    renamed.set("expressions", [exp.maybe_parse(name, dialect=SQLITE) for name in names])
    yield "other names", renamed.sql(SQLITE), Truth.SUFFICIENT
    tables = {table.name.lower(): table for table in schema.tables}
    source = sources(tree)[0]
    if table := tables.get(source.name.lower()):
        for column in table.columns:
            if column.is_primary and "extra" not in outputs:
                more = exp.column(column.name, table=source.alias_or_name)
                longer = tree.copy().select(exp.alias_(more, "extra"))
                yield "a column too many", longer.sql(SQLITE), Truth.SUFFICIENT
    if all(source.name.lower() in tables for source in sources(tree)):
        yield "no rows", tree.copy().where("1 = 0").sql(SQLITE), Truth.INSUFFICIENT
    needed = [place for place, name in enumerate(outputs) if name in later]
    if not has_key and len(outputs) > 1 and needed:
        shorter = tree.copy()
        shorter.expressions.pop(rng.choice(needed))
        yield "a column is lost", shorter.sql(SQLITE), Truth.INSUFFICIENT
    where = tree.args.get("where")
    if where is not None:
        open_ = tree.copy()
        open_.set("where", None)
        asked = {column.name for column in where.find_all(exp.Column)}
        if not asked & set(outputs) and not has_key:
            yield "a filter is lost", open_.sql(SQLITE), Truth.INSUFFICIENT
        kept = [column.copy() for column in where.find_all(exp.Column) if column.name in asked]
        kept = [column for column in kept if column.name not in outputs]
        if len({column.name for column in kept}) == len(kept):
            late = open_.select(*kept)
            yield "a filter is still to come", late.sql(SQLITE), Truth.SUFFICIENT
    adds_up = "count(*)" in gold.lower() or "sum(" in gold.lower()
    if adds_up and not has_key and "distinct" not in gold.lower():
        wide = fan_out_join(sql, schema, rng)
        if wide is not None:
            yield "rows are repeated", wide, Truth.INSUFFICIENT


def judged(dataset: Dataset, some: list[Edit]) -> list[Truth]:
    async def run() -> list[Truth]:
        async with LocalPool(dataset.databases, num_workers=1) as pool:
            return [
                (
                    await view_truth(
                        pool, db_id, chain, gold, dataset.schemas[db_id], limits=QueryLimits()
                    )
                ).truth
                for _, db_id, chain, gold, _ in some
            ]

    return asyncio.run(run())


def test_no_truth_is_wrong(dataset: Dataset) -> None:
    some = edits(dataset, seed=1)[:NUM_EDITS]
    found = judged(dataset, some)
    wrong = [
        (rule, chain.sql, gold, truth)
        for (rule, _, chain, gold, meant), truth in zip(some, found, strict=True)
        if truth not in (meant, Truth.UNKNOWN)
    ]
    assert wrong == []
    assert len({rule for rule, *_ in some}) >= 6
    # What is proven is most of it.
    assert Counter(found)[Truth.UNKNOWN] < len(some) / 2
