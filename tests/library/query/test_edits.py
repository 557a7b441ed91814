"""Mistakes as edits of SQL text."""

import sqlite3
from random import Random

import pytest

from mtsql.query.edits import (
    condition_keys,
    dropped_condition,
    flip_case,
    guessed_columns,
    other_case,
    wrong_column,
)
from mtsql.query.texts import text_conditions
from mtsql.schema import Column, Schema, Table

SCHEMA = Schema(
    db_id="shops",
    tables=tuple(
        Table(name=name, columns=tuple(Column(name=column, type="text") for column in columns))
        for name, columns in {
            "shop": ("id", "name", "city"),
            "product": ("id", "shop_id", "name", "color", "price"),
        }.items()
    ),
)
JOIN = (
    "SELECT T1.name FROM shop AS T1 JOIN product ON T1.id = product.shop_id "
    "WHERE product.color = 'Blue' AND T1.city = 'NEW YORK' AND price BETWEEN 3 AND 5"
)
NESTED = (
    "SELECT name FROM shop WHERE city = 'Rome' AND id IN "
    "(SELECT shop_id FROM product WHERE color = 'Blue' AND price > 5) ORDER BY name"
)
COMBINED = (
    "SELECT name FROM shop WHERE city = 'Rome' INTERSECT SELECT name FROM shop WHERE city = 'OSLO'"
)


@pytest.fixture
def connection():
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE shop (id, name, city)")
        connection.execute("CREATE TABLE product (id, shop_id, name, color, price)")
    yield connection
    connection.close()


def test_case_flips_and_flips_back():
    pairs = [("Rome", "ROME"), ("New York", "NEW YORK"), ("Los  Angeles", "LOS  ANGELES")]
    for title, upper in pairs:
        assert other_case(title) == upper
        assert other_case(upper) == title
    assert other_case("2010") == "2010"


def test_text_conditions_know_their_column_through_aliases_and_subqueries():
    assert [condition.column for condition in text_conditions(JOIN)] == [
        ("product", "color"),
        ("shop", "city"),
    ]
    assert [condition.column for condition in text_conditions(NESTED)] == [
        ("shop", "city"),
        ("product", "color"),
    ]
    for condition in text_conditions(JOIN):
        assert JOIN[condition.start : condition.end] == f"'{condition.value}'"
    swapped = text_conditions("SELECT name FROM shop WHERE 'Rome' = city")
    assert [(one.column, one.value) for one in swapped] == [(("shop", "city"), "Rome")]
    assert text_conditions("SELECT FROM WHERE (") == ()


def flipped(sql, *, known=()):
    return flip_case(sql, guessed_columns(sql, known=known))


def test_a_flip_changes_the_literals_only():
    assert flipped(JOIN) == JOIN.replace("Blue", "BLUE").replace("NEW YORK", "New York")
    assert flipped(flipped(JOIN)) == JOIN
    quoted = "SELECT name FROM shop WHERE city = 'St John''s' AND  name='x'"
    assert flipped(quoted) == "SELECT name FROM shop WHERE city = 'ST JOHN''S' AND  name='X'"


def test_a_case_flips_to_what_the_question_says():
    sql = "SELECT name FROM shop WHERE city = 'New York'"
    spelt = {
        question: flip_case(sql, [("shop", "city")], question=question)
        for question in ("those in new york ?", "those in New York", "in newer new yorks", "")
    }
    assert spelt == {
        "those in new york ?": sql.replace("New York", "new york"),
        **dict.fromkeys(
            ("those in New York", "in newer new yorks", ""), sql.replace("New York", "NEW YORK")
        ),
    }


def test_known_columns_and_values_without_a_case_are_no_guess():
    known = {("shop", "city")}
    assert flipped(JOIN, known=known) == JOIN.replace("Blue", "BLUE")
    assert guessed_columns(JOIN, known={*known, ("product", "color")}) == []
    assert guessed_columns("SELECT name FROM shop WHERE city = '2010'") == []
    assert guessed_columns("SELECT name FROM shop WHERE id = 3") == []


def test_values_of_one_column_flip_together():
    both = COMBINED.replace("Rome", "ROME").replace("OSLO", "Oslo")
    assert guessed_columns(COMBINED) == [("shop", "city")]
    assert flip_case(COMBINED, [("shop", "city")]) == both


def test_wrong_column_names_one_that_the_query_cannot_see(connection):
    sql = "SELECT name, city FROM shop WHERE city = 'Rome'"
    found = {wrong_column(sql, SCHEMA, Random(seed)) for seed in range(40)}
    assert "SELECT color, city FROM shop WHERE city = 'Rome'" in found
    assert "SELECT name, city FROM shop WHERE price = 'Rome'" in found
    assert len(found) == 9  # three places, and color, price, shop_id of the other table
    for mistaken in found:
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            connection.execute(mistaken)


def test_wrong_column_falls_back_on_a_near_name(connection):
    mistaken = {wrong_column(JOIN, SCHEMA, Random(seed)) for seed in range(40)}
    assert JOIN.replace("product.color", "product.color_name") in mistaken
    for sql in mistaken:
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            connection.execute(sql)


def test_wrong_column_never_hides_behind_double_quotes(connection):
    # SQLite reads an unknown name in double quotes as text, which is no error.
    sql = wrong_column('SELECT "name" FROM shop', SCHEMA, Random(1))
    assert sql is not None
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        connection.execute(sql)
    assert wrong_column("SELECT count(*) FROM shop", SCHEMA, Random(1)) is None


def test_dropped_condition_leaves_valid_sql():
    options = {dropped_condition(JOIN, Random(seed)) for seed in range(40)}
    assert options == {
        JOIN.replace("product.color = 'Blue' AND ", ""),
        JOIN.replace(" AND T1.city = 'NEW YORK'", ""),
        JOIN.replace(" AND price BETWEEN 3 AND 5", ""),
    }
    options = {dropped_condition(NESTED, Random(seed)) for seed in range(40)}
    assert options == {
        NESTED.replace("city = 'Rome' AND ", ""),
        "SELECT name FROM shop WHERE city = 'Rome' ORDER BY name",
        NESTED.replace("color = 'Blue' AND ", ""),
        NESTED.replace(" AND price > 5", ""),
    }


def test_the_only_condition_goes_with_its_where():
    first = "SELECT name FROM shop INTERSECT SELECT name FROM shop WHERE city = 'OSLO'"
    second = "SELECT name FROM shop WHERE city = 'Rome' INTERSECT SELECT name FROM shop"
    assert {dropped_condition(COMBINED, Random(seed)) for seed in range(20)} == {first, second}


def test_only_conditions_of_the_dialogue_are_forgotten():
    earlier = condition_keys("SELECT count(*) FROM shop WHERE shop.city  = 'NEW YORK'")
    assert earlier == {"city = 'NEW YORK'"}
    dropped = dropped_condition(JOIN, Random(1), among=earlier)
    assert dropped == JOIN.replace(" AND T1.city = 'NEW YORK'", "")
    assert dropped_condition(JOIN, Random(1), among=()) is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM shop",
        "SELECT name FROM shop WHERE city = 'A' OR city = 'B'",
        "SELECT '",
        "",
    ],
)
def test_nothing_to_forget(sql):
    assert dropped_condition(sql, Random(1)) is None
