"""A join that is left out: the engine must refuse what remains."""

import sqlite3
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.mistakes.joins import missing_join
from mtsql.schema import Column, Schema, Table

COLUMNS = {"shop": ("id", "name", "city"), "product": ("id", "shop_id", "name", "color", "price")}
SCHEMA = Schema(
    db_id="shops",
    tables=tuple(
        Table(name=name, columns=tuple(Column(name=column, type="text") for column in columns))
        for name, columns in COLUMNS.items()
    ),
)
LONG = (
    "SELECT T1.name FROM shop AS T1 JOIN product ON T1.id = product.shop_id AND (1 = 1) "
    "WHERE product.color = 'Blue' AND price BETWEEN 3 AND 5"
)
SELF = (
    "SELECT a.name FROM shop AS a JOIN product AS b ON a.id = b.shop_id "
    "JOIN shop AS c ON c.id = b.shop_id WHERE c.city = 'OSLO'"
)


@pytest.fixture(scope="module")
def connection():
    connection = sqlite3.connect(":memory:")
    for table, columns in COLUMNS.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    yield connection
    connection.close()


def without_joins(sql):
    return {missing_join(sql, SCHEMA, Random(seed)) for seed in range(20)}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # the blank before it goes with it, the alias and the condition too
        (LONG, {LONG.replace(" JOIN product ON T1.id = product.shop_id AND (1 = 1)", "")}),
        # the other joins stay: c alone, or b, which c's condition names
        (
            SELF,
            {
                SELF.replace(" JOIN shop AS c ON c.id = b.shop_id", ""),
                SELF.replace(" JOIN product AS b ON a.id = b.shop_id", ""),
            },
        ),
        # one condition for all joins, at the end
        (
            "SELECT a.name FROM shop a JOIN product b JOIN shop c ON a.id = b.id AND b.id = c.id",
            {"SELECT a.name FROM shop a JOIN shop c ON a.id = b.id AND b.id = c.id"},
        ),
        ("SELECT color FROM shop LEFT OUTER JOIN product USING (id)", {"SELECT color FROM shop"}),
        ("SELECT color FROM shop NATURAL JOIN product LIMIT 1", {"SELECT color FROM shop LIMIT 1"}),
        (
            "SELECT b.name FROM shop a , product b WHERE a.id = b.shop_id",
            {"SELECT b.name FROM shop a WHERE a.id = b.shop_id"},
        ),
        (
            'SELECT "b"."name" FROM shop a JOIN "product" AS "b" ON a.id = "b".shop_id',
            {'SELECT "b"."name" FROM shop a'},
        ),
        ("SELECT b.* FROM shop a JOIN product b ON a.id = b.shop_id", {"SELECT b.* FROM shop a"}),
        # within a subquery, and one that only a subquery needs
        (
            "SELECT name FROM shop WHERE id IN (SELECT T2.shop_id FROM shop AS T3 "
            "JOIN product AS T2 ON T3.id = T2.shop_id) ORDER BY name",
            {"SELECT name FROM shop WHERE id IN (SELECT T2.shop_id FROM shop AS T3) ORDER BY name"},
        ),
        (
            "SELECT count(*) FROM shop a JOIN product b ON a.id = b.shop_id WHERE EXISTS "
            "(SELECT 1 FROM shop c WHERE c.city = b.color)",
            {
                "SELECT count(*) FROM shop a WHERE EXISTS "
                "(SELECT 1 FROM shop c WHERE c.city = b.color)"
            },
        ),
    ],
)
def test_a_join_is_left_out_that_the_rest_needs(connection, sql, expected):
    connection.execute(sql)
    assert without_joins(sql) == expected
    for mistaken in expected:
        with pytest.raises(sqlite3.OperationalError, match=r"no such (column|table: b$)"):
            connection.execute(mistaken)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM shop",
        # nothing else names its columns
        "SELECT count(*) FROM shop a JOIN product b ON a.id = b.shop_id",
        "SELECT * FROM shop a JOIN product b ON a.id = b.shop_id",
        "SELECT city FROM shop JOIN product USING (id)",
        # `id` and `name` are columns of shop as well
        "SELECT id FROM shop NATURAL JOIN product ORDER BY name",
        # what stands there may be an alias, or text
        "SELECT shop.name AS color FROM shop JOIN product ON shop.id = shop_id ORDER BY color",
        'SELECT "color" FROM shop JOIN product ON shop.id = shop_id',
        "SELECT rowid FROM shop JOIN product USING (id)",
        # the outer query has a T2 of its own
        "SELECT T2.name FROM shop AS T2 WHERE T2.id IN "
        "(SELECT T2.shop_id FROM shop AS T3 JOIN product AS T2 ON T3.id = T2.shop_id)",
        # a derived table is left in
        "SELECT x.id FROM shop JOIN (SELECT id FROM product) x",
        # the columns of a derived table are not known
        "SELECT color FROM (SELECT id, city AS color FROM shop) x JOIN product USING (id)",
        "SELECT '",
        "",
    ],
)
def test_a_join_that_can_go_unnoticed_is_left_in(sql):
    assert without_joins(sql) == {None}


@st.composite
def chains(draw):
    """A chain of joins in many styles; what is selected needs one of them, or several."""
    tables = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4))
    text = f"{tables[0]} AS t0"
    for number, table in enumerate(tables[1:], start=1):
        style = draw(st.sampled_from(["JOIN", "LEFT JOIN", "inner  join", ",", "\nCROSS JOIN"]))
        text += f" {style} {table} {draw(st.sampled_from(['AS ', '']))}t{number}"
        if style in ("JOIN", "LEFT JOIN", "inner  join"):
            text += f" ON t{number - 1}.id = t{number}.id"
    chosen = draw(st.integers(0, len(tables) - 1))
    column = draw(st.sampled_from(COLUMNS[tables[chosen]]))
    where = draw(st.sampled_from(["", f" WHERE t{chosen}.{column} > (SELECT max(id) FROM shop)"]))
    return f"SELECT t{chosen}.{column} FROM {text}{where} ORDER BY 1", chosen


@given(chain=chains(), seed=st.integers(0, 9))
def test_what_lacks_a_join_is_refused_and_a_span_shorter(connection, chain, seed):
    sql, chosen = chain
    connection.execute(sql)
    mistaken = missing_join(sql, SCHEMA, Random(seed))
    # What is selected from a joined table needs its join.
    assert mistaken is not None or chosen == 0
    if mistaken is not None:
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            connection.execute(mistaken)
        cut = len(sql) - len(mistaken)
        assert any(sql[:at] + sql[at + cut :] == mistaken for at in range(len(mistaken)))
