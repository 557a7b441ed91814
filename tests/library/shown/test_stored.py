"""What the environment says when a text value is looked for in vain."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.schema import Column, Schema, Table
from mtsql.shown.stored import lookups

SCHEMA = Schema(
    db_id="shops",
    tables=(
        Table(
            name="shop",
            columns=(Column(name="id", type="number"), Column(name="city", type="text")),
        ),
        Table(
            name="worker",
            columns=(
                Column(name="id", type="number"),
                Column(name="shop_id", type="number"),
                Column(name="job", type="text"),
            ),
        ),
    ),
)


def stored(sql: str, *cities: str) -> list[list[str]]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE shop (id, city)")
    connection.executemany("INSERT INTO shop VALUES (1, ?)", [(city,) for city in cities])
    return [[row[0] for row in connection.execute(lookup.sql)] for lookup in lookups(sql, SCHEMA)]


def test_another_case_is_found():
    sql = "SELECT id FROM shop WHERE city = 'rome'"
    assert [lookup.column for lookup in lookups(sql, SCHEMA)] == ["city"]
    assert stored(sql, "ROME", "PARIS") == [["ROME"]]


def test_a_part_of_a_value_is_found_and_the_number_is_bounded():
    values = ["New York 1", "New York 2", "New York 3", "New York 4"]
    assert stored("SELECT id FROM shop WHERE city = 'new york'", *values) == [values[:3]]


def test_nothing_like_it_is_nothing():
    assert stored("SELECT id FROM shop WHERE city = 'Oslo'", "ROME") == [[]]


def test_wildcards_in_the_value_are_plain_characters():
    assert stored("SELECT id FROM shop WHERE city = '100%_'", "100%_x", "1000 y") == [["100%_x"]]


def test_the_table_is_found_behind_an_alias():
    sql = "SELECT s.id FROM shop AS s JOIN worker AS w ON w.shop_id = s.id WHERE s.city = 'rome'"
    assert [lookup.sql for lookup in lookups(sql, SCHEMA)] == [
        'SELECT DISTINCT "city" FROM "shop" WHERE "city" LIKE \'%rome%\' ESCAPE \'\\\' LIMIT 3'
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM shop WHERE id = 3",
        "SELECT id FROM shop WHERE town = 'rome'",
        "SELECT FROM WHERE",
        "SELECT id FROM shop WHERE city = ''",
    ],
)
def test_no_text_condition_that_the_schema_knows_no_lookup(sql):
    assert lookups(sql, SCHEMA) == ()


@given(st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1, max_size=12))
def test_any_value_finds_itself(value):
    quoted = value.replace("'", "''")
    found = stored(f"SELECT id FROM shop WHERE city = '{quoted}'", value)
    assert found in ([[value]], [])  # [] when sqlglot reads no such literal, or it is blank
