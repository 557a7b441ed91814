"""Schemas read out of databases of every engine; those of SQLite stand in test_readers."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.shops import write_shops
from mtsql.data.reflect import reflect
from mtsql.errors import DataError
from mtsql.schema import Column, EngineName, ForeignKey, Schema, Table
from mtsql.shown.schema import compact_schema, full_schema, m_schema
from mtsql.sql.quoting import needs_quotes, quote_name

if TYPE_CHECKING:
    from helpers.postgres_server import PostgresServer


def test_a_duckdb_file_has_its_types_and_keys(tmp_path: Path) -> None:
    path = tmp_path / "shops.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE shop (id INTEGER PRIMARY KEY, name VARCHAR)")
        connection.execute("CREATE TABLE sale (price DOUBLE, shop_id INT REFERENCES shop (id))")
    schema = reflect("shops", path)
    assert schema.tables == (
        Table(
            name="shop",
            columns=(
                Column(name="id", type="integer", is_primary=True),
                Column(name="name", type="varchar"),
            ),
        ),
        Table(
            name="sale",
            columns=(Column(name="price", type="double"), Column(name="shop_id", type="integer")),
        ),
    )
    assert schema.foreign_keys == (
        ForeignKey(table="sale", column="shop_id", ref_table="shop", ref_column="id"),
    )
    assert reflect("shops", f"duckdb:///{path}") == schema


def test_a_url_of_a_file_is_that_file(tmp_path: Path) -> None:
    path = write_shops(tmp_path / "shops.sqlite")
    assert reflect("shops", f"sqlite:///{path}") == reflect("shops", path)


@pytest.mark.postgres
def test_a_server_is_read_as_its_reader(postgres: "PostgresServer") -> None:
    [pet] = [table for table in reflect("pets", postgres.reader_url).tables if table.name == "pet"]
    assert [column.name for column in pet.columns][:2] == ["id", "name"]


def test_a_server_that_is_down_is_named_without_its_url() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DataError) as caught:
        reflect("pets", "postgresql://me:secret@127.0.0.1:1/pets")
    assert str(caught.value).startswith("pets: the server's schema cannot be read")
    assert "secret" not in str(caught.value)


ODD_SQLITE = """
CREATE TABLE shop (id INTEGER PRIMARY KEY, a INT, b INT GENERATED ALWAYS AS (a + 1) VIRTUAL);
CREATE VIRTUAL TABLE note USING fts5(body);
CREATE VIRTUAL TABLE place USING rtree(id, low, high);
CREATE TABLE key_only (k TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE gone (x);
CREATE VIEW rich AS SELECT a, b FROM shop;
CREATE VIEW broken AS SELECT x FROM gone;
CREATE VIEW uncallable AS SELECT nosuch(a) AS n FROM shop;
CREATE TEMP TABLE mine (x);
CREATE INDEX by_a ON shop (a);
DROP TABLE gone;
ANALYZE;
PRAGMA writable_schema = ON;
INSERT INTO sqlite_master VALUES ('table', 'absent', 'absent', 0,
    'CREATE VIRTUAL TABLE absent USING nosuch(x)');
"""


def test_sqlite_shows_what_queries_can_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(ODD_SQLITE)
    schema = reflect("odd", path)
    assert full_schema(schema).splitlines() == [
        "shop(id integer primary key, a integer, b integer)",
        "note(body others)",
        "place(id integer, low real, high real)",
        "key_only(k text primary key)",
        "counted(id integer primary key)",
        "rich(a integer, b integer)",
    ]
    assert [one.partition(":")[0] for one in schema.left_out] == ["broken", "uncallable", "absent"]
    assert schema.left_out[0] == "broken: no such table: main.gone"
    assert schema.left_out[2] == "absent: no such module: nosuch"


def test_duckdb_shows_all_its_schemas_and_no_broken_view(tmp_path: Path) -> None:
    path = tmp_path / "odd.duckdb"
    (tmp_path / "x.csv").write_text("a\n1\n")
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"""
            CREATE SCHEMA sales;
            CREATE TABLE sales."Order" (id INT PRIMARY KEY, gross INT AS (id + 1));
            CREATE TABLE sales.item (order_id INT REFERENCES sales."Order" (id));
            CREATE TABLE shop (id INT PRIMARY KEY);
            CREATE TABLE sales.shop (city TEXT);
            CREATE TABLE gone (x INT);
            CREATE VIEW rich AS SELECT id FROM shop;
            CREATE VIEW sales.broken AS SELECT x FROM main.gone;
            CREATE VIEW csv AS SELECT a FROM read_csv('{tmp_path}/x.csv');
            CREATE TEMP TABLE mine (x INT);
            DROP TABLE gone;
            ATTACH ':memory:' AS other;
            CREATE TABLE other.far (x INT);
            CREATE VIEW far AS SELECT x FROM other.far;
        """)
    schema = reflect("odd", path)
    assert full_schema(schema).splitlines() == [
        "shop(id integer primary key)",
        "rich(id integer)",
        'sales."Order"(id integer primary key, gross integer)',
        "sales.shop(city varchar)",
        'sales.item(order_id integer -> sales."Order".id)',
    ]
    assert [one.partition(":")[0] for one in schema.left_out] == ["csv", "far", "sales.broken"]


@pytest.mark.postgres
def test_postgres_shows_every_kind_once(postgres: "PostgresServer") -> None:
    postgres.admin("""
        DROP SCHEMA IF EXISTS kinds CASCADE;
        CREATE SCHEMA kinds;
        GRANT USAGE ON SCHEMA kinds TO mtsql_reader;
        SET search_path = kinds;
        CREATE TABLE "Sale" (id INT PRIMARY KEY, "order" INT, "Sold On" DATE);
        CREATE TABLE parted (id INT, year INT) PARTITION BY RANGE (year);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9);
        CREATE VIEW v AS SELECT id FROM "Sale";
        CREATE MATERIALIZED VIEW m AS SELECT id FROM "Sale";
        CREATE MATERIALIZED VIEW unfilled AS SELECT id FROM "Sale" WITH NO DATA;
        CREATE FOREIGN DATA WRAPPER nothing;
        CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
        CREATE FOREIGN TABLE far (x INT) SERVER nowhere;
        CREATE TEMP TABLE mine (x INT);
        GRANT SELECT ON ALL TABLES IN SCHEMA kinds TO mtsql_reader;
        CREATE TABLE closed (x INT);
    """)
    try:
        url = f"{postgres.reader_url}&options=-csearch_path%3Dkinds"
        schema = reflect("kinds", url)
    finally:
        postgres.admin("DROP SCHEMA kinds CASCADE; DROP FOREIGN DATA WRAPPER nothing CASCADE")
    assert full_schema(schema).splitlines() == [
        '"Sale"(id integer primary key, "order" integer, "Sold On" date)',
        "far(x integer)",
        "m(id integer)",
        "parted(id integer, year integer)",
        "v(id integer)",
    ]
    assert schema.left_out == (
        "closed: this role may not read it",
        "unfilled: it has not been populated",
    )


@pytest.mark.postgres
def test_postgres_quotes_what_its_own_quote_ident_does(postgres: "PostgresServer") -> None:
    words = [row[0] for row in postgres.admin("SELECT word FROM pg_get_keywords()")]
    for word in [*words, "shop", "Shop", "a b", "a.b", "1a", "a$", "é", "_x"]:
        [(quoted,)] = postgres.admin(f"SELECT quote_ident('{word}')")
        assert (quoted != word) is needs_quotes(word, "postgresql")


ODD_NAMES = Schema(
    db_id="shops",
    tables=(
        Table(
            name="Order Details",
            columns=(Column(name="order", type="text"), Column(name='a "b"', type="text")),
        ),
        Table(name="a.b", columns=(Column(name="two  blanks", type="text"),)),
    ),
    foreign_keys=(
        ForeignKey(
            table="a.b", column="two  blanks", ref_table="Order Details", ref_column="order"
        ),
    ),
)


def test_names_stand_in_the_quotes_that_a_query_needs() -> None:
    assert compact_schema(ODD_NAMES) == (
        '"Order Details" : "order" , "a ""b""" | "a.b" : "two  blanks" = "Order Details"."order"'
    )
    assert full_schema(ODD_NAMES).splitlines() == [
        '"Order Details"("order" text, "a ""b""" text)',
        '"a.b"("two  blanks" text -> "Order Details"."order")',
    ]
    lines = m_schema(ODD_NAMES, {("a.b", "two  blanks"): ["1"]}).splitlines()
    assert lines[2] == '# Table: "Order Details"'
    assert lines[9] == '("two  blanks":TEXT, Examples: [1])'
    assert lines[-1] == '"a.b"."two  blanks"="Order Details"."order"'


NAMES = st.one_of(
    st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8
    ),
    st.sampled_from(
        [
            "order",
            "group",
            "key",
            "desc",
            "left",
            "cross",
            "values",
            "current_date",
            "true",
            "map",
            "end",
            "A",
            "É",
        ]
    ),
)


@settings(max_examples=60)
@given(name=NAMES)
def test_a_name_is_read_as_it_is_shown(name: str) -> None:
    """Of a table and of its column, by the engine itself."""
    quoted = quote_name(name)
    with closing(sqlite3.connect(":memory:")) as sqlite, duckdb.connect() as duck:
        connections: dict[EngineName, Any] = {"sqlite": sqlite, "duckdb": duck}
        for engine, connection in connections.items():
            if name.lower().startswith("sqlite_"):
                continue
            shown = quoted if needs_quotes(name, engine) else name
            connection.execute(f"CREATE TABLE {quoted} ({quoted} INT)")
            connection.execute(f"INSERT INTO {quoted} VALUES (7)")
            sql = f"SELECT {shown} FROM {shown} WHERE {shown} = 7 GROUP BY {shown}"
            assert connection.execute(sql).fetchall() == [(7,)]
