"""Chains inside a dialogue: views of earlier turns, corrections, one clear reply each."""

import json
from dataclasses import replace

import pytest

from helpers.shops import SALES_SECOND, write_sales
from helpers.turns import play_messages
from mtsql.dialogue import PastTurn
from mtsql.protocol import DIALECTS, ActionName, ToolCall
from mtsql.sql.records import QueryLimits

IN_PARIS = "SELECT id, name FROM shop WHERE city = 'Paris'"
EARLIER = f"WITH paris AS ({IN_PARIS}) SELECT count(*) FROM paris"
SPEC = replace(SALES_SECOND, history=(PastTurn(question="how many in Paris?", sql=EARLIER),))
COUNTING = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
EXECUTE = '<tool_call>\n{"name": "execute", "arguments": {}}\n</tool_call>'
MEMORY = '<tool_call>\n{"name": "verify", "arguments": {"target": "memory"}}\n</tool_call>'


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return write_sales(tmp_path_factory.mktemp("shops") / "shops.sqlite")


def say(tool, sql, view=None):
    arguments = {"sql": sql} if view is None else {"name": view, "sql": sql}
    call = json.dumps({"name": tool, "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def play(database, *messages, limits=QueryLimits(max_vm_steps=100_000)):  # noqa: B008 - frozen
    return play_messages(
        database, *messages, spec=SPEC, limits=limits, dialect="cocte", max_steps=20
    )


def test_a_view_of_an_earlier_turn_is_used_by_its_name(database):
    run = play(database, say("propose", "SELECT name FROM Paris", "a"), EXECUTE, MEMORY)
    assert run.replies[0] == {"ok": True, "taken": ["paris"]}
    assert run.replies[1]["rows"] == [["Ada"], ["Bob"]]
    assert run.trajectory.statements == (f"WITH paris AS ({IN_PARIS}) SELECT name FROM Paris",)
    assert run.replies[2]["history"] == [
        {
            "q": "how many in Paris?",
            "a": EARLIER,
            "views": {"paris": IN_PARIS, "result": "SELECT count(*) FROM paris"},
        }
    ]


def test_a_correction_further_up_drops_the_views_after_it_and_says_so(database):
    run = play(
        database,
        say("propose", "SELECT id, name FROM shop", "a"),
        say("propose", "SELECT name FROM a", "b"),
        say("propose", "SELECT count(*) FROM b", "c"),
        say("correct", "SELECT id, name FROM shop WHERE id > 0", "A"),
        EXECUTE,
    )
    assert run.replies[3] == {"ok": True, "dropped": ["b", "c"]}
    assert run.replies[4]["warnings"] == {"keeps_all": ["id > 0"]}
    assert run.trajectory.statements[-1] == "SELECT id, name FROM shop WHERE id > 0"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            say("propose", "SELECT 1 FROM nowhere", "c"),
            "sql: nowhere is neither a table nor a view of the chain or an earlier turn",
        ),
        (say("propose", "SELECT 1 FROM c", "c"), "sql: c reads itself; only WITH RECURSIVE may"),
        (
            say("correct", "SELECT 1 FROM b", "a"),
            "sql: b comes after a; read what is before it",
        ),
        (
            say("correct", "SELECT 1", "d"),
            "name: the chain has no view d; correct one of its own",
        ),
        (
            say("propose", "SELECT 1", "shop"),
            "name: shop is taken by a table or an earlier view",
        ),
        (
            say("propose", "SELECT 1; SELECT 2", "c"),
            "sql: write one query with balanced parentheses",
        ),
    ],
)
def test_what_cannot_stand_gets_one_clear_reply(database, message, told):
    chain = say("propose", "SELECT id FROM shop", "a"), say("propose", "SELECT id FROM a", "b")
    run = play(database, *chain, message)
    assert run.replies[-1] == {"error": "view", "message": told}
    assert len(run.trajectory.statements) == 2


def test_a_recursion_without_end_is_stopped(database):
    run = play(database, say("propose", COUNTING, "c"), EXECUTE)
    assert run.replies[-1] == {
        "error": "steps",
        "message": "stopped after 100000 steps of work (sql.max_vm_steps)",
    }


def test_a_correction_may_name_its_view():
    dialect = DIALECTS["cocte"]
    call = ToolCall(name=ActionName.CORRECT, sql="SELECT 1", view="a")
    assert dialect.parse(dialect.render((call,))).actions == (call,)
