"""Chains of views as values, and what a proposal is to the one before it."""

import pytest

from mtsql.chains.chain import Chain, Query, View, relation_of, view_problem

ONE = "SELECT 1"


def chain(*parts):
    return Chain(tuple(View(name=name, sql=sql) for name, sql in parts))


def test_a_chain_is_one_statement():
    assert chain(("a", ONE)).sql == ONE
    assert chain(("a", ONE), ("b", "SELECT * FROM a"), ("c", "SELECT * FROM b")).sql == (
        "WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b"
    )
    assert chain(("a", "SELECT 1 -- one"), ("b", "SELECT * FROM a")).compose() == (
        "WITH a AS (SELECT 1 -- one\n) SELECT * FROM a"
    )
    assert chain(("a", ONE), ("b", "WITH c AS (SELECT 2) SELECT * FROM c")).sql == (
        "WITH a AS (SELECT 1), b AS (WITH c AS (SELECT 2) SELECT * FROM c) SELECT * FROM b"
    )


def test_a_chain_grows_shrinks_and_changes_at_its_end():
    whole = chain(("a", ONE), ("b", "SELECT * FROM a"))
    assert whole.prefix(1) == chain(("a", ONE))
    assert whole.prefix(2) == whole
    assert whole.prefix(1).extend(whole.views[1]) == whole
    other = View(name="b", sql="SELECT 2 FROM a")
    assert whole.replace_last(other) == chain(("a", ONE), ("b", "SELECT 2 FROM a"))
    with pytest.raises(ValueError, match="at least one view"):
        Chain(())


def test_the_composed_text_is_kept_and_does_not_count_for_equality():
    one, other = chain(("a", ONE)), chain(("a", ONE))
    assert one.sql is one.sql
    assert (one, hash(one)) == (other, hash(other))


@pytest.mark.parametrize(
    ("new", "old", "is_correction", "relation"),
    [
        (chain(("a", ONE), ("b", "SELECT * FROM a")), chain(("a", ONE)), False, "extends"),
        (chain(("a", "SELECT 2")), chain(("a", ONE)), True, "corrects"),
        (chain(("a", "select 1 -- again")), chain(("a", ONE)), True, "repeats"),
        (chain(("a", "SELECT 2"), ("b", ONE)), chain(("a", ONE)), False, "replaces"),
        (Query("SELECT 2"), Query(ONE), True, "corrects"),
        (Query("SELECT 2"), Query(ONE), False, "replaces"),
        (Query("select 1 ;"), Query(ONE), True, "repeats"),
    ],
)
def test_what_a_proposal_is_to_the_one_before_it(new, old, is_correction, relation):
    assert relation_of(new, old, is_correction=is_correction) == relation


@pytest.mark.parametrize(
    ("name", "sql", "complaint"),
    [
        ("big", ONE, ""),
        ("big", "SELECT ')' -- (", ""),
        ("", ONE, "name: use letters"),
        ("1a", ONE, "name: use letters"),
        ("a; b", ONE, "name: use letters"),
        ("Shop", ONE, "is taken"),
        ("big", "SELECT 1) , b AS (SELECT 2", "balanced parentheses"),
        ("big", "SELECT (1", "balanced parentheses"),
        ("big", "SELECT 1; SELECT 2", "write one query"),
        ("big", "SELECT 'open", "not closed"),
    ],
)
def test_what_cannot_stand_in_a_chain(name, sql, complaint):
    found = view_problem(View(name=name, sql=sql), taken=["shop"])
    assert complaint in found
    assert bool(found) is bool(complaint)
