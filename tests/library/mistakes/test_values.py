"""A condition's value becomes one that is stored nowhere."""

import sqlite3
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.mistakes.values import UnstoredValue, unstored_value
from mtsql.schema import Column, Schema, Table

COLUMNS = {"shop": ("id", "name", "city"), "product": ("id", "shop_id", "color", "price")}
SCHEMA = Schema(
    db_id="shops",
    tables=tuple(
        Table(name=name, columns=tuple(Column(name=column, type="text") for column in columns))
        for name, columns in COLUMNS.items()
    ),
)


@pytest.fixture(scope="module")
def connection():
    connection = sqlite3.connect(":memory:")
    for table, columns in COLUMNS.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    connection.execute("INSERT INTO shop VALUES (1, 'a', 'New York'), (2, 'b', 'New York')")
    connection.execute("INSERT INTO product VALUES (1, 1, 'Blue', 5), (3, 2, 'Red', 7)")
    yield connection
    connection.close()


def unstored(sql, said="", avoid=()):
    found = [
        unstored_value(sql, SCHEMA, Random(seed), said=said, avoid=avoid) for seed in range(60)
    ]
    assert len({one is None for one in found}) == 1
    return {one.sql for one in found if one is not None}


def in_city(value):
    return f"SELECT name FROM shop WHERE city = {value}"


@pytest.mark.parametrize(
    ("value", "said", "expected"),
    [
        # a part of it: a lookup of what is stored finds the whole
        ("'New York'", "", {"'New'", "'York'"}),
        ("'St John''s'", "", {"'John''s'"}),
        ("'Dogs'", "", {"'Dog'"}),
        ("'Texas'", "", set()),
        # a slip in a value that was said: a letter twice, left out, exchanged with the next one
        ("'Rom'", "those in ROM ?", {"'Room'", "'Rm'", "'Rmo'"}),
        ('"Rom"', "those in ROM ?", {'"Room"', '"Rm"', '"Rmo"'}),
        ("'dog'", "all dogs", {"'dogs'"}),
        # short, unsaid, without letters: nobody could mend it
        ("'A B'", "", set()),
        ("'Rome'", "those in the capital", set()),
        ("'2 10'", "2 10", set()),
        # numbers that were said
        ("85", "in 85 ?", {"885", "855"}),
        ("85", "in 1985 or t85", set()),
        ("1985", "in 1,985", {"11985", "19985", "19885", "19855"}),
        ("0", "0", set()),
        ("8.5", "8.5", set()),
        ("-5", "5", set()),
        ("id", "id", set()),
    ],
)
def test_a_value_becomes_one_that_is_stored_nowhere(value, said, expected):
    assert unstored(in_city(value), said) == {in_city(text) for text in expected}


def test_a_bound_moves_out_of_the_range():
    def moved(condition):
        sql = f"SELECT id FROM product WHERE {condition}"
        return {one.partition("WHERE ")[2] for one in unstored(sql, "5, 300 and 1985")}

    assert moved("price > 5") == {"price > 5000"}
    assert moved("5 <= price") == {"5000 <= price"}
    assert moved("price >= 1985") == {f"price >= {n}" for n in (11985, 19985, 19885, 19855)}
    assert moved("price < 300") == {"price < 3"}
    assert moved("300 > price") == {"3 > price"}
    assert moved("price <= 1985") == {"price <= 19"}
    assert moved("price < 5") == set()
    assert moved("price BETWEEN 5 AND 300") == set()
    having = "SELECT shop_id FROM product GROUP BY shop_id HAVING count(*) > 5"
    assert unstored(having, "5") == {having + "000"}


IN_NEW_YORK = "SELECT id FROM shop WHERE city = 'New York'"


@pytest.mark.parametrize(
    ("sql", "is_decisive"),
    [
        (f"{IN_NEW_YORK} AND id > 1", True),
        ("SELECT s.id FROM shop AS s WHERE id > 1 AND (id < 9 AND s.city = 'New York')", True),
        ("SELECT name FROM shop WHERE 'New York' = \"city\"", True),
        (f"{IN_NEW_YORK} OR id > 1", False),
        ("SELECT name FROM shop WHERE NOT city = 'New York'", False),
        ("SELECT name FROM shop WHERE city != 'New York'", False),
        ("SELECT count(*) FROM shop WHERE city = 'New York'", True),
        ("SELECT max(name), min(id) FROM shop WHERE city = 'New York'", True),
        # (0, NULL) is neither empty, nor all NULL, nor a single zero
        ("SELECT count(*), max(id) FROM shop WHERE city = 'New York'", False),
        ("SELECT name, count(*) FROM shop WHERE city = 'New York' GROUP BY name", True),
        (f"SELECT 1 FROM product WHERE id IN ({IN_NEW_YORK})", True),
        (f"SELECT 1 FROM product WHERE id NOT IN ({IN_NEW_YORK})", False),
        (f"SELECT 1 FROM product WHERE id > ({IN_NEW_YORK} LIMIT 1)", True),
        (f"SELECT 1 FROM product WHERE id > ({IN_NEW_YORK.replace('id', 'count(*)')})", False),
        (f"{IN_NEW_YORK} INTERSECT SELECT id FROM product", True),
        (f"{IN_NEW_YORK} UNION SELECT id FROM product", False),
        (f"SELECT id FROM product EXCEPT {IN_NEW_YORK}", False),
        ("SELECT p.id FROM product p LEFT JOIN shop s ON s.city = 'New York'", False),
        ("SELECT sum(city = 'New York') FROM shop", False),
        ("SELECT CASE WHEN city = 'New York' THEN 1 END FROM shop", False),
    ],
)
def test_only_a_condition_that_empties_the_result_is_changed(connection, sql, is_decisive):
    expected = {sql.replace("New York", part) for part in ("New", "York")} if is_decisive else set()
    assert unstored(sql) == expected
    for mistaken in expected:
        # nothing, NULL or 0
        assert not any(cell for row in connection.execute(mistaken) for cell in row)


def test_the_meant_value_is_told_and_columns_are_spared():
    sql = "SELECT id FROM shop WHERE city = 'New York' AND name = 'Ann Lee'"
    avoid = {("shop", "city")}
    found = unstored_value(sql, SCHEMA, Random(1), said="", avoid=avoid)
    assert found in [
        UnstoredValue(sql=sql.replace("Ann Lee", part), meant="Ann Lee") for part in ("Ann", "Lee")
    ]
    assert unstored(sql, avoid={*avoid, ("shop", "name")}) == set()
    assert unstored("SELECT '", "x") == set()
    # In double quotes a column of the schema is a column, whatever was said.
    assert unstored('SELECT name FROM shop WHERE city = "color"', "color") == set()


@given(value=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=9))
def test_a_wrong_value_is_another_one_in_the_same_place(connection, value):
    literal = "'" + value.replace("'", "''") + "'"
    found = unstored_value(in_city(literal), SCHEMA, Random(1), said=value)
    if found is None:
        return
    assert found.meant == value
    select, written = in_city("'"), found.sql.removeprefix(in_city(""))
    assert found.sql.startswith(select)
    assert connection.execute(f"SELECT {written} = ?", (value,)).fetchone() == (0,)
