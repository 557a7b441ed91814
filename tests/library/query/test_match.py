"""Clause F1 by hand: which elements are right, missing and superfluous."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.shops import COUNT_PARIS, IN_PARIS, SALES_SCHEMA
from mtsql.evaluation.em.match import exact_match
from mtsql.query.match import MAX_SQL_CHARS, ClauseMatch, match_clauses
from mtsql.query.names import names_of

NAMES = names_of(SALES_SCHEMA)


def f1(sql, gold=IN_PARIS):
    match = match_clauses(sql, gold, NAMES)
    return match.f1, match.coherence


@pytest.mark.parametrize(
    ("sql", "expected", "coherence"),
    [
        # gold: table shop, column name, condition city = 'Paris'
        (IN_PARIS, 1.0, 1.0),
        ("SELECT name, id FROM shop WHERE city = 'Rome'", 6 / 7, 4 / 7),
        ("SELECT name FROM shop WHERE city = 'Rome'", 1.0, 4 / 6),
        ("SELECT name FROM shop", 4 / 5, 4 / 5),
        ("SELECT name FROM shop WHERE city = 'Paris' AND id > 1", 6 / 7, 6 / 7),
        ("SELECT name FROM shop WHERE city LIKE 'Paris'", 4 / 6, 4 / 6),
        ("SELECT city FROM shop WHERE city = 'Paris'", 4 / 6, 4 / 6),
        ("SELECT price FROM sale", 0.0, 0.0),
        ("SELECT 1", 0.0, 0.0),
    ],
)
def test_f1_counts_elements(sql, expected, coherence):
    assert f1(sql) == (pytest.approx(expected), pytest.approx(coherence))


@pytest.mark.parametrize(
    ("gold", "same"),
    [
        (IN_PARIS, "select distinct T1.NAME AS n from Shop AS T1 where 'x' = T1.city -- 'Paris'"),
        ("SELECT id FROM sale LIMIT 1", "SELECT id FROM sale LIMIT 3"),
        ("SELECT count(shop_id) FROM sale", "SELECT count(DISTINCT shop_id) FROM sale"),
        ("SELECT id FROM sale WHERE price IN (1, 2)", "SELECT id FROM sale WHERE price IN (-3.5)"),
        (
            "SELECT T1.id FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop_id",
            "SELECT sale.shop_id FROM sale LEFT JOIN shop ON sale.shop_id = shop.id",
        ),
        (
            "SELECT name FROM shop WHERE id IN (SELECT shop_id FROM sale WHERE price > 3)",
            "SELECT name FROM shop WHERE id IN (SELECT DISTINCT shop_id FROM sale WHERE price > 4)",
        ),
        (
            "SELECT city, id FROM shop WHERE id > 1 AND city = 'a' ORDER BY city",
            "SELECT id, city FROM shop WHERE city = 'b' AND id > 2 ORDER BY city ASC",
        ),
    ],
)
def test_what_exact_match_ignores_is_ignored(gold, same):
    assert f1(same, gold)[0] == 1.0


@pytest.mark.parametrize(
    "sql",
    ["", "hello", "VALUES ('Ada'), ('Bob')", "DROP TABLE shop", "SELECT 1; SELECT 2",
     f"SELECT name FROM shop WHERE city = '{'x' * MAX_SQL_CHARS}'"],
)  # fmt: skip
def test_what_is_not_one_query_matches_nothing(sql):
    assert match_clauses(sql, IN_PARIS, NAMES) == ClauseMatch(
        f1=0.0, coherence=0.0, is_parsed=False
    )


def test_a_gold_that_cannot_be_read_measures_nothing():
    unread = ClauseMatch(f1=None, coherence=None, is_parsed=True)
    assert match_clauses(IN_PARIS, "WITH", NAMES) == unread


def test_comments_with_gold_in_them_add_nothing():
    assert f1(f"SELECT 1 -- {IN_PARIS}") == (0.0, 0.0)
    assert f1(f"SELECT 1 /* {COUNT_PARIS} */", COUNT_PARIS) == (0.0, 0.0)


def test_listing_everything_lowers_precision():
    greedy = (
        "SELECT name, id, city, count(*) FROM shop JOIN sale ON shop.id = sale.shop_id"
        " WHERE city = 'Paris' AND name = 'x' GROUP BY city ORDER BY id LIMIT 3"
    )
    # 3 right; superfluous: table sale, 3 columns, 1 condition, grouping, ordering, limit
    assert f1(greedy)[0] == pytest.approx(6 / (6 + 8))


GOLDS = (
    IN_PARIS,
    COUNT_PARIS,
    "SELECT city, count(*) FROM shop GROUP BY city HAVING count(*) > 1",
    "SELECT name FROM shop ORDER BY id DESC LIMIT 1",
    "SELECT T1.name FROM shop AS T1 JOIN sale AS T2 ON T1.id = T2.shop_id WHERE T2.price > 3",
    "SELECT name FROM shop EXCEPT SELECT name FROM shop WHERE city = 'Paris'",
)


@pytest.mark.parametrize("gold", GOLDS)
def test_f1_is_1_exactly_where_exact_match_holds(gold):
    for pred in GOLDS:
        assert (f1(pred, gold)[0] == 1.0) == exact_match(gold, pred, SALES_SCHEMA)


@given(st.text(), st.text())
def test_no_text_raises_and_figures_are_shares(sql, gold):
    match = match_clauses(sql, gold, NAMES)
    assert match.f1 is None or 0.0 <= match.f1 <= 1.0
