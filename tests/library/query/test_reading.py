"""Reading SQL: what cannot be read is None, whatever it is, and what quotes mean to SQLite."""

import sqlite3

from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from mtsql.query.reading import parse_query, parse_sql, tokens_of
from mtsql.sql.quoting import quote_name, quote_text

DEEP = "SELECT name FROM shop WHERE id = " + "(" * 80 + "1" + ")" * 80
"""SQLite runs it; sqlglot meets Python's limit on recursion."""


def test_what_is_nested_too_deeply_cannot_be_read():
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE shop (id, name)")
        assert connection.execute(DEEP).fetchall() == []
    connection.close()
    assert parse_sql(DEEP) is None
    assert parse_query(DEEP) is None


def test_one_query_is_read():
    assert isinstance(parse_query("SELECT 1 -- one\n;"), exp.Select)
    assert isinstance(parse_query("SELECT 1 UNION SELECT 2"), exp.Union)
    for sql in ("", ";", "SELECT 1; SELECT 2", "DROP TABLE shop", "SELECT (", "SELECT 'x"):
        assert parse_query(sql) is None
    assert tokens_of("SELECT 'x") is None


@given(st.text())
def test_no_text_raises(sql):
    parse_sql(sql)
    parse_query(sql)
    tokens_of(sql)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_quoted_names_and_texts_are_read_back(text):
    with sqlite3.connect(":memory:") as connection:
        cursor = connection.execute(f"SELECT {quote_text(text)} AS {quote_name(text)}")
        assert cursor.fetchall() == [(text,)]
        assert cursor.description[0][0] == text
    connection.close()
