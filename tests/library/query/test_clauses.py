"""Clauses, comparison and relevance, checked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.dialogue import PastTurn
from mtsql.query.clauses import clauses
from mtsql.query.compare import compare
from mtsql.query.names import names_of
from mtsql.schema import Column, Schema, Table
from mtsql.shown.memory import relevant_turns

SCHEMA = Schema(
    db_id="shops",
    tables=(
        Table(
            name="shop",
            columns=tuple(Column(name=name, type="text") for name in ("id", "name", "city")),
        ),
        Table(
            name="Sale",
            columns=tuple(Column(name=name, type="number") for name in ("id", "shop_id", "price")),
        ),
    ),
)
NAMES = names_of(SCHEMA)


def texts(sql, clause):
    parts = clauses(sql, NAMES)
    assert parts is not None
    return sorted(element.text for element in getattr(parts, clause))


def differences(before, after):
    old, new = clauses(before, NAMES), clauses(after, NAMES)
    assert old is not None
    assert new is not None
    return [(one.kind, one.clause, one.before, one.after) for one in compare(old, new)]


def test_the_example_of_the_module():
    before = "SELECT name FROM shop WHERE city = 'Paris'"
    after = "SELECT count(*) FROM shop AS s WHERE s.city = 'Rome' LIMIT 3"
    assert differences(before, after) == [
        ("kept", "tables", "shop", "shop"),
        ("dropped", "columns", "shop.name", None),
        ("added", "columns", None, "COUNT(*)"),
        ("changed", "conditions", "shop.city = 'Paris'", "shop.city = 'Rome'"),
        ("added", "limit", None, "3"),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT name FROM shop", "select T1.NAME FROM Shop AS T1;"),
        ("SELECT name, city FROM shop", "SELECT city AS c, name FROM shop"),
        (
            "SELECT name FROM shop WHERE city = 'A' AND id > 3",
            "SELECT name FROM shop WHERE 3 < id AND ('A' = city)",
        ),
        (
            "SELECT name FROM shop WHERE city = 'A' OR id > 3",
            "SELECT name FROM shop WHERE id > 3 OR city = 'A'",
        ),
        ("SELECT id FROM shop WHERE city IN (1, 2)", "SELECT id FROM shop WHERE city IN (2, 1)"),
        ('SELECT id FROM shop WHERE city = "A"', "SELECT id FROM shop WHERE city = 'A'"),
        ("SELECT id FROM shop WHERE city != 'A'", "SELECT id FROM shop WHERE city <> 'A'"),
        (
            "SELECT name FROM shop JOIN sale ON shop.id = sale.shop_id",
            "SELECT T2.name FROM sale AS T1 JOIN shop AS T2 ON T2.id = T1.shop_id",
        ),
        (
            "SELECT name FROM shop, sale WHERE shop.id = shop_id AND price > 1",
            "SELECT name FROM shop JOIN sale ON shop.id = shop_id WHERE price > 1",
        ),
        (
            "SELECT city, count(*) AS n FROM shop GROUP BY city ORDER BY n DESC",
            "SELECT city, count(*) FROM shop GROUP BY city ORDER BY count(*) DESC",
        ),
        ("SELECT name FROM shop ORDER BY id", "SELECT name FROM shop ORDER BY id ASC -- why"),
    ],
)
def test_writing_it_differently_changes_nothing(one, other):
    assert {kind for kind, *_ in differences(one, other)} == {"kept"}


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (
            "SELECT id FROM sale WHERE price > 5",
            "SELECT id FROM sale WHERE price <= 7",
            ("changed", "conditions", "sale.price > 5", "sale.price <= 7"),
        ),
        (
            "SELECT id FROM sale ORDER BY price",
            "SELECT id FROM sale ORDER BY price DESC",
            ("changed", "ordering", "sale.price ASC", "sale.price DESC"),
        ),
        (
            "SELECT id FROM sale LIMIT 1",
            "SELECT id FROM sale LIMIT 3",
            ("changed", "limit", "1", "3"),
        ),
        (
            "SELECT city FROM shop GROUP BY city HAVING count(*) > 1",
            "SELECT city FROM shop GROUP BY city HAVING count(*) > 2",
            ("changed", "conditions", "COUNT(*) > 1", "COUNT(*) > 2"),
        ),
        (
            "SELECT id FROM shop",
            "SELECT id FROM shop WHERE id NOT IN (SELECT shop_id FROM sale)",
            ("added", "conditions", None, "NOT shop.id IN (SELECT sale.shop_id FROM sale)"),
        ),
        (
            "SELECT id FROM shop UNION SELECT id FROM sale",
            "SELECT id FROM shop",
            ("dropped", "conditions", "union", None),
        ),
        (
            "SELECT city FROM shop GROUP BY city",
            "SELECT city FROM shop",
            ("dropped", "grouping", "shop.city", None),
        ),
    ],
)
def test_what_differs_is_named(before, after, change):
    assert change in differences(before, after)


def test_order_counts_where_sql_has_it():
    def changes(before, after):
        return [one for one in differences(before, after) if one[0] != "kept"]

    by = "SELECT name FROM shop ORDER BY "
    assert texts(f"{by}city, name DESC", "ordering") == ["2. shop.name DESC", "shop.city ASC"]
    assert changes(f"{by}city, name", f"{by}name, city") == [
        ("dropped", "ordering", "2. shop.name ASC", None),
        ("dropped", "ordering", "shop.city ASC", None),
        ("added", "ordering", None, "2. shop.city ASC"),
        ("added", "ordering", None, "shop.name ASC"),
    ]
    assert changes(f"{by}city, name", f"{by}city, name DESC") == [
        ("changed", "ordering", "2. shop.name ASC", "2. shop.name DESC")
    ]
    sold = "SELECT id FROM shop EXCEPT SELECT shop_id FROM sale WHERE price > 3"
    assert texts(sold, "conditions") == ["except sale", "except: sale.price > 3"]
    assert changes(
        "SELECT id FROM shop EXCEPT SELECT id FROM sale",
        "SELECT id FROM sale EXCEPT SELECT id FROM shop",
    ) == [
        ("dropped", "conditions", "except sale", None),
        ("added", "conditions", None, "except shop"),
    ]
    assert not changes(
        "SELECT id FROM shop UNION SELECT id FROM sale",
        "SELECT id FROM sale UNION SELECT id FROM shop",
    )
    few = "SELECT name FROM shop LIMIT 3"
    assert changes(f"{few} OFFSET 2", few) == [("changed", "limit", "3 OFFSET 2", "3")]
    assert not changes("SELECT DISTINCT name FROM shop", "SELECT name FROM shop")


def test_text_values_keep_their_case():
    before = "SELECT id FROM shop WHERE city = 'paris'"
    after = "SELECT id FROM shop WHERE city = 'Paris'"
    assert ("changed", "conditions", "shop.city = 'paris'", "shop.city = 'Paris'") in differences(
        before, after
    )


def test_each_select_has_its_own_aliases():
    sql = (
        "SELECT T1.name FROM shop AS T1 WHERE T1.id IN"
        " (SELECT T1.shop_id FROM sale AS T1 WHERE T1.price > 5)"
    )
    assert texts(sql, "columns") == ["shop.name"]
    assert texts(sql, "conditions") == [
        "shop.id IN (SELECT sale.shop_id FROM sale WHERE sale.price > 5)"
    ]


def test_an_inner_query_sees_the_outer_one():
    sql = "SELECT name FROM shop AS s WHERE EXISTS (SELECT 1 FROM sale WHERE shop_id = s.id)"
    assert texts(sql, "conditions") == ["EXISTS(SELECT 1 FROM sale WHERE sale.shop_id = shop.id)"]


def test_a_view_is_no_table_but_its_conditions_count():
    sql = (
        "WITH v AS (SELECT shop_id, sum(price) AS total FROM sale WHERE price > 1 GROUP BY shop_id)"
        " SELECT name FROM shop JOIN v ON v.shop_id = shop.id WHERE v.total > 9"
    )
    assert texts(sql, "tables") == ["sale", "shop"]
    assert texts(sql, "columns") == ["shop.name"]
    assert texts(sql, "conditions") == ["sale.price > 1", "v.total > 9"]
    assert texts(sql, "grouping") == ["sale.shop_id"]


def test_names_in_double_quotes_are_text_only_if_no_column_is_called_so():
    assert texts('SELECT "name" FROM shop WHERE city = "Name "', "columns") == ["shop.name"]
    assert texts('SELECT "name" FROM shop WHERE city = "Lyon"', "conditions") == [
        "shop.city = 'Lyon'"
    ]


@pytest.mark.parametrize(
    "sql",
    ["", "hello there", "SELECT", "SELECT 1; SELECT 2", "DROP TABLE shop", "SELECT " + "(" * 5000],
)
def test_what_is_not_one_query_has_no_clauses(sql):
    assert clauses(sql, NAMES) is None


WORDS = (
    "SELECT FROM WHERE shop sale name , ( ) = 'x' \"y\" AND OR NOT IN ORDER BY 1 * UNION AS LIMIT"
    " JOIN ON GROUP HAVING . WITH v ; CASE WHEN END BETWEEN LIKE IS NULL VALUES EXISTS"
)
_word = st.sampled_from(WORDS.split())


@given(st.one_of(st.text(), st.lists(_word, max_size=20).map(" ".join)))
def test_no_text_raises(sql):
    parts = clauses(sql, NAMES)
    if parts is not None:
        assert all(one.kind == "kept" for one in compare(parts, parts))


def past(*statements):
    return [PastTurn(question=f"q{number}", sql=sql) for number, sql in enumerate(statements)]


def questions(sql, history, **options):
    return [turn.question for turn in relevant_turns(sql, history, NAMES, **options)]


def test_turns_that_share_a_table_come_first_and_most_recent_first():
    history = past(
        "SELECT name FROM shop",
        "SELECT id FROM shop",
        "SELECT city FROM shop",
        "SELECT 1 FROM sale",
    )
    assert questions("SELECT count(*) FROM shop", history) == ["q2", "q1"]
    assert questions("SELECT count(*) FROM shop", history, limit=3) == ["q2", "q1", "q0"]


def test_without_a_shared_table_the_last_turns_stand_in():
    history = past("SELECT id FROM shop", "", "SELECT name FROM shop")
    assert questions("SELECT price FROM sale", history) == ["q2", "q1"]
    assert questions("not sql", history) == ["q2", "q1"]
    assert questions("SELECT price FROM sale", []) == []


def test_the_same_statement_is_parsed_once():
    exact = clauses("SELECT 41 FROM shop", NAMES)
    loose = clauses("SELECT 41 FROM shop", NAMES, with_values=False)
    again = names_of(SCHEMA.model_copy())
    assert clauses("SELECT 41 FROM shop", again) is exact
    assert clauses("SELECT 41 FROM shop", again, with_values=False) is loose
