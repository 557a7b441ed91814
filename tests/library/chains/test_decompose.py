"""Queries taken apart by rules, and what is kept of it."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from helpers.places import real_data
from mtsql.chains.build import SAME_RESULT, build_chains, chain_facts
from mtsql.chains.chain import Chain, View
from mtsql.chains.decompose import STYLES, chains_of
from mtsql.chains.distance import chain_distance, different_chains
from mtsql.chains.reading import ChainError, read_chain
from mtsql.data.databases import find_databases
from mtsql.data.reflect import reflect_sqlite
from mtsql.dialogue import Hardness
from mtsql.evaluation.em.hardness import hardness
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits

GOLD = (
    "SELECT city, count(*) FROM shop JOIN sale ON shop.id = sale.shop_id "
    "WHERE price > 5 GROUP BY city ORDER BY count(*) DESC LIMIT 1"
)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    """Shop (id, name, city), sale (id, shop_id, price, name); one shop sells nothing."""
    path = tmp_path_factory.mktemp("chains") / "shops.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT, city TEXT, "Group" TEXT);
            CREATE TABLE sale (
                id INTEGER PRIMARY KEY, shop_id INTEGER REFERENCES shop, price REAL, name TEXT
            );
            INSERT INTO shop VALUES (1, 'Ada', 'Paris', 'x'), (2, 'Bob', 'Paris', NULL),
                (3, 'Cy', 'Rome', 'x'), (4, 'Di', NULL, 'y');
            INSERT INTO sale VALUES (1, 1, 4, 'Ada'), (2, 1, 9, 'pen'), (3, 2, 7, 'ink'),
                (4, 3, 8, NULL), (5, NULL, 6, 'ink'), (6, 3, 3, 'Cy');
            """
        )
    return path


def run(database: Path, sql: str):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def build(database: Path, *golds: str):
    async def build():
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            return await build_chains(
                pool,
                [("shops", sql) for sql in golds],
                {"shops": reflect_sqlite("shops", database)},
                limits=QueryLimits(),
            )

    return asyncio.run(build())


def test_each_clause_becomes_a_view(database):
    stages, filters, *_ = chains_of(GOLD, reflect_sqlite("shops", database))
    assert [(view.name, view.sql) for view in stages.views] == [
        (
            "joined_rows",
            "SELECT shop.city, sale.price FROM shop JOIN sale ON shop.id = sale.shop_id",
        ),
        ("kept_rows", "SELECT city FROM joined_rows WHERE price > 5"),
        ("by_city", "SELECT city, COUNT(*) AS num FROM kept_rows GROUP BY city"),
        ("first_row", "SELECT city, num FROM by_city ORDER BY num DESC LIMIT 1"),
        ("result", "SELECT city, num FROM first_row"),
    ]
    assert stages.views[1].rationale == "Take joined_rows and keep what fits: price > 5."
    assert [(view.name, view.sql) for view in filters.views][:2] == [
        ("sale_kept", "SELECT shop_id FROM sale WHERE price > 5"),
        (
            "joined_rows",
            "SELECT shop.city FROM shop JOIN sale_kept AS sale ON shop.id = sale.shop_id",
        ),
    ]


@pytest.mark.parametrize(
    "gold",
    [
        GOLD,
        "SELECT * FROM shop",
        "SELECT count(*) FROM shop",
        "SELECT * FROM shop JOIN sale ON shop.id = sale.shop_id",  # id and name clash
        "SELECT T1.*, T2.price FROM shop T1, sale T2 WHERE T1.id = T2.shop_id AND T2.price > 5",
        'SELECT name FROM shop WHERE city = "Paris" AND "Group" = "x"',
        'SELECT city FROM shop WHERE name = "name"',  # a column: no text
        "SELECT name FROM shop WHERE id NOT IN (SELECT shop_id FROM sale)",  # a NULL: no row
        "SELECT name FROM shop WHERE id NOT IN (SELECT shop_id FROM sale WHERE shop_id > 1)",
        "SELECT name FROM shop AS s WHERE EXISTS "
        "(SELECT 1 FROM sale WHERE shop_id = s.id AND price > 8)",
        "SELECT name, (SELECT max(price) FROM sale WHERE shop_id = shop.id) FROM shop",
        "SELECT name FROM shop AS a WHERE id = "
        "(SELECT max(id) FROM shop AS b WHERE b.city = a.city)",
        "SELECT name FROM shop WHERE id > (SELECT avg(id) FROM shop)",
        "SELECT DISTINCT city FROM shop ORDER BY city",
        "SELECT count(DISTINCT city), count(city), count(*) FROM shop",
        "SELECT shop.name, sale.id FROM shop LEFT JOIN sale ON shop.id = shop_id AND price > 5 "
        "WHERE sale.id IS NULL OR shop.city = 'Paris'",
        "SELECT name FROM shop UNION SELECT name FROM sale ORDER BY name DESC LIMIT 2",
        "SELECT name FROM shop INTERSECT SELECT name FROM sale",
        "SELECT id FROM shop EXCEPT SELECT shop_id FROM sale WHERE price > 5",
        "SELECT city, sum(price) AS s FROM shop JOIN sale ON shop_id = shop.id "
        "GROUP BY city HAVING count(*) > 1 ORDER BY s",
        "SELECT avg(n) FROM (SELECT count(*) AS n FROM sale GROUP BY shop_id)",
        "SELECT a.name, b.name FROM shop a JOIN shop b ON a.city = b.city AND a.id < b.id",
        "SELECT name FROM shop WHERE city LIKE '%a%' OR city IS NULL ORDER BY id LIMIT 1 OFFSET 1",
        "SELECT name FROM shop NATURAL JOIN (SELECT 'Ada' AS name)",
        "SELECT id FROM shop WHERE id IN (SELECT shop_id FROM sale "
        "UNION SELECT id FROM sale WHERE price < 5) AND city = 'Paris'",
        "SELECT name, rowid FROM shop WHERE rowid < 3",
    ],
)
def test_chains_keep_the_result(database, gold):
    # Without luck: the rows of each chain that the rules give, before anything is left out.
    try:
        chains = chains_of(gold, reflect_sqlite("shops", database))
    except ChainError:
        assert "rowid" in gold
        return
    rows = run(database, gold)
    for chain in chains:
        found = run(database, chain.sql)
        assert (
            found == rows
            if "ORDER BY" in gold
            else sorted(map(repr, found)) == sorted(map(repr, rows))
        )
        assert read_chain(chain.sql) == chain
        assert len(chain.views) > 1


def test_a_correlated_query_has_its_rows_as_a_view(database):
    gold = "SELECT name FROM shop AS s WHERE 8 < (SELECT max(price) FROM sale WHERE shop_id = s.id)"
    [first, *_] = chains_of(gold, reflect_sqlite("shops", database))
    assert first.views[0].sql == "SELECT price, shop_id FROM sale"


def test_what_is_kept_gives_golds_result_and_differs(database):
    built = build(database, GOLD, "SELECT 1", "SELECT nope(id) FROM shop", "DROP TABLE shop")
    chains = built["shops", GOLD].chains
    assert len(chains) > 1
    for place, one in enumerate(chains):
        assert run(database, one.sql) == [("Paris", 2)]
        assert all(chain_distance(one, other) >= 0.15 for other in chains[:place])
    assert built["shops", "SELECT 1"].failure == "no_view"
    assert built["shops", "SELECT nope(id) FROM shop"].failure == "gold_failed"
    assert built["shops", "DROP TABLE shop"].failure == "unreadable"


def test_a_chain_of_a_writer_stays_as_it_is(database):
    gold = "WITH a(x) AS (SELECT city FROM shop) SELECT count(x) FROM a"
    assert build(database, gold)["shops", gold].chains == (read_chain(gold),)


def test_duplicates_go_by_the_distance_of_their_trees():
    def chain(sql):
        return Chain((View(name="a", sql=sql), View(name="result", sql="SELECT x FROM a")))

    one, near = chain("SELECT x FROM t WHERE y = 1"), chain("SELECT x FROM t WHERE y = 2")
    far = chain("SELECT x, count(*) FROM t JOIN u ON t.i = u.i GROUP BY x HAVING count(*) > 3")
    assert chain_distance(one, one) == 0
    assert 0 < chain_distance(one, near) < 0.15 < chain_distance(one, far)
    assert different_chains([one, near, far]) == [one, far]
    assert different_chains([one, near, far], min_distance=0.01) == [one, near, far]


def test_figures_count_each_turn(database):
    golds = [GOLD, "SELECT 1", GOLD]
    built = build(database, *golds)
    labels: list[Hardness] = ["hard", "easy", "hard"]
    facts = chain_facts(
        [(("shops", sql), label) for sql, label in zip(golds, labels, strict=True)],
        built,
        wall_s=1.0,
    )
    chains = built["shops", GOLD].chains
    assert (facts.num_queries, facts.num_different) == (3, 2)
    assert facts.share_decomposed == facts.share_two_chains == pytest.approx(2 / 3)
    assert facts.mean_chains == len(chains)
    views = [len(chain.views) - 1 for chain in chains]
    assert facts.mean_views == facts.mean_views_medium_up == sum(views) / len(views)
    assert facts.not_decomposed == {"no_view": 1}
    assert facts.mean_distance >= 0.15


def test_styles_have_names_of_their_own():
    assert len({style.name for style in STYLES}) == len(STYLES)
    assert SAME_RESULT.keep_value_word


def spider_golds(step: int) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    folder = real_data("spider/train_spider.json")
    databases = find_databases(folder / "database")
    rows = json.loads((folder / "spider" / "train_spider.json").read_text())
    golds = sorted({(row["db_id"], row["query"]) for row in rows if row["db_id"] in databases})
    return databases, golds[::step]


def test_golds_of_spider_become_chains_sample() -> None:
    databases, golds = spider_golds(100)
    schemas = {name: reflect_sqlite(name, databases[name]) for name, _ in golds}

    async def build():
        async with LocalPool({name: databases[name] for name in schemas}) as pool:
            return await build_chains(pool, golds, schemas, limits=QueryLimits())

    built = asyncio.run(build())
    facts = chain_facts(
        [((name, sql), hardness(sql, schemas[name])) for name, sql in golds], built, wall_s=1
    )
    assert facts.share_decomposed > 0.95
    assert facts.share_two_chains > 0.5
    # Views before the last query: one with it, and two or more where there is something to divide.
    assert facts.mean_views_medium_up > 1.5
