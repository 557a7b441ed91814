"""Chains read back from WITH queries: their views, and the same rows."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.places import real_data
from mtsql.chains.chain import Chain, View
from mtsql.chains.reading import ChainError, read_chain
from mtsql.data.databases import find_databases
from mtsql.sql.pool import LocalPool
from mtsql.sql.quoting import quote_name
from mtsql.sql.records import QueryRequest, QueryResult, QueryStatus


def views(sql):
    return [(view.name, view.sql) for view in read_chain(sql).views]


def rows(sql):
    return sqlite3.connect(":memory:").execute(sql).fetchall()


def test_a_query_without_with_is_a_chain_of_one_view():
    assert views("SELECT 1 ;; -- done") == [("result", "SELECT 1")]
    assert views("SELECT result FROM t") == [("result_2", "SELECT result FROM t")]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (
            "WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b",
            [("a", "SELECT 1"), ("b", "SELECT * FROM a"), ("result", "SELECT * FROM b")],
        ),
        (
            'WITH a(x, "y z") AS (SELECT 1, 2) SELECT x FROM a',
            [
                ("a", 'WITH a(x, "y z") AS (SELECT 1, 2) SELECT * FROM a'),
                ("result", "SELECT x FROM a"),
            ],
        ),
        (
            'WITH "my a" AS MATERIALIZED (SELECT 1), [b;] AS NOT MATERIALIZED (SELECT 2) '
            'SELECT * FROM "my a", [b;];',
            [("my a", "SELECT 1"), ("b;", "SELECT 2"), ("result", 'SELECT * FROM "my a", [b;]')],
        ),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
            "SELECT sum(i) FROM n",
            [
                (
                    "n",
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
                    "SELECT * FROM n",
                ),
                ("result", "SELECT sum(i) FROM n"),
            ],
        ),
        (
            "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
            [("b", "SELECT 1"), ("a", "SELECT * FROM b"), ("result", "SELECT * FROM a")],
        ),
        (
            "WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b) SELECT * FROM a",
            [("a", "WITH b AS (SELECT 1) SELECT * FROM b"), ("result", "SELECT * FROM a")],
        ),
        (
            "/* 1 */ WITH a AS -- (\n (SELECT ';)' /* ) */ -- )\n) /* , */ SELECT * FROM a -- ;",
            [("a", "SELECT ';)' /* ) */ -- )"), ("result", "SELECT * FROM a")],
        ),
        (
            "WITH 店 AS (SELECT '東京; -- )' AS 市) SELECT 市 FROM 店 UNION SELECT 'Ö''; '",
            [
                ("店", "SELECT '東京; -- )' AS 市"),
                ("result", "SELECT 市 FROM 店 UNION SELECT 'Ö''; '"),
            ],
        ),
        (
            "WITH a AS (SELECT 1) SELECT * FROM (WITH a AS (SELECT 5) SELECT * FROM a), a",
            [
                ("a", "SELECT 1"),
                ("result", "SELECT * FROM (WITH a AS (SELECT 5) SELECT * FROM a), a"),
            ],
        ),
        (
            'WITH "order" AS (SELECT 1) SELECT * FROM "order"',
            [("order", "SELECT 1"), ("result", 'SELECT * FROM "order"')],
        ),
    ],
)
def test_the_views_of_a_with_query(sql, found):
    # the tables that a query of this list reads are its own views, so that it runs anywhere
    assert views(sql) == found
    assert rows(read_chain(sql).sql) == rows(sql.rstrip(";"))
    assert read_chain(read_chain(sql).sql) == read_chain(sql)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "there is no query"),
        (" ; -- nothing", "there is no query"),
        ("SELECT 'open", "does not end"),
        ("WITH a AS (SELECT 1 /* open) SELECT 2", "does not end"),
        ("SELECT 1; SELECT 2", "not one query"),
        ("DROP TABLE shop", "not one query"),
        ("WITH a AS (SELECT 1)", "not one query"),
        ("what about shops", "not one query"),
        ("WITH a AS (SELECT 1), A AS (SELECT 2) SELECT 3", "two views are called A"),
        (
            "WITH a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT 1",
            "circle: a -> b -> a; let one come first",
        ),
    ],
)
def test_what_is_no_chain_is_said_in_one_line(sql, reason):
    with pytest.raises(ChainError, match=reason):
        read_chain(sql)


# A property over generated chains.

TEXTS = ["O'Hara", "a;b", "-- no comment", "/*", ")", "(", '"', "東京", "WITH x AS (", "\U0001f300"]
NAMES = ["a", "Big", "order", "select", "my view", "semi;colon", 'quo"te', "Ü", "日本", "x)", "--"]
COMMENTS = ["", " /* ) ; */", " -- it's ( \n", " /* 'open */"]


@st.composite
def chains(draw):
    """Each view reads one before it, or none, and has the columns n and word."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique_by=str.lower))
    made = []
    for place, name in enumerate([*names, "result"]):
        source = draw(st.sampled_from([None, *names[:place]]))
        word = "'" + draw(st.sampled_from(TEXTS)).replace("'", "''") + "'"
        comment = draw(st.sampled_from(COMMENTS))
        number = draw(st.integers(0, 3))
        if source is None:
            sql = f"SELECT {number} AS n,{comment} {word} AS word UNION ALL SELECT 9, 'z'{comment}"
        else:
            sql = f"SELECT n + {number} AS n, word || {word} AS word FROM {quote_name(source)}"
            sql += draw(st.sampled_from(["", f" WHERE word <> {word}", " ORDER BY 1 LIMIT 1"]))
            sql += comment
        if draw(st.booleans()):
            sql = f"WITH inside AS ({sql}\n) SELECT * FROM inside"
        made.append(View(name=name, sql=sql.strip()))
    return Chain(tuple(made))


@given(chains())
def test_a_chain_survives_being_a_query(chain):
    read = read_chain(chain.sql)
    assert rows(read.sql) == rows(chain.sql)
    assert read_chain(read.sql) == read


@given(chains(), st.data())
def test_views_may_be_written_in_any_order_and_with_column_lists(chain, data):
    *before, last = chain.views
    if last.sql.startswith("WITH"):
        return  # composed otherwise
    shuffled = data.draw(st.permutations(before))
    advice = st.sampled_from(["AS", "AS MATERIALIZED", "AS NOT MATERIALIZED", "(n, word) AS"])
    parts = [f"{quote_name(view.name)} {data.draw(advice)} ({view.sql}\n)" for view in shuffled]
    sql = f"WITH {', '.join(parts)} {last.sql}"
    assert rows(read_chain(sql).sql) == rows(sql)


# Real golds.


def spider_and_sparc() -> list[tuple[str, str]]:
    """(db_id, query) of every different gold of Spider and SParC, comparisons joined."""
    folder = real_data("sparc/train.json")
    pairs = [
        (one["db_id"], one["query"])
        for one in json.loads((folder / "spider" / "train_spider.json").read_text())
    ]
    for name in ("train", "dev"):
        for dialogue in json.loads((folder / "sparc" / f"{name}.json").read_text()):
            turns = dialogue["interaction"]
            pairs += [(dialogue["database_id"], turn["query"]) for turn in turns]
    return sorted(
        {
            (db, sql.replace("> =", ">=").replace("< =", "<=").replace("! =", "!="))
            for db, sql in pairs
        }
    )


async def changed(pairs: list[tuple[str, str]], folder: Path) -> list[str]:
    """The golds whose WITH form, read and composed again, gives other rows; those that do not run
    are left out."""
    databases = find_databases(folder)
    pairs = [pair for pair in pairs if pair[0] in databases]
    async with LocalPool({name: databases[name] for name, _ in pairs}) as pool:

        async def run(asked: list[tuple[str, str]]) -> list[QueryResult]:
            return await pool.execute_many([QueryRequest(db_id=db, sql=sql) for db, sql in asked])

        golds = [
            (pair, result)
            for pair, result in zip(pairs, await run(pairs), strict=True)
            if result.status is QueryStatus.OK
        ]
        assert len(golds) > 0.99 * len(pairs)
        forms = [
            (db_id, f"WITH v AS ({sql.strip().rstrip(';')}) SELECT * FROM v")
            for (db_id, sql), _ in golds
        ]
        again = await run([(db_id, read_chain(sql).sql) for db_id, sql in forms])
        return [
            pair[1]
            for (pair, gold), form, read in zip(golds, await run(forms), again, strict=True)
            if not gold.rows == form.rows == read.rows
        ]


def test_golds_keep_their_rows_as_chains_sample() -> None:
    pairs = spider_and_sparc()[::40]
    assert asyncio.run(changed(pairs, real_data("sparc/train.json") / "database")) == []


@pytest.mark.slow
def test_golds_keep_their_rows_as_chains() -> None:
    pairs = spider_and_sparc()
    assert asyncio.run(changed(pairs, real_data("sparc/train.json") / "database")) == []
