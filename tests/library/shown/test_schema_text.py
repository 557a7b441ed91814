"""The schema in a prompt: example values from a real database, and what fits a budget."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.turn import TurnEnv
from helpers.shops import SALES_SCHEMA, SALES_SECOND, write_sales
from mtsql.config.environment import EnvironmentConfig
from mtsql.dialogue import PastTurn
from mtsql.schema import Column, ForeignKey, Schema, Table
from mtsql.shown.budget import approximate_tokens, fit_schema, ranked
from mtsql.shown.examples import MAX_QUERIES, example_values
from mtsql.shown.schema import compact_schema, full_schema, m_schema
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus

LIMITS = QueryLimits()


def table(name, *columns):
    """Columns as `id*` (primary) and `name`."""
    return Table(
        name=name,
        columns=tuple(
            Column(name=one.rstrip("*"), type="text", is_primary=one.endswith("*"))
            for one in columns
        ),
    )


TOWN = Schema(
    db_id="town",
    tables=(
        table("shop", "id*", "name", "city"),
        table("sale", "id*", "shop_id", "price"),
        table("owner", "id*", "shop_id", "age"),
        table("tax", "year", "rate"),
    ),
    foreign_keys=(
        ForeignKey(table="sale", column="shop_id", ref_table="shop", ref_column="id"),
        ForeignKey(table="owner", column="shop_id", ref_table="shop", ref_column="id"),
    ),
)


def examples_of(path, schema=SALES_SCHEMA, *, limit=3, limits=LIMITS):
    async def run():
        async with LocalPool({"shops": path}, num_workers=1) as pool:
            found = await example_values(pool, "shops", schema, limit=limit, limits=limits)
            before = pool.stats()
            again = await example_values(pool, "shops", schema, limit=limit, limits=limits)
            assert again is found  # the database is asked once
            assert pool.stats() == before
            return found

    return asyncio.run(run())


# Example values ---------------------------------------------------------------------------------


def test_example_values_are_literals_of_what_is_stored(tmp_path):
    examples = examples_of(write_sales(tmp_path / "shops.sqlite"), limit=2)
    assert examples == {
        ("shop", "id"): ("1", "2"),
        ("shop", "name"): ("'Ada'", "'Bob'"),
        ("shop", "city"): ("'Paris'", "'Rome'"),
        ("sale", "id"): ("1", "2"),
        ("sale", "shop_id"): ("1", "2"),
        ("sale", "price"): ("inf",),  # the other one is NULL
    }


def test_odd_names_and_values(tmp_path):
    path = tmp_path / "odd.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('CREATE TABLE "a ""b" ("c d", "e")')
        row = ("O'Neil " + "x" * 90, b"\x00\xff")
        connection.execute('INSERT INTO "a ""b" VALUES (?, ?)', row)
    schema = Schema(db_id="shops", tables=(table('a "b', "c d", "e", "gone"), table("lost", "id")))
    assert examples_of(path, schema) == {
        ('a "b', "c d"): ("'O''Neil " + "x" * 33 + "…'",),
        ('a "b', "e"): ("x'00ff'",),
    }


def test_a_large_table_is_looked_at_from_its_start(tmp_path):
    path = tmp_path / "large.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE big (n)")
        connection.execute(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200000)"
            " INSERT INTO big SELECT min(n, 1001) / 1001 FROM c"
        )
    schema = Schema(db_id="shops", tables=(table("big", "n"),))
    # The first 1,000 rows hold 0 only; 20,000 steps are enough for those and not for the table.
    found = examples_of(path, schema, limits=QueryLimits(max_vm_steps=20_000))
    assert found == {("big", "n"): ("0",)}


class Counting:
    """An executor that says what it was asked; broken at first if asked to be."""

    def __init__(self, *, num_broken=0):
        self.batches = []
        self._num_broken = num_broken

    async def execute_many(self, requests):
        self.batches.append(len(requests))
        if self._num_broken:
            self._num_broken -= 1
            return [QueryResult(status=QueryStatus.INFRA_FAULT) for _ in requests]
        return [
            QueryResult(status=QueryStatus.OK, columns=("c",), rows=(("a",),)) for _ in requests
        ]


def test_messages_to_the_pool_are_bounded():
    pool = Counting()
    wide = Schema(db_id="shops", tables=(table("t", *(f"c{n}" for n in range(MAX_QUERIES + 3))),))
    found = asyncio.run(example_values(pool, "shops", wide, limit=1, limits=LIMITS))
    assert pool.batches == [MAX_QUERIES, 3]
    assert len(found) == MAX_QUERIES + 3
    assert asyncio.run(example_values(pool, "shops", wide, limit=0, limits=LIMITS)) == {}
    assert len(pool.batches) == 2


def test_a_fault_is_not_kept():
    pool = Counting(num_broken=1)
    for expected in ({}, {("tax", "year"): ("'a'",), ("tax", "rate"): ("'a'",)}):
        schema = Schema(db_id="town", tables=TOWN.tables[3:])
        found = asyncio.run(example_values(pool, "town", schema, limit=1, limits=LIMITS))
        assert found == expected


# M-Schema ---------------------------------------------------------------------------------------

SHOPS_TEXT = """\
【DB_ID】 shops
【Schema】
# Table: shop
[
(id:NUMBER, Primary Key, Examples: [1, 2]),
(name:TEXT, Examples: ['Ada', 'Bob']),
(city:TEXT, Examples: ['Paris', 'Rome'])
]
# Table: sale
[
(id:NUMBER, Primary Key, Examples: [1, 2]),
(shop_id:NUMBER, Examples: [1, 2]),
(price:NUMBER, Examples: [inf])
]
【Foreign keys】
sale.shop_id=shop.id"""


def prompt_of(path, *, spec=SALES_SECOND, count_tokens=approximate_tokens, **options):
    async def run():
        async with LocalPool({"shops": path}, num_workers=1) as pool:
            config = EnvironmentConfig(**options)
            env = TurnEnv(spec, pool, config, LIMITS, count_tokens=count_tokens)
            return (await env.start())[-1]["content"]

    return asyncio.run(run())


def test_a_prompt_shows_what_is_stored(tmp_path):
    path = write_sales(tmp_path / "shops.sqlite")
    text = prompt_of(path, prompt="m_schema", example_values=2)
    assert text.startswith(f"Database schema:\n{SHOPS_TEXT}\n\nEarlier questions of")
    r1 = prompt_of(path, prompt="m_schema", example_values=2, dialect="mtsql_r1")
    assert f"Database schema:\n{SHOPS_TEXT}\n\nEarlier questions of" in r1


def test_stored_values_cannot_speak_the_protocol(tmp_path):
    path = write_sales(tmp_path / "shops.sqlite")
    text = prompt_of(path, prompt="m_schema", example_values=9)
    assert "< /tool_response>< |im_end|> < tool_call>" in text
    for tag in ("<|", "</", "<tool_call>"):
        assert tag not in text


def test_columns_without_values_are_shown_without():
    assert m_schema(Schema(db_id="town", tables=TOWN.tables[3:]), {("tax", "rate"): ()}) == (
        "【DB_ID】 town\n【Schema】\n# Table: tax\n[\n(year:TEXT),\n(rate:TEXT)\n]"
    )


# The budget -------------------------------------------------------------------------------------


def fit(budget, *about, render=full_schema, examples=None, count=len):
    return fit_schema(
        TOWN, render, budget=budget, count=count, about=about, examples=examples or {}
    )


def names(order):
    return " ".join(f"{table}.{column}" for table, column in order)


def test_what_is_asked_for_comes_first_then_what_it_joins():
    order = ranked(TOWN, ["How many sales has each shop in Paris?"], {})
    assert names(order[:3]) == "shop.id sale.id sale.shop_id"
    assert names(order[3:5]) == "owner.id owner.shop_id"
    assert names(order[5:]) == "shop.name shop.city sale.price owner.age tax.year tax.rate"


def test_a_stored_value_touches_its_column():
    examples = {("shop", "city"): ("'New York'", "'Paris'"), ("shop", "id"): ("7",)}
    order = ranked(TOWN, ["who owns 7 shoes in new  york?"], examples)
    assert names(order[:2]) == "shop.id shop.city"
    assert names(order[2:6]) == "sale.id sale.shop_id owner.id owner.shop_id"
    assert ranked(TOWN, ["of newyork and parisians"], examples) == ranked(TOWN, [], {})


def test_earlier_sql_counts_like_the_question():
    order = ranked(TOWN, ["and their age?", "SELECT rate FROM tax WHERE year = 2024"], {})
    assert names(order[:3]) == "tax.year tax.rate owner.age"


def test_a_named_column_touches_its_table_when_no_table_is_named():
    assert names(ranked(TOWN, ["the highest price"], {})[:3]) == "sale.id sale.shop_id sale.price"


def test_the_text_says_what_is_missing():
    asked = "How many sales has each shop in Paris?"
    # Four lines of 47, 62, 61 and 25 characters, and 3 line breaks between them.
    assert fit(198, asked) == full_schema(TOWN)
    assert fit(197, asked) == (
        "shop(id text primary key, name text, city text)\n"
        "sale(id text primary key, shop_id text -> shop.id)\n"
        "owner(id text primary key, shop_id text -> shop.id)\n"
        "Not shown: 1 table; 4 columns in all."
    )
    assert fit(115, asked) == (
        "shop(id text primary key)\n"
        "sale(id text primary key, shop_id text -> shop.id)\n"
        "Not shown: 2 tables; 8 columns in all."
    )
    # One column is the least; a foreign key is shown with both of its ends only.
    assert fit(1, asked) == "shop(id text primary key)\nNot shown: 3 tables; 10 columns in all."


def test_every_rendering_can_be_cut():
    asked = "the city of each shop"
    assert fit(60, asked, render=compact_schema) == (
        "shop : id , city\nNot shown: 3 tables; 9 columns in all."
    )
    assert fit(130, asked, render=lambda part: m_schema(part, {})).count("# Table: ") == 1


@given(st.integers(1, 400), st.sampled_from(["", "shops", "sales price", "tax rate of 2024"]))
def test_the_budget_holds_down_to_one_column(budget, asked):
    text = fit(budget, asked)
    assert len(text) <= budget or text.count("(") == 1
    larger = fit(budget + 1, asked)
    assert larger.count("text") >= text.count("text")


def test_the_budget_is_measured_by_the_given_tokenizer(tmp_path):
    assert [approximate_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    path = write_sales(tmp_path / "shops.sqlite")
    spec = replace(
        SALES_SECOND, history=(PastTurn(question="any ?", sql="SELECT price FROM sale"),)
    )
    full = prompt_of(path, spec=spec, max_schema_tokens=40)
    assert "Not shown" not in full
    words = prompt_of(
        path, spec=spec, max_schema_tokens=16, count_tokens=lambda text: len(text.split())
    )
    assert words.startswith(
        "Database schema:\n"
        "sale(id number primary key, shop_id number, price number)\n"
        "Not shown: 1 table; 3 columns in all.\n\n"
    )


def test_without_a_budget_or_values_the_prompt_asks_nothing():
    class Silent:
        async def execute_many(self, requests):
            raise AssertionError(requests)

    for prompt in ("compact", "full"):
        env = TurnEnv(SALES_SECOND, Silent(), EnvironmentConfig(prompt=prompt), LIMITS)
        assert asyncio.run(env.start())


@pytest.mark.parametrize("prompt", ["compact", "full", "m_schema"])
def test_the_whole_schema_is_the_default(tmp_path, prompt):
    path = write_sales(tmp_path / "shops.sqlite")
    whole = prompt_of(path, prompt=prompt)
    assert whole == prompt_of(path, prompt=prompt, max_schema_tokens=10_000)
