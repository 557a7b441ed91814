"""What a gold is worth as a measure: empty, cutting a tie, wrong against itself."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mtsql.config.reward import RewardConfig
from mtsql.evaluation.golds import GoldFacts, cut_ties, gold_facts
from mtsql.evaluation.rules import Rules
from mtsql.rewards.golds import rules_of, why_not_met
from mtsql.schema import Column, Schema, Table
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits

SCHEMA = Schema(
    db_id="shop",
    tables=(
        Table(
            name="shop",
            columns=(
                Column(name="name", type="text"),
                Column(name="city", type="text"),
                Column(name="market_value", type="number"),
            ),
        ),
    ),
)
LIMITS = QueryLimits()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Oslo has two shops and Rome two, Bari one; Ada and Bob have the same value."""
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE shop (name TEXT, city TEXT, market_value INTEGER);"
            "INSERT INTO shop VALUES ('Ada', 'Oslo', 9), ('Bob', 'Oslo', 9), ('Cy', 'Rome', 5),"
            " ('Dee', 'Rome', 3), ('Eve', 'Bari', 1);"
        )
    return path


BY_COUNT = "SELECT city FROM shop GROUP BY city ORDER BY count(*) DESC"
TIES = [
    (f"{BY_COUNT} LIMIT 1", True),  # Oslo 2, Rome 2
    (f"{BY_COUNT} LIMIT 2", False),  # Bari has fewer
    (f"{BY_COUNT} LIMIT 1 OFFSET 1", True),  # the border before it
    (BY_COUNT, False),
    ("SELECT name FROM shop ORDER BY market_value DESC LIMIT 1", True),  # Ada, Bob
    ("SELECT market_value FROM shop ORDER BY market_value DESC LIMIT 1", False),  # 9 or 9
    ("SELECT name, market_value AS v FROM shop ORDER BY v LIMIT 1", False),
    ("SELECT name, market_value AS v FROM shop ORDER BY 2 DESC LIMIT 1", True),
    ("SELECT * FROM shop ORDER BY market_value DESC LIMIT 1", True),
    ("SELECT name FROM shop LIMIT 2", True),  # no order at all
    ("SELECT count(*) FROM shop LIMIT 1", False),
    ("SELECT name FROM shop ORDER BY market_value LIMIT 9", False),  # nothing is cut
    ("SELECT name FROM shop ORDER BY market_value DESC, name LIMIT 1", False),
    ("SELECT name FROM shop WHERE name IN (SELECT name FROM shop LIMIT 1)", True),
    ("SELECT city FROM shop UNION SELECT name FROM shop ORDER BY city LIMIT 1", False),
    ("SELECT wings FROM shop LIMIT 1", False),  # cannot be looked at
    ("limit", False),
]


def test_ties_by_hand(database: Path) -> None:
    async def found() -> list[bool]:
        async with LocalPool({"shop": database}, num_workers=1) as pool:
            return await cut_ties(pool, [("shop", sql) for sql, _ in TIES], LIMITS)

    cut = asyncio.run(found())
    assert [(sql, is_cut) for (sql, _), is_cut in zip(TIES, cut, strict=True)] == TIES


GOLDS = (
    "SELECT name FROM shop",
    "SELECT name FROM shop WHERE city <> 'Oslo'",
    "SELECT name FROM shop WHERE city = 'Nowhere'",
    "SELECT name FROM shop WHERE market_value > 4",
    "SELECT wings FROM shop",
)
GOOD, UNREAD, EMPTY, VALUE, FAILS = range(5)


def facts(database: Path, rules: Rules, limits: QueryLimits = LIMITS) -> list[GoldFacts]:
    async def found() -> list[GoldFacts]:
        async with LocalPool({"shop": database}, num_workers=1) as pool:
            golds = [("shop", sql) for sql in GOLDS]
            return await gold_facts(pool, golds, {"shop": SCHEMA}, limits=limits, rules=rules)

    return asyncio.run(found())


def test_each_gold_is_judged_against_itself(database: Path) -> None:
    found = facts(database, Rules())
    assert found[GOOD] == GoldFacts(ex=True, em=True)
    assert found[UNREAD] == GoldFacts(ex=True, em=None)
    assert found[EMPTY] == GoldFacts(ex=True, em=True, is_empty=True)
    # officially market_value becomes market_1, a column that is not there
    assert (found[VALUE].ex, found[VALUE].em, found[VALUE].is_wrong) == (False, False, True)
    assert found[FAILS].failure == "gold_error: no_such_column: no such column: wings"
    assert facts(database, Rules(keep_value_word=True))[VALUE] == GoldFacts(ex=True, em=True)
    # 5 rows, of which 4 are kept
    assert facts(database, Rules(), QueryLimits(max_rows=4))[GOOD].is_cut


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["", "", "", "gold_wrong", "gold_fails"]),
        ({"keep_value_word": True}, ["", "", "", "", "gold_fails"]),
        ({"unreadable_em": "drop"}, ["", "gold_unread", "", "gold_wrong", "gold_fails"]),
        # without EM it need not be read
        ({"unreadable_em": "drop", "em": 0.0}, ["", "", "", "gold_wrong", "gold_fails"]),
        ({"empty_is_wrong": True}, ["", "", "gold_empty", "gold_wrong", "gold_fails"]),
    ],
)
def test_which_golds_no_answer_can_meet(
    database: Path, changes: dict[str, object], expected: list[str]
) -> None:
    config = RewardConfig.model_validate(changes)
    found = facts(database, rules_of(config))
    assert [why_not_met(one, config) for one in found] == expected


def test_ties_are_looked_for_under_the_rules_of_the_run(database: Path) -> None:
    # Three characters, so all five rows; officially the two are joined, and no row is left.
    gold = ("shop", "SELECT name FROM shop WHERE length('> =') = 3 LIMIT 1")

    async def found(rules: Rules) -> GoldFacts:
        async with LocalPool({"shop": database}, num_workers=1) as pool:
            [facts] = await gold_facts(pool, [gold], {"shop": SCHEMA}, limits=LIMITS, rules=rules)
        return facts

    kept, official = (asyncio.run(found(Rules(keep_literals=keep))) for keep in (True, False))
    assert (kept.is_empty, kept.cuts_tie) == (False, True)
    assert (official.is_empty, official.cuts_tie) == (True, False)


def test_a_fault_of_the_machinery_says_nothing_of_the_gold(database: Path) -> None:
    async def found() -> GoldFacts:
        async with LocalPool({"shop": database}, num_workers=1) as pool:
            golds = [("gone", "SELECT name FROM shop")]
            [facts] = await gold_facts(pool, golds, {"gone": SCHEMA}, limits=LIMITS)
        return facts

    facts = asyncio.run(found())
    assert facts.fault.startswith("gold_infra_fault: ")
    assert (facts.failure, facts.is_wrong, facts.is_unread) == ("", False, False)
    assert why_not_met(facts, RewardConfig()) == ""
