"""What queries use of a schema, and how much of it others have used."""

import pytest

from helpers.shops import SALES_SCHEMA
from mtsql.query.names import names_of
from mtsql.query.used import Used, names_in, plain_name, seen_band, share_seen, used_by
from mtsql.schema import Column, Schema, Table


def used(tables="", columns="", texts=()):
    return Used(
        tables=frozenset(tables.split()),
        columns=frozenset(columns.split()),
        texts=frozenset(texts),
    )


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT name FROM shop", used("shop", "name")),
        ("SELECT * FROM Shop", used("shop")),
        ("SELECT count(*) FROM shop WHERE City = 'Rome'", used("shop", "city", ["rome"])),
        (
            'SELECT T1.NAME FROM shop AS T1 WHERE city = "Rome "',
            used("shop", "name city", ["rome"]),
        ),
        (
            "SELECT s.price FROM sale AS s JOIN shop ON s.shop_id = shop.id",
            used("sale shop", "price shopid id"),
        ),
        # A CTE is no table, its column is the stored one, and an alias is none.
        ("WITH c AS (SELECT city AS town FROM shop) SELECT town FROM c", used("shop", "city")),
        ("SELECT max(price) AS top FROM sale ORDER BY top", used("sale", "price")),
        ("SELECT name FROM elsewhere", used("", "name")),
        ("SELECT 1", used()),
        ("not a query", None),
    ],
)
def test_a_query_uses_names_of_the_schema(sql, expected):
    assert used_by(sql, names_of(SALES_SCHEMA)) == expected


def test_names_are_compared_as_words():
    assert {plain_name(one) for one in ("Shop_ID", "shopId", "SHOP id")} == {"shopid"}
    assert plain_name("_%") == "_%"
    schema = Schema(
        db_id="x", tables=(Table(name="Home_City", columns=(Column(name="ID", type="number"),)),)
    )
    assert names_in(schema) == used("homecity", "id")
    assert used_by("SELECT Id FROM home_CITY", names_of(schema)) == used("homecity", "id")


def test_the_share_that_others_have_used():
    known = used("shop", "name city", ["rome"])
    # shop and name of shop, name, age and owner: 2 of 4. Texts do not count.
    assert share_seen(used("shop owner", "name age", ["oslo"]), known) == 0.5
    assert share_seen(used("", "", ["rome"]), known) is None
    assert share_seen(None, known) is None


def test_bands():
    shares = (0.0, 0.1, 0.49, 0.5, 0.99, 1.0)
    assert [seen_band(share) for share in shares] == [
        "none",
        "below half",
        "below half",
        "half or more",
        "half or more",
        "all",
    ]
