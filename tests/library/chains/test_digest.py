"""What the digest of a view tells: computed, bounded, and the same bytes everywhere."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from helpers.turns import LIMITS, POOLS
from mtsql.chains.chain import Chain, View
from mtsql.chains.digest import (
    ViewDigest,
    digest_text,
    digest_view,
    observe_digest,
    unused_views,
)
from mtsql.chains.probes import ViewWarning, WarningKind, probe_limits, probes
from mtsql.schema import Column, Schema, Table
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus

PREVIEW = {"preview_rows": 2, "preview_cell_chars": 60, "preview_chars": 2000}


def table(name, *columns):
    return Table(name=name, columns=tuple(Column(name=one, type="text") for one in columns))


SCHEMA = Schema(
    db_id="shops",
    tables=(
        table("shop", "id", "name"),
        table("sale", "id", "shop_id", "price"),
        table("worker", "id", "shop_id"),
    ),
)
JOINED = "shop JOIN sale ON sale.shop_id = shop.id"


def chain(*texts):
    return Chain(tuple(View(name=f"v{place}", sql=sql) for place, sql in enumerate(texts)))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    # Two shops: Apex with three sales and two workers, Bolt with two sales and two workers.
    path = tmp_path_factory.mktemp("digest") / "shops.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE shop (id INTEGER, name TEXT);
            CREATE TABLE sale (id INTEGER, shop_id INTEGER, price REAL);
            CREATE TABLE worker (id INTEGER, shop_id INTEGER);
            INSERT INTO shop VALUES (1, 'Apex'), (2, 'Bolt');
            INSERT INTO sale VALUES (1, 1, NULL), (2, 1, NULL), (3, 1, NULL), (4, 2, NULL),
                (5, 2, NULL);
            INSERT INTO worker VALUES (1, 1), (2, 1), (3, 2), (4, 2);
            """
        )
    return path


def digest(database, *texts, limits=LIMITS):
    return POOLS.run(
        database,
        lambda pool: digest_view(pool, "shops", chain(*texts), SCHEMA, limits),
    )


def warnings(database, *texts):
    return [(one.kind, one.about) for one in digest(database, *texts).warnings]


@pytest.mark.parametrize(
    ("texts", "golden"),
    [
        (
            [f"SELECT shop.name, sale.price FROM {JOINED} WHERE shop.id > 0"],
            '{"columns": ["name", "price"], "rows": [["Apex", null], ["Apex", null]], "num_rows": 5'
            ', "more": true, "distinct": [2, 0], "null": [0, 1], "warnings": {"all_null": ["price"]'
            ', "keeps_all": ["shop.id > 0"]}}',
        ),
        (
            [f"SELECT count(*) FROM {JOINED} JOIN worker w ON w.shop_id = shop.id"],
            '{"columns": ["count(*)"], "rows": [[10]], "num_rows": 1, "warnings": {"fan_out": '
            '["shop: 2 rows become 10", "sale: 5 rows become 10", "w: 4 rows become 10"]}}',
        ),
        (
            ["SELECT 1 AS one", "SELECT name AS '<|im_end|>' FROM shop WHERE name = '</s>'"],
            '{"columns": ["\\u003c|im_end|>"], "rows": [], "num_rows": 0, "note": "empty", '
            '"warnings": {"unused": ["v0"]}}',
        ),
        (
            ["SELECT color FROM shop"],
            '{"error": "no_such_column", "message": "no such column: color"}',
        ),
    ],
)
def test_a_digest_in_its_bytes(database, texts, golden):
    assert digest_text(digest(database, *texts), **PREVIEW) == golden


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        # Each shop stands in the list once for each of its sales.
        (f"SELECT shop.name FROM {JOINED}", ["shop: 2 rows become 5"]),
        (f"SELECT name FROM {JOINED}", ["shop: 2 rows become 5"]),
        (f"SELECT sum(shop.id) FROM {JOINED}", ["shop: 2 rows become 5"]),
        # What is shown, counted or added up stands there once.
        (f"SELECT shop.name, sale.id FROM {JOINED}", []),
        (f"SELECT shop.name, count(*) FROM {JOINED} GROUP BY shop.id", []),
        (f"SELECT sum(sale.id) FROM {JOINED}", []),
        (f"SELECT DISTINCT shop.name FROM {JOINED}", []),
        (f"SELECT max(shop.id) FROM {JOINED}", []),
        (f"SELECT shop.name FROM {JOINED} GROUP BY shop.name", []),
        (f"SELECT count(DISTINCT shop.id) FROM {JOINED}", []),
        # A shop without a sale keeps its row and repeats nothing.
        ("SELECT sale.id FROM shop LEFT JOIN sale ON sale.shop_id = shop.id AND sale.id = 1", []),
        # A derived table has no keys; its rows are numbered.
        (
            "SELECT d.name FROM (SELECT * FROM shop) d JOIN sale ON sale.shop_id = d.id",
            ["d: 2 rows become 5"],
        ),
    ],
)
def test_a_join_that_repeats_rows_is_told_where_they_count(database, sql, told):
    assert warnings(database, sql) == [(WarningKind.FAN_OUT, text) for text in told]


def test_the_rows_of_an_earlier_view_are_counted_too(database):
    shops = "SELECT * FROM shop"
    repeated = "SELECT v0.name FROM v0 JOIN sale ON sale.shop_id = v0.id"
    assert warnings(database, shops, repeated) == [(WarningKind.FAN_OUT, "v0: 2 rows become 5")]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("id > 0", ["id > 0"]),
        ("id > 1", []),
        ("id > 0 AND name = 'Apex'", ["id > 0"]),
        ("id > 0 OR name = 'Apex'", ["id > 0 OR name = 'Apex'"]),
        # Of the one shop that the name leaves, the number excludes none; alone it would.
        ("id < 2 AND name = 'Apex'", ["id < 2", "name = 'Apex'"]),
        (
            "name IS NOT NULL AND id IN (SELECT shop_id FROM sale WHERE id > 3)",
            ["NOT name IS NULL"],
        ),
    ],
)
def test_a_condition_that_excludes_nothing_is_told(database, condition, told):
    found = warnings(database, f"SELECT id FROM shop WHERE {condition}")
    assert found == [(WarningKind.KEEPS_ALL, text) for text in told]


def test_conditions_of_a_join_in_where_are_no_filters(database):
    assert warnings(database, "SELECT sale.id FROM shop, sale WHERE shop.id = shop_id") == []


def test_an_unused_view_is_told_until_a_view_reads_it():
    three = chain("SELECT 1 AS n", "SELECT 2 AS n", "SELECT * FROM V0 JOIN v1 USING (n)")
    assert unused_views(three.prefix(2)) == ["v0"]
    assert unused_views(three) == []
    assert unused_views(chain("SELECT 1", "SELECT ((")) == []


def test_a_result_that_is_cut_has_no_figures_of_its_columns(database):
    cut = digest(database, "SELECT price FROM sale", limits=QueryLimits(max_rows=3))
    assert (cut.num_distinct, cut.num_null, cut.warnings) == (None, None, ())
    assert observe_digest(cut, **PREVIEW)["num_rows"] == "at least 3"


def test_a_probe_beyond_its_limits_gives_no_warning():
    (probe,) = probes(chain("SELECT id FROM shop WHERE id > 0"), SCHEMA)
    assert probe_limits(LIMITS).max_vm_steps < LIMITS.max_vm_steps
    stopped = QueryResult(status=QueryStatus.INTERRUPTED, kind="steps")
    assert probe.warnings(stopped) == []
    # Without a row there is nothing that a condition keeps: sums are NULL.
    nothing = QueryResult(status=QueryStatus.OK, rows=((None, None),))
    assert probe.warnings(nothing) == []


def test_a_view_that_is_no_plain_select_has_no_probes():
    for sql in ("SELECT 1", "SELECT id FROM shop UNION SELECT id FROM sale", "VALUES (1)", "(("):
        assert probes(chain(sql), SCHEMA) == ()


def test_shares_of_null_are_none_and_all_only_where_it_is_so():
    def shown(num_null):
        result = QueryResult(
            status=QueryStatus.OK,
            columns=("a",),
            rows=((1,),) * (1000 - num_null) + ((None,),) * num_null,
        )
        known = ViewDigest(result=result, num_distinct=(1,), num_null=(num_null,), warnings=())
        return observe_digest(known, **PREVIEW).get("null")

    assert [shown(num) for num in (0, 1, 333, 999, 1000)] == [None, [0.01], [0.33], [0.99], [1]]


def test_a_digest_is_bounded():
    result = QueryResult(
        status=QueryStatus.OK,
        columns=tuple(f"column{place}" for place in range(50)),
        rows=((1,) * 50,) * 3,
    )
    told = tuple(ViewWarning(kind=WarningKind.ALL_NULL, about="x" * 100) for _ in range(50))
    wide = ViewDigest(result=result, num_distinct=(1,) * 50, num_null=(0,) * 50, warnings=told)
    seen: Any = observe_digest(wide, preview_rows=2, preview_cell_chars=10, preview_chars=40)
    assert len(seen["columns"]) == len(seen["distinct"]) < 50
    assert seen["warnings"] == {"all_null": ["x" * 10 + "…"] * 4}
