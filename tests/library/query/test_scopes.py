"""Which table a column belongs to, by hand."""

import pytest
from sqlglot import exp

from mtsql.query.names import names_of
from mtsql.query.reading import parse_sql
from mtsql.query.scopes import Scopes
from mtsql.schema import Column, Schema, Table

SCHEMA = Schema(
    db_id="shops",
    tables=tuple(
        Table(name=name, columns=tuple(Column(name=column, type="text") for column in columns))
        for name, columns in {
            "Shop": ("id", "Name", "city"),
            "sale": ("id", "shop_id", "price"),
        }.items()
    ),
)
NAMES = names_of(SCHEMA)


def tables(sql, names=None):
    """What each column's table is, by the column's text."""
    tree = parse_sql(sql)
    assert tree is not None
    scopes = Scopes(names)
    return {column.sql(): scopes.table_of(column) for column in tree.find_all(exp.Column)}


@pytest.mark.parametrize(
    ("sql", "without_names", "with_names"),
    [
        ("SELECT name FROM Shop", {"name": "shop"}, {"name": "shop"}),
        ("SELECT S.name FROM Shop AS s", {"S.name": "shop"}, {"S.name": "shop"}),
        (
            "SELECT T1.id, name FROM sale AS T1 JOIN shop AS T2",
            {"T1.id": "sale", "name": None},
            {"T1.id": "sale", "name": "shop"},
        ),
        # Both tables have an id, and neither has a color.
        (
            "SELECT id, color FROM shop, sale",
            {"id": None, "color": None},
            {"id": None, "color": None},
        ),
        # The inner query sees the outer one, and an inner name hides an outer one.
        (
            "SELECT 1 FROM shop AS s WHERE EXISTS (SELECT 1 FROM sale AS t, sale AS s "
            "WHERE price = s.price AND city = 'x')",
            {"price": "sale", "s.price": "sale", "city": "sale"},
            {"price": "sale", "s.price": "sale", "city": "sale"},
        ),
        (
            "SELECT 1 FROM shop AS o WHERE id IN (SELECT shop_id FROM sale, shop AS i WHERE o.id)",
            {"id": "shop", "shop_id": None, "o.id": "shop"},
            {"id": "shop", "shop_id": "sale", "o.id": "shop"},
        ),
        # A derived table has its alias's name, and is one of the join's tables.
        (
            "SELECT v.n, city FROM (SELECT count(*) AS n FROM sale) AS v JOIN shop",
            {"v.n": "v", "city": None},
            {"v.n": "v", "city": "shop"},
        ),
        ("SELECT x.id, id", {"x.id": None, "id": None}, {"x.id": None, "id": None}),
    ],
)
def test_the_table_of_each_column(sql, without_names, with_names):
    assert tables(sql) == without_names
    assert tables(sql, NAMES) == with_names
