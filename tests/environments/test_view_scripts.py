"""Scripts that build a chain of views: slips that a look at a view shows, and their corrections."""

import sqlite3
from contextlib import closing
from random import Random

import pytest

from envs.scripts.views import ViewPlan
from helpers.shops import SALES_SCHEMA
from helpers.turns import NEVER, names, record_script
from mtsql.chains.chain import Chain
from mtsql.chains.truth import Truth
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.learning import ScriptConfig
from mtsql.config.reward import RewardConfig
from mtsql.dialogue import PastTurn, Turn, TurnSpec
from mtsql.mistakes.kinds import Mistake
from mtsql.mistakes.views import fan_out_join, lost_filter
from mtsql.rewards.verdicts import verdict_rewards

CONFIG = EnvironmentConfig(dialect="cocte", prompt="compact", max_steps=24)
JOIN = "shop JOIN sale ON shop.id = sale.shop_id"
BIG = f"SELECT city, count(*) FROM {JOIN} WHERE price > 5 GROUP BY city"
NAMES = "SELECT name FROM shop WHERE city = 'PARIS' ORDER BY id LIMIT 1"


class First(Random):
    """Chooses the first of all: of styles that is `stages`; draws nothing."""

    def choice(self, options):
        return options[0]

    def random(self):
        return 0.0


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "shops.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT, city TEXT);"
            "CREATE TABLE sale (id INTEGER PRIMARY KEY, shop_id INTEGER, price REAL);"
            "INSERT INTO shop VALUES (1, 'Ada', 'PARIS'), (2, 'Bob', 'PARIS'), (3, 'Cy', 'ROME');"
            "INSERT INTO sale VALUES (1, 1, 4), (2, 1, 9), (3, 2, 7), (4, 3, 8), (5, 3, 3);"
        )
    return path


def spec_of(gold_sql, past=None):
    return TurnSpec(
        dialogue_id="d",
        turn_index=int(past is not None),
        turn=Turn(turn_id="d/0", question="Which?", gold_sql=gold_sql, hardness="medium"),
        db_id="shops",
        schema=SALES_SCHEMA,
        history=() if past is None else (PastTurn(question="Before?", sql=past),),
    )


def play(shops, gold_sql, *, past=None, seed=1, **shares):
    shares = {"several_views": 1, "execute": 1, "correct": 1} | shares
    return record_script(shops, spec_of(gold_sql, past), seed=seed, config=CONFIG, **shares)


def planned(gold_sql, *believed, **shares):
    """The calls for a query, each view looked at; then those that mend it."""
    scripts = ScriptConfig(**NEVER | {"several_views": 1} | shares)
    plan = ViewPlan(gold_sql, SALES_SCHEMA, scripts, First(), "result")
    plan.begin(believed[0] if believed else gold_sql)
    calls = []
    while not plan.is_done:
        calls.append(plan.next_call())
    for sql in believed[1:]:
        calls.append(plan.mend(sql))
        while not plan.is_done:
            calls.append(plan.next_call())
    return [(str(call.name), call.view, call.sql) for call in calls]


def test_each_view_is_proposed_and_judged(shops):
    one = play(shops, BIG, verify_execution=1)
    chain = one.trajectory.proposals[-1]
    assert isinstance(chain, Chain)
    views = chain.views
    assert len(views) > 1
    assert names(one.trajectory) == " ".join(
        [*["propose execute verify:pass"] * len(views), "answer"]
    )
    assert set(one.trajectory.truths) == {Truth.SUFFICIENT}
    earned = [value for value in verdict_rewards(one.trajectory, RewardConfig()) if value]
    assert earned == pytest.approx([0.1 / len(views)] * len(views))
    assert one.trajectory.judgements[-1].ex is True


def test_a_join_too_many_is_seen_in_the_digest_and_corrected(shops):
    sql = "SELECT name FROM shop WHERE city = 'PARIS' ORDER BY name LIMIT 1"
    one = play(shops, sql, fan_out=1, verify_execution=1)
    assert one.made == one.noticed == one.repaired == {Mistake.FAN_OUT}
    assert names(one.trajectory).startswith("propose execute verify:fail correct execute verify")
    assert "JOIN sale ON sale.shop_id = shop.id" in one.trajectory.statements[0]
    assert '"fan_out": ["shop: ' in (one.trajectory.steps[1].observation or "")
    assert one.trajectory.judgements[-1].ex is True


def test_a_lost_filter_keeps_as_many_rows_as_the_view_before(shops):
    found = [play(shops, BIG, lost_filter=1, seed=seed) for seed in range(8)]
    made = [one for one in found if one.made]
    assert made
    for one in made:
        assert one.noticed == one.repaired == {Mistake.LOST_FILTER}
    assert all(one.trajectory.judgements[-1].ex for one in found)


def test_a_slip_that_is_not_looked_at_stays(shops):
    found = [play(shops, BIG, lost_filter=1, execute=0, seed=seed) for seed in range(8)]
    assert {one.noticed | one.repaired for one in found} == {frozenset()}
    assert any(one.made and not one.trajectory.judgements[-1].ex for one in found)


def test_a_wrong_value_is_corrected_in_its_view(shops):
    for seed in range(4):
        one = play(shops, NAMES, wrong_case=1, seed=seed)
        assert one.made == one.noticed == one.repaired == {Mistake.WRONG_CASE}
        assert one.trajectory.judgements[-1].ex is True


def test_what_is_forgotten_of_the_dialogue_is_built_anew_from_its_view_on(shops):
    gold = f"SELECT name FROM {JOIN} WHERE city = 'PARIS' AND price > 5"
    past = "SELECT name FROM shop WHERE city = 'PARIS'"
    for seed in range(6):
        one = play(shops, gold, past=past, dropped_condition=1, verify_memory=1, seed=seed)
        assert one.made == one.repaired == {Mistake.DROPPED_CONDITION}
        assert one.trajectory.judgements[-1].ex is True


def test_a_correction_names_the_first_view_that_differs():
    wrong, right = BIG.replace("5", "6"), BIG
    calls = planned(right, wrong, right)
    assert [(name, view) for name, view, _ in calls] == [
        ("propose", "joined_rows"),
        ("propose", "kept_rows"),
        ("propose", "by_city"),
        ("propose", "result"),
        ("correct", "kept_rows"),
        ("propose", "by_city"),
        ("propose", "result"),
    ]
    assert calls[4][2] == "SELECT city FROM joined_rows WHERE price > 5"


def test_a_view_keeps_its_name_when_it_is_corrected():
    # Without the condition there is no kept_rows: the groups stand where it is to be.
    without = "SELECT city, count(*) FROM shop GROUP BY city"
    calls = planned(BIG, without, BIG)
    corrected = calls[[name for name, _, _ in calls].index("correct")]
    assert corrected[1:] == ("shop_rows", f"SELECT shop.city, sale.price FROM {JOIN}")
    assert calls[-3:] == [
        ("propose", "kept_rows", "SELECT city FROM shop_rows WHERE price > 5"),
        ("propose", "by_city", "SELECT city, COUNT(*) AS num FROM kept_rows GROUP BY city"),
        ("propose", "result", "SELECT city, num FROM by_city"),
    ]


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("SELECT name FROM shop", "SELECT shop.name FROM shop JOIN sale ON sale.shop_id = shop.id"),
        (
            "SELECT s.name, count(*) FROM shop AS s GROUP BY name",
            "SELECT s.name, COUNT(*) FROM shop AS s JOIN sale ON sale.shop_id = s.id "
            "GROUP BY s.name",
        ),
        ("SELECT price FROM sale", None),  # nothing refers to it
        ("SELECT * FROM shop", None),
        ("SELECT DISTINCT name FROM shop", None),
        (f"SELECT shop.name FROM {JOIN}", None),  # it is joined already
        ("SELECT name FROM shop WHERE id IN (SELECT 1)", None),
    ],
)
def test_a_join_too_many(sql, wrong):
    assert fan_out_join(sql, SALES_SCHEMA, First()) == wrong


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("SELECT city FROM v WHERE price > 5", "SELECT city FROM v"),
        ("SELECT city FROM v", None),
        ("SELECT count(*) FROM v WHERE price > 5", None),
        ("SELECT city FROM v, w WHERE price > 5", None),
    ],
)
def test_a_lost_filter(sql, wrong):
    assert lost_filter(sql) == wrong
