"""What is a text in a query, as SQLite itself reads it, and what it is compared with."""

import sqlite3
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from mtsql.mistakes.values import unstored_value
from mtsql.query.clauses import clauses
from mtsql.query.edits import condition_key, flip_case, guessed_columns
from mtsql.query.names import Names, names_of
from mtsql.query.reading import parse_sql
from mtsql.query.same import same_statement
from mtsql.query.texts import Texts, text_conditions, with_single_quotes
from mtsql.schema import Column, EngineName, Schema, Table
from mtsql.shown.stored import lookups

COLUMNS = {"shop": ("id", "name", "city"), "sale": ("shop_id", "color")}


def schema(engine: EngineName = "sqlite") -> Schema:
    tables = tuple(
        Table(name=name, columns=tuple(Column(name=column, type="text") for column in columns))
        for name, columns in COLUMNS.items()
    )
    return Schema(db_id="shops", tables=tables, engine=engine)


SCHEMA = schema()
NAMES = names_of(SCHEMA)


@pytest.fixture(scope="module")
def connection():
    connection = sqlite3.connect(":memory:")
    for table, columns in COLUMNS.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    shops = [(1, "Apex", "Oslo"), (2, "Cove", "Bari"), (3, "Bolt", "Oslo")]
    connection.executemany("INSERT INTO shop VALUES (?, ?, ?)", shops)
    connection.executemany("INSERT INTO sale VALUES (?, ?)", [(1, "Oslo"), (2, "Red")])
    yield connection
    connection.close()


def texts(sql: str, names: Names | None = NAMES) -> list[str]:
    """The words in double quotes that are read as texts."""
    tree = parse_sql(sql)
    assert tree is not None
    known = Texts(tree, sql, names)
    return [column.name for column in tree.find_all(exp.Column) if known.is_text(column)]


@pytest.mark.parametrize("word", ["city", "CITY", "color", "town", "n", "count(*)", "x"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM shop WHERE city = {}",
        "SELECT name FROM shop WHERE city LIKE {}",
        "SELECT name FROM shop WHERE city IN ('x', {})",
        "SELECT name FROM shop JOIN sale ON city = {}",
        "SELECT s.city AS town FROM shop AS s JOIN sale ON s.city = {}",
        "SELECT name FROM shop, (SELECT city AS town FROM shop WHERE id = 2) WHERE name <> {}",
        # An inner query sees the outer one; a derived table does not see its neighbours.
        "SELECT shop_id FROM sale WHERE EXISTS (SELECT 1 FROM shop WHERE city = {})",
        "SELECT color FROM sale JOIN (SELECT id FROM shop WHERE city = {}) AS d",
        "SELECT (SELECT max(name) FROM shop WHERE city = {}) FROM sale",
        # Outputs have names of their own, for all clauses but their own list.
        "SELECT city AS town, name = {} FROM shop",
        "SELECT city AS town FROM shop WHERE city = {}",
        "SELECT city AS town, count(*) AS n FROM shop GROUP BY city HAVING city = {}",
        "SELECT id, city AS town FROM shop ORDER BY {}, id DESC",
        "SELECT max(id), city AS town FROM shop GROUP BY {}",
        "SELECT id, city AS town FROM shop UNION SELECT 9, 'y' ORDER BY {}",
        "SELECT count(*) AS n FROM shop WHERE city = {}",
        "SELECT 1 FROM (SELECT count(*), city FROM shop GROUP BY 2) WHERE city = {}",
        "SELECT 1 FROM (SELECT city AS town FROM shop) AS d WHERE town = {}",
        "SELECT 1 FROM (SELECT * FROM shop) AS d WHERE name <> {}",
        "SELECT 1 FROM (SELECT s.* FROM shop AS s, sale AS n) AS d WHERE city = {}",
        "SELECT 1 FROM (SELECT id FROM shop UNION SELECT city FROM shop) AS d WHERE id = {}",
        "WITH c (n, town) AS (SELECT id, city FROM shop) SELECT n FROM c WHERE town = {}",
        "WITH c AS (SELECT city AS town FROM shop) SELECT 1 FROM c WHERE town = {}",
        "WITH c AS (SELECT id FROM shop WHERE city = {}) SELECT id, color FROM c, sale",
        "WITH a AS (SELECT * FROM shop), c AS (SELECT * FROM a) SELECT 1 FROM c WHERE city = {}",
        "WITH shop AS (SELECT 'Oslo' AS town) SELECT 1 FROM shop WHERE town = {}",
        "WITH RECURSIVE c AS (SELECT 1 AS n UNION SELECT n + 1 FROM c WHERE n < 3)"
        " SELECT n FROM c WHERE n <> {}",
        "SELECT 1 FROM (shop JOIN sale ON id = shop_id) WHERE color = {}",
        "SELECT CASE WHEN city = {} THEN 1 END FROM shop",
        "SELECT CASE city WHEN {} THEN 1 END FROM shop",
    ],
)  # fmt: skip
def test_a_word_in_double_quotes_is_what_sqlite_takes_it_for(connection, sql, word):
    def program(mark):
        try:
            written = sql.format(f"{mark}{word}{mark}")
            return connection.execute(f"EXPLAIN {written}").fetchall()
        except sqlite3.OperationalError:
            return mark  # no output is called so, where only one may stand

    is_text = program("'") == program('"')
    assert texts(sql.format(f'"{word}"')) == [word] * is_text


@pytest.mark.parametrize("mark", ["``", "[]"])
def test_backticks_and_brackets_hold_names(mark):
    assert texts(f"SELECT name FROM shop WHERE city = {mark[0]}Oslo{mark[1]}") == []


def test_what_is_no_text_whatever_it_is_called():
    assert texts('SELECT shop."Oslo" FROM shop') == []
    assert texts('SELECT 1 FROM shop ORDER BY city COLLATE "nocase"') == []
    # A table's row has a name without being told.
    assert texts('SELECT 1 FROM shop WHERE city = "rowid"') == []
    assert texts('SELECT 1 FROM shop, sale WHERE city = "rowid"') == ["rowid"]
    # The schema does not tell what columns these have.
    assert texts('SELECT 1 FROM elsewhere WHERE city = "Oslo"') == []
    assert texts("SELECT 1 FROM json_each('[1]') WHERE type = \"value\"") == []


def test_other_engines_take_it_for_a_name():
    sql = 'SELECT name FROM shop WHERE city = "oslo"'
    for engine in ("duckdb", "postgresql"):
        other = schema(engine)
        assert texts(sql, names_of(other)) == []
        assert lookups(sql, other) == ()
        assert [one.sql for one in lookups(sql.replace('"', "'"), other)] == [
            'SELECT DISTINCT "city" FROM "shop" WHERE CAST("city" AS VARCHAR) ILIKE \'%oslo%\''
            " ESCAPE '\\' LIMIT 3"
        ]


def test_without_a_schema_the_place_tells():
    assert texts('SELECT "name" FROM shop WHERE "city" = "Oslo" AND "Rome" <> city', None) == [
        "Oslo",
        "Rome",
    ]
    assert texts('SELECT city AS "x" FROM shop WHERE city = "x" ORDER BY "x"', None) == []


CONDITIONS = {
    "city = {}": "=",
    "city == {}": "=",
    "city IS {}": "=",
    "city IN ({})": "=",
    "city IN ('x', {})": "=",
    "(city) = ({})": "=",
    "{} = city": "=",
    "(name, city) = ('x', {})": "=",
    "CASE city WHEN {} THEN 1 END": "=",
    "id IN (SELECT id FROM shop AS i WHERE i.city = {})": "=",
    "{} IN (SELECT city FROM shop)": "",
    "city != {}": "<>",
    "city <> {}": "<>",
    "city IS NOT {}": "<>",
    "city NOT IN ({})": "<>",
    "NOT (city = {} OR id = 1)": "<>",
    "city LIKE {}": "",
    "city NOT LIKE {}": "",
    "city LIKE '%' || {} || '%'": "",
    "city GLOB {}": "",
    "city BETWEEN {} AND 'x'": "",
    "city BETWEEN 'A' AND {}": "",
    "city > {}": "",
    "city COLLATE NOCASE = {}": "",
    "city = {} COLLATE NOCASE": "",
    "lower(city) = {}": "",
    "trim(upper(city)) = upper({})": "",
    "CAST(city AS TEXT) = {}": "",
    "substr(city, 1, 4) = {}": "",
    "ifnull(city, '') = {}": "",
    "(SELECT max(city) FROM shop) = {}": "",
}  # fmt: skip
"""Each with what it says of the stored spelling: equal, unequal, nothing."""


@pytest.mark.parametrize("mark", ["'", '"'])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM shop WHERE {}",
        "SELECT name FROM shop JOIN sale ON id = shop_id AND {}",
        "SELECT name FROM shop GROUP BY id HAVING {}",
        "SELECT sum({}) FROM shop",
        "SELECT name FROM (SELECT * FROM shop) AS shop WHERE {}",
        "WITH shops AS (SELECT id, city, name FROM shop) SELECT name FROM shops WHERE {}",
    ],
)  # fmt: skip
def test_a_text_is_found_whatever_compares_it_with_a_column(connection, sql, condition, mark):
    sql = sql.format(condition.format(f"{mark}Bari{mark}"))
    connection.execute(sql)
    [found] = [one for one in text_conditions(sql, NAMES) if one.value == "Bari"]
    assert found.column == ("shop", "city")
    assert sql[found.start : found.end] == f"{mark}Bari{mark}"
    said = ("<>" if found.is_negated else "=") if found.looks_at_case else ""
    assert said == CONDITIONS[condition]
    assert [one.sql for one in lookups(sql, SCHEMA) if "Bari" in one.sql] == [
        'SELECT DISTINCT "city" FROM "shop" WHERE "city" LIKE \'%Bari%\' ESCAPE \'\\\' LIMIT 3'
    ]
    flipped = flip_case(sql, {("shop", "city")}, names=NAMES)
    assert ("BARI" in flipped) is bool(said)
    assert (("shop", "city") in guessed_columns(sql, names=NAMES)) is (said == "=")


@pytest.mark.parametrize(
    "condition",
    ["city || name = 'Bari'", "length(city) = 'Bari'", "'Bari' = 'Oslo'", "city = shop.name"],
)
def test_a_text_that_no_single_column_is_compared_with_is_none(condition):
    assert text_conditions(f"SELECT 1 FROM shop WHERE {condition}", NAMES) == ()


def test_a_column_is_followed_to_where_it_is_stored():
    for sql in (
        "SELECT city AS town FROM shop WHERE town = 'x'",
        "SELECT 1 FROM (SELECT lower(city) AS town FROM shop) WHERE town = 'x'",
        "SELECT 1 FROM sale WHERE EXISTS (SELECT 1 FROM shop AS s, sale WHERE s.city = 'x')",
        "SELECT 1 FROM shop WHERE EXISTS (SELECT 1 FROM sale WHERE city = 'x')",
        "WITH c (n, town) AS (SELECT id, city FROM shop) SELECT n FROM c AS d WHERE d.town = 'x'",
        "WITH a AS (SELECT * FROM shop, sale), c AS (SELECT a.* FROM a) SELECT 1 FROM c"
        " WHERE city = 'x'",
    ):
        [found] = text_conditions(sql, NAMES)
        assert found.column == ("shop", "city")
    # It is computed, or of a CTE that reads itself.
    for sql in (
        "SELECT 1 FROM (SELECT city || name AS town FROM shop) AS d WHERE town = 'x'",
        "WITH RECURSIVE c AS (SELECT * FROM c) SELECT 1 FROM c WHERE city = 'x'",
    ):
        assert lookups(sql, SCHEMA) == ()


def test_a_chain_of_doubled_names_is_read_in_no_time():
    chain = ["a0 AS (SELECT * FROM shop)"]
    chain += [f"a{n} AS (SELECT l.* FROM a{n - 1} AS l, a{n - 1} AS r)" for n in range(1, 25)]
    sql = f'WITH {", ".join(chain)} SELECT 1 FROM a24 WHERE city = "Oslo"'
    assert texts(sql) == ["Oslo"]
    assert [one.column for one in text_conditions(sql, NAMES)] == [("shop", "city")]


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
KNOWN = {column for columns in COLUMNS.values() for column in columns} | {"rowid", "oid", "_rowid_"}


@settings(max_examples=40)
@given(
    word=WORDS.filter(lambda word: word.lower() not in KNOWN),
    condition=st.sampled_from(sorted(CONDITIONS)),
)
def test_either_quote_says_the_same_where_no_column_is_called_so(word, condition):
    def written(mark):
        literal = mark + word.replace(mark, mark * 2) + mark
        return f"SELECT name FROM shop WHERE {condition.format(literal)}"

    def facts(sql):
        mistake = unstored_value(sql, SCHEMA, Random(1), said=word)
        flipped = flip_case(sql, {("shop", "city")}, names=NAMES)
        found = [(one.column, one.value, one.looks_at_case) for one in text_conditions(sql, NAMES)]
        return (
            found,
            lookups(sql, SCHEMA),
            guessed_columns(sql, names=NAMES),
            clauses(sql, NAMES),
            clauses(sql, NAMES, with_values=False),
            mistake and mistake.meant,
            *(clauses(one, NAMES) for one in (flipped, mistake.sql if mistake else "")),
        )

    assert facts(written("'")) == facts(written('"'))


def test_by_their_place_both_quotes_say_the_same():
    for condition in (
        "city = {}", "city IS {}", "city IS NOT {}", "city LIKE {}", "city NOT IN (1, {})",
        "city BETWEEN {} AND {}", "city GLOB {}", "city != ( {} )",
    ):  # fmt: skip
        sql = f'SELECT 1 FROM shop WHERE {condition} ORDER BY "city"'
        single, double = (sql.replace("{}", word) for word in ("'St J''s'", '"St J\'s"'))
        assert same_statement(single, double)
        assert with_single_quotes(double) == single
    assert not same_statement("SELECT 'city' FROM shop", 'SELECT "city" FROM shop')
    assert condition_key('shop.City =  "New York"') == condition_key("city = 'New York'")


@pytest.mark.parametrize(
    ("condition", "sought"),
    [
        ("LIKE '%york%'", "york"),
        ("LIKE 'new%york'", "york"),
        ("LIKE 'J_hansen'", "hansen"),
        ("LIKE '100!%_%' ESCAPE '!'", "100\\%"),
        ("LIKE '!_a!!' ESCAPE '!'", "\\_a!"),
        ("GLOB '*[Nn]ew Y?rk*'", "ew Y"),
        ("= '100%'", "100\\%"),
        ("= 'MÜNCHEN'", "M_NCHEN"),
    ],
)
def test_a_pattern_is_looked_up_without_its_wildcards(condition, sought):
    [found] = lookups(f"SELECT 1 FROM shop WHERE city {condition}", SCHEMA)
    assert f"LIKE '%{sought}%' ESCAPE" in found.sql
    assert lookups("SELECT 1 FROM shop WHERE city LIKE '%_%'", SCHEMA) == ()


def test_a_long_list_is_looked_up_in_part():
    values = ", ".join(f"'v{n}'" for n in range(100))
    assert len(lookups(f"SELECT 1 FROM shop WHERE city IN ({values})", SCHEMA)) == 8
