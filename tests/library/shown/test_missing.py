"""Names that are not there, with SQLite's own messages."""

import sqlite3
from contextlib import closing

import pytest

from mtsql.schema import Column, EngineName, Schema, Table
from mtsql.shown.missing import MAX_NAMES, missing_name

TABLES = {"shop": ("id", "Name"), "sale": ("shop_id", "color")}


def schema(engine: EngineName = "sqlite") -> Schema:
    tables = tuple(
        Table(name=name, columns=tuple(Column(name=column, type="text") for column in columns))
        for name, columns in TABLES.items()
    )
    return Schema(db_id="shops", tables=tables, engine=engine)


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        # The column is another table's, whatever it is called.
        ("SELECT color FROM shop", {"found_in": ["sale"]}),
        ("SELECT s.COLOR FROM shop AS s", {"found_in": ["sale"]}),
        ("SELECT shop.color FROM shop JOIN sale", {"found_in": ["sale"]}),
        # No table has it: the columns of the one that was named, or of all that are read.
        ("SELECT s.price FROM shop AS s JOIN sale", {"columns_of": {"shop": ["id", "Name"]}}),
        (
            "SELECT price FROM shop WHERE id IN (SELECT shop_id FROM Sale)",
            {"columns_of": {"shop": ["id", "Name"], "sale": ["shop_id", "color"]}},
        ),
        ('SELECT "s"."a - b" FROM shop AS s', {"columns_of": {"shop": ["id", "Name"]}}),
        ("SELECT id FROM shops", {"tables": ["shop", "sale"]}),
        # The view of a chain is no table of the schema.
        ("WITH v AS (SELECT 1 AS one) SELECT v.two FROM v", {}),
        ("SELECT id FROM", {}),
        ("SELECT count(id, id, id) FROM shop", {}),
    ],
)
def test_an_error_about_a_name_tells_where_to_look(sql: str, shown: dict[str, object]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(sql)
    message = str(caught.value)
    kind = {"no such column": "no_such_column", "no such table": "no_such_table"}
    kind = kind.get(message.partition(":")[0], "syntax")
    assert missing_name(sql, kind, message, schema()) == shown
    # Other engines name candidates themselves.
    assert missing_name(sql, kind, message, schema("duckdb")) == {}


def test_a_name_in_double_quotes_is_found_behind_the_question_of_sqlite() -> None:
    # What SQLite 3.41 and later say where double quotes never mean a text.
    message = 'no such column: "color" - should this be a string literal in single-quotes?'
    assert missing_name('SELECT "color" FROM shop', "no_such_column", message, schema()) == {
        "found_in": ["sale"]
    }


def test_long_lists_are_cut() -> None:
    columns = tuple(Column(name=f"c{number}", type="text") for number in range(40))
    wide = Schema(db_id="wide", tables=(Table(name="t", columns=columns),))
    shown = missing_name("SELECT x FROM t", "no_such_column", "no such column: x", wide)
    assert shown == {"columns_of": {"t": [f"c{number}" for number in range(MAX_NAMES)]}}
