"""When two texts are the same SQL, for the environment and for the rewards alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.query.same import first_uses, same_statement


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("SELECT  a FROM t;", "SELECT a\nFROM t", True),
        ("SELECT a -- name\nFROM t", "SELECT a FROM t", True),
        ("SELECT a FROM t", "select A from T", True),
        ("SELECT a FROM t ;; -- end", "SELECT a FROM t", True),
        ("SELECT 'a  b'", "SELECT 'a b'", False),
        ("SELECT 'a'", "SELECT 'A'", False),
        ("SELECT 'a'", 'SELECT "a"', False),
        # The first is refused when it runs, the second is not.
        ("SELECT 1; SELECT 2", "SELECT 1", False),
        ("SELECT 'open", "SELECT 'open", True),
        ("SELECT 'open", "SELECT 'other", False),
    ],
)
def test_the_same_statement(one, other, is_same):
    assert same_statement(one, other) is same_statement(other, one) is is_same
    assert (first_uses((one, other)) == (0, 0)) is is_same


def test_texts_are_the_same_up_to_comments_spaces_and_case_of_names():
    sqls = ("SELECT a FROM t", "select A\nfrom T ;", "SELECT b FROM t", "SELECT a FROM t -- b")
    assert first_uses(sqls) == (0, 0, 2, 0)
    assert first_uses(("SELECT 'a'", "SELECT 'A'", 'SELECT "a"', "SELECT a")) == (0, 1, 2, 2)
    quoted = [f'SELECT "Id" FROM "T" WHERE m = {value}' for value in ('"May"', '"MAY"', "'May'")]
    assert first_uses((*quoted, 'select "ID" from "t" where M = "May"')) == (0, 1, 0, 0)
    listed = [f'SELECT id FROM t WHERE m IN ("May", "{value}")' for value in ("June", "june")]
    assert first_uses(listed) == (0, 1)
    inner = [f'SELECT id FROM t WHERE m IN (SELECT "{name}" FROM u)' for name in ("m", "M")]
    assert first_uses(inner) == (0, 0)
    assert first_uses(("SELECT 'x", "SELECT  'x", "SELECT 'y")) == (0, 0, 2)  # cannot be read


def test_brackets_and_backticks_hold_names_only():
    # SQLite reads no text in them, so their case does not count.
    for name in ("[May]", "`May`"):
        sql = f"SELECT id FROM t WHERE m = {name}"
        assert same_statement(sql, sql.lower())


@given(st.text(), st.text())
def test_both_ways_to_ask_agree(one, other):
    assert same_statement(one, one)
    assert same_statement(one, other) == (first_uses((one, other)) == (0, 0))
