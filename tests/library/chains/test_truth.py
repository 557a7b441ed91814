"""The truth of a view, on chains whose truth is known by how they were edited."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mtsql.chains.chain import Chain, View
from mtsql.chains.truth import Truth, ViewTruth, view_truth
from mtsql.data.reflect import reflect_sqlite
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits

GOLD = (
    "SELECT city, count(*) FROM shop JOIN sale ON shop.id = sale.shop_id "
    "WHERE price > 5 GROUP BY city"
)
JOINED = "SELECT {} FROM shop JOIN sale ON shop.id = sale.shop_id"
ITEMS = f"{JOINED} LEFT JOIN item ON item.sale_id = sale.id"


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "shops.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
            CREATE TABLE sale (id INTEGER PRIMARY KEY, shop_id INTEGER REFERENCES shop, price REAL);
            CREATE TABLE item (id INTEGER PRIMARY KEY, sale_id INTEGER REFERENCES sale, word TEXT);
            INSERT INTO shop VALUES (1, 'Ada', 'Paris'), (2, 'Bob', 'Paris'), (3, 'Cy', 'Rome');
            INSERT INTO sale VALUES (1, 1, 4), (2, 1, 9), (3, 2, 7), (4, 3, 8), (5, 3, 3);
            INSERT INTO item VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 2, 'd'), (5, 3, 'e'),
                (6, 4, 'f'), (7, 5, 'g');
            """
        )
    return path


def truth(database: Path, *views: str, gold: str = GOLD) -> ViewTruth:
    chain = Chain(tuple(View(name=f"v{number}", sql=sql) for number, sql in enumerate(views)))

    async def run() -> ViewTruth:
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            return await view_truth(
                pool,
                "shops",
                chain,
                gold,
                reflect_sqlite("shops", database),
                limits=QueryLimits(),
            )

    return asyncio.run(run())


@pytest.mark.parametrize(
    "views",
    [
        [JOINED.format("city, price")],
        [JOINED.format("city, price") + " WHERE price > 5"],
        [JOINED.format("city") + " WHERE price > 5"],
        [JOINED.format("city, name, sale.id") + " WHERE price > 5"],  # more columns
        [JOINED.format("price AS p, city AS place")],  # other names
        ["SELECT shop_id FROM sale WHERE price > 5"],  # one of two tables
        [JOINED.format("city, price"), "SELECT city FROM v0 WHERE price > 5"],
        [GOLD],
        [
            JOINED.format("city, price"),
            "SELECT city, count(*) AS n FROM v0 WHERE price > 5 GROUP BY city",
        ],
    ],
)
def test_a_view_from_which_gold_can_be_computed(database, views):
    assert truth(database, *views).truth is Truth.SUFFICIENT


@pytest.mark.parametrize(
    "views",
    [
        [JOINED.format("city")],  # the condition is lost, and its column too
        [JOINED.format("price") + " WHERE price > 5"],  # a column is missing
        [JOINED.format("city, price") + " WHERE price > 8"],  # rows are missing
        [JOINED.format("city, price") + " WHERE price > 5 AND city = 'Rome'"],
        ["SELECT price FROM sale WHERE price > 5"],  # nothing to join by
        [JOINED.format("city, price"), "SELECT city FROM v0"],
        [ITEMS.format("city, price")],  # rows are repeated, and nothing says how often
        [ITEMS.replace("LEFT ", "").format("city, price, sale.id")],  # sales without items are gone
        [ITEMS.format("city, price"), "SELECT city FROM v0 WHERE price > 5"],
        [JOINED.format("city, price"), "SELECT price FROM v0 WHERE price > 5"],
    ],
)
def test_a_view_from_which_gold_cannot_be_computed(database, views):
    found = truth(database, *views)
    assert found.truth is Truth.INSUFFICIENT
    assert " AS (SELECT " in found.proof


@pytest.mark.parametrize("keys", ["sale.id", "item.id", "item.sale_id"])
def test_repeated_rows_that_a_key_tells_apart_are_not_beyond_repair(database, keys):
    assert truth(database, ITEMS.format(f"city, price, {keys}")).truth is not Truth.INSUFFICIENT


@pytest.mark.parametrize(
    ("views", "why"),
    [
        (["SELECT nothing FROM shop"], "fails"),
        (["SELECT id, city FROM main.shop"], "names the database"),
        (["SELECT 'open"], "cannot be read"),
        # a view that counts takes nothing away from the rows it counts
        ([JOINED.format("city, price"), "SELECT max(price) FROM v0"], "no completion"),
    ],
)
def test_what_is_not_proven_is_unknown(database, views, why):
    found = truth(database, *views)
    assert found.truth is Truth.UNKNOWN
    assert why in found.proof


def test_luck_is_no_proof(database):
    # All shops have a name, so that the condition excludes nothing here; in other contents it does.
    gold = "SELECT city FROM shop WHERE name IS NOT NULL AND id < 9"
    assert truth(database, "SELECT city FROM shop", gold=gold).truth is not Truth.SUFFICIENT
