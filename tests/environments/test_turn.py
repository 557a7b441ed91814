"""The environment on real SQLite files: every branch, played by hand."""

import asyncio
import json
import pickle
import time

import pytest

from envs.play import GenerationFault, OutOfTokens, collect
from envs.turn import TurnEnv
from helpers.messages import ANSWER, EXECUTE, correct, propose
from helpers.shops import COUNT_PARIS, IN_PARIS, SALES_FIRST, SALES_SECOND, write_sales
from helpers.turns import play_messages
from mtsql.config.environment import EnvironmentConfig
from mtsql.dialogue import PastTurn
from mtsql.protocol import ActionName, Answer, ParseFailure, ToolCall, render_action
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus
from mtsql.trajectory.records import Ending, Fault, FaultKind

LOOK = render_action(ToolCall(name=ActionName.VERIFY, target="memory"))


def verdict(target, value):
    return render_action(ToolCall(name=ActionName.VERIFY, target=target, verdict=value))


@pytest.fixture
def database(tmp_path):
    return write_sales(tmp_path / "shops.sqlite")


# A turn from start to end ---------------------------------------------------------------------


def test_a_turn_with_a_correction(database):
    wrong = COUNT_PARIS.replace("Paris", "paris")
    run = play_messages(
        database,
        propose(wrong),
        EXECUTE,
        verdict("execution", "fail"),
        f"<think>the case is wrong</think>{correct(COUNT_PARIS)}",
        EXECUTE,
        verdict("execution", "pass"),
        ANSWER,
    )
    assert run.replies == [
        {"ok": True},
        {
            "columns": ["count(*)"],
            "rows": [[0]],
            "num_rows": 1,
            "note": "zero",
            "stored": {"city": ["Paris"]},
        },
        {"ok": True},
        {"ok": True},
        {"columns": ["count(*)"], "rows": [[2]], "num_rows": 1},
        {"ok": True, "steps_left": 2},
    ]
    trajectory = run.trajectory
    assert trajectory.turn_id == "hand-0/1"
    assert trajectory.ending is Ending.ANSWERED
    assert trajectory.statements == (wrong, COUNT_PARIS)
    assert [judgement.ex for judgement in trajectory.judgements] == [False, True]
    assert [step.proposal for step in trajectory.steps] == [0, 0, 0, 1, 1, 1, 1]
    assert [step.num_rows for step in trajectory.steps] == [None, 1, None, None, 1, None, None]
    suspicious = [step.is_suspicious for step in trajectory.steps]
    assert suspicious == [False, True, False, False, False, False, False]
    assert all(step.is_accepted for step in trajectory.steps)
    classes = [step.result_class for step in trajectory.steps]
    assert classes == [None, "zero", None, None, "ok", None, None]
    # The value differs, which clause F1 does not see: 2 of 3 elements are right with values.
    assert [match.f1 for match in trajectory.matches] == [1.0, 1.0]
    assert [match.coherence for match in trajectory.matches] == [pytest.approx(4 / 6), 1.0]
    assert trajectory.steps[0].observation == '{"ok": true}'
    assert trajectory.steps[-1].observation is None
    assert trajectory.steps[-1].action == Answer()


def test_memory_shows_what_matters_and_what_changes(database):
    run = play_messages(database, propose(COUNT_PARIS), LOOK, verdict("memory", "pass"), ANSWER)
    assert run.replies[1:] == [
        {
            "history": [{"q": "show all shops in Paris", "a": IN_PARIS}],
            "kept": ["from shop", "where shop.city = 'Paris'"],
            "added": ["select COUNT(*)"],
            "dropped": ["select shop.name"],
        },
        {"ok": True},
    ]
    look = run.trajectory.steps[1]
    assert (look.num_kept, look.num_added, look.num_dropped, look.num_changed) == (2, 1, 1, 0)
    assert run.trajectory.steps[0].num_kept is None
    assert [step.is_accepted for step in run.trajectory.steps] == [True] * 4


def test_memory_pairs_a_changed_value(database):
    run = play_messages(database, propose("SELECT name FROM shop WHERE city = 'Rome'"), LOOK)
    assert run.replies[1]["changed"] == [["where shop.city = 'Paris'", "where shop.city = 'Rome'"]]
    assert run.trajectory.steps[1].num_changed == 1


def test_a_memory_verdict_counts_only_after_a_look(database):
    run = play_messages(
        database, propose(COUNT_PARIS), verdict("memory", "pass"), verdict("memory", "pass")
    )
    assert "history" in run.replies[1]  # nothing is lost: the blind verdict becomes a look
    assert run.replies[2] == {"ok": True}
    assert [step.is_accepted for step in run.trajectory.steps] == [True, False, True]


def test_a_new_proposal_needs_a_new_look(database):
    run = play_messages(
        database, propose(COUNT_PARIS), LOOK, correct(IN_PARIS), verdict("memory", "fail")
    )
    assert run.trajectory.steps[-1].is_accepted is False


def test_the_first_turn_has_no_history(database):
    run = play_messages(
        database, propose(IN_PARIS), LOOK, verdict("memory", "pass"), spec=SALES_FIRST
    )
    assert run.replies[1:] == [{"history": [], "note": "no_history"}, {"ok": True}]
    assert run.trajectory.steps[1].num_kept is None


def test_memory_without_a_comparison(database):
    run = play_messages(database, propose("SELEC nothing"), LOOK)
    assert run.replies[1]["note"] == "not_comparable"
    assert len(run.replies[1]["history"]) == 1


# Out of order ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([EXECUTE], "no proposal; propose first"),
        ([ANSWER], "nothing to answer with; propose first"),
        ([correct(IN_PARIS)], "nothing to correct; propose first"),
        ([LOOK], "no proposal; propose first"),
        ([verdict("execution", "pass")], "no proposal; propose first"),
        ([propose(IN_PARIS), verdict("execution", "pass")], "no result to judge; execute first"),
        (
            [propose(IN_PARIS), EXECUTE, correct(COUNT_PARIS), verdict("execution", "pass")],
            "no result to judge; execute first",
        ),
        (
            [
                propose(IN_PARIS),
                EXECUTE,
                render_action(ToolCall(name=ActionName.VERIFY, target="execution")),
            ],
            "no verdict; say pass or fail",
        ),
    ],
)
def test_out_of_order_costs_a_step_and_says_why(database, messages, complaint):
    run = play_messages(database, *messages)
    assert run.replies[-1] == {"error": "order", "message": complaint}
    assert run.ending is None
    assert [step.is_accepted for step in run.trajectory.steps] == [True] * (len(messages) - 1) + [
        False
    ]


def test_a_refused_correction_is_no_proposal(database):
    run = play_messages(database, correct(IN_PARIS))
    assert run.trajectory.statements == ()
    assert run.trajectory.steps[0].proposal is None
    assert run.trajectory.judgements == ()


def test_proposing_again_is_a_new_proposal(database):
    run = play_messages(database, propose(IN_PARIS), propose(IN_PARIS), ANSWER, spec=SALES_FIRST)
    assert run.trajectory.statements == (IN_PARIS, IN_PARIS)
    assert [judgement.ex for judgement in run.trajectory.judgements] == [True, True]


# Limits ---------------------------------------------------------------------------------------


def test_malformed_messages_are_corrected_and_bounded(database):
    run = play_messages(database, "SELECT 1", propose(COUNT_PARIS), "hm", EXECUTE + EXECUTE)
    assert [reply.get("error") for reply in run.replies] == ["malformed", None, "malformed"]
    assert run.replies[0]["message"].startswith("no tool call")
    assert run.ending is Ending.MALFORMED
    assert run.trajectory.ending is Ending.MALFORMED
    assert [one.ex for one in run.trajectory.judgements] == [True]
    assert isinstance(run.trajectory.steps[-1].action, ParseFailure)
    assert [step.is_accepted for step in run.trajectory.steps] == [False, True, False, False]


def test_the_last_message_is_announced_and_its_proposal_counts(database):
    run = play_messages(
        database, propose(IN_PARIS), EXECUTE, EXECUTE, correct(COUNT_PARIS), max_steps=4
    )
    assert [reply.get("steps_left") for reply in run.replies] == [None, 2, 1]
    assert run.ending is Ending.MAX_STEPS
    assert run.trajectory.statements == (IN_PARIS, COUNT_PARIS)
    assert [one.ex for one in run.trajectory.judgements] == [False, True]
    assert run.trajectory.steps[-1].observation is None


def test_an_execution_in_the_last_message_is_not_run(database):
    run = play_messages(database, propose(COUNT_PARIS), EXECUTE, max_steps=2)
    last = run.trajectory.steps[-1]
    assert run.ending is Ending.MAX_STEPS
    assert (last.result_class, last.is_accepted) == (None, False)


def test_an_answer_in_the_last_message_is_an_answer(database):
    assert (
        play_messages(database, propose(COUNT_PARIS), ANSWER, max_steps=2).ending is Ending.ANSWERED
    )
    assert play_messages(database, LOOK, ANSWER, max_steps=2).ending is Ending.MAX_STEPS


def test_tokens_may_run_out(database):
    run = play_messages(database, propose(COUNT_PARIS))
    assert run.trajectory.ending is Ending.MAX_TOKENS
    assert [one.ex for one in run.trajectory.judgements] == [True]


# Executions -----------------------------------------------------------------------------------


def test_executing_again_gives_the_same_without_running(database):
    async def run():
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            env = TurnEnv(SALES_SECOND, pool, EnvironmentConfig(), QueryLimits())
            replies = [await env.step(one) for one in (propose(COUNT_PARIS), EXECUTE, EXECUTE)]
            return replies, pool.stats()

    replies, stats = asyncio.run(run())
    assert replies[1] == replies[2]
    assert stats.num_executed + stats.num_cached == 1


@pytest.mark.parametrize(
    ("sql", "status", "kind"),
    [
        ("SELECT colour FROM shop", "error", "no_such_column"),
        ("SELECT name FROM shops", "error", "no_such_table"),
        ("SELEC name", "error", "syntax"),
        ("DROP TABLE shop", "refused", "write"),
    ],
)
def test_errors_are_typed(database, sql, status, kind):
    run = play_messages(database, propose(sql), EXECUTE)
    assert run.replies[1]["error"] == kind
    assert set(run.replies[1]) == {"error", "message"}
    step = run.trajectory.steps[1]
    assert (step.result_class, step.num_rows, step.is_suspicious) == (status, None, False)
    assert run.trajectory.judgements[0].ex is False


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT price FROM shop", {"found_in": ["sale"]}),
        ("SELECT s.colour FROM shop AS s", {"columns_of": {"shop": ["id", "name", "city"]}}),
        ("SELECT name FROM shops", {"tables": ["shop", "sale"]}),
        ("SELEC name", {}),
        ("SELECT name FROM shop", {}),
    ],
)
def test_an_error_about_a_name_can_show_where_it_is(database, sql, hint):
    run = play_messages(database, propose(sql), EXECUTE, name_hints=True)
    shown = {"found_in", "columns_of", "tables"} & set(run.replies[1])
    assert {name: run.replies[1][name] for name in shown} == hint


@pytest.mark.parametrize(
    ("sql", "note"),
    [
        ("SELECT name FROM shop WHERE 0", "empty"),
        ("SELECT max(price) FROM sale WHERE id = 2", "all_null"),
        ("SELECT price FROM sale WHERE id = 2", "all_null"),
        ("SELECT count(*) FROM sale WHERE id = 9", "zero"),
        ("SELECT 0.0", "zero"),
        ("SELECT 'zero'", None),
        ("SELECT 0, 0", None),
        ("SELECT '0'", None),
    ],
)
def test_suspicious_results_are_noted(database, sql, note):
    run = play_messages(database, propose(sql), EXECUTE)
    assert run.replies[1].get("note") == note
    assert run.trajectory.steps[1].is_suspicious is (note is not None)


# Faults ---------------------------------------------------------------------------------------


class Broken:
    """An executor whose machinery is down."""

    async def execute_many(self, requests):
        return [QueryResult(status=QueryStatus.INFRA_FAULT, message="down") for _ in requests]


def test_a_query_that_is_nested_too_deeply_to_be_read_is_shown_without_stored_values(database):
    # SQLite runs it, sqlglot meets Python's limit on recursion.
    deep = f"SELECT id FROM shop WHERE city = 'paris' AND id = {'(' * 80}1{')' * 80}"
    run = play_messages(database, propose(deep), EXECUTE, ANSWER)
    assert run.replies[1] == {"columns": ["id"], "rows": [], "num_rows": 0, "note": "empty"}
    assert run.ending is Ending.ANSWERED


def r1(code):
    return (
        '<tool_call>\n{"name": "exec_sql", "arguments": '
        + json.dumps({"code": code})
        + "}\n</tool_call>"
    )


def test_where_messages_name_their_sql_a_repeated_query_is_no_correction(database):
    run = play_messages(
        database,
        r1(COUNT_PARIS),
        r1(COUNT_PARIS.replace("SELECT", "select").replace("shop", "SHOP") + " ; -- again"),
        r1(COUNT_PARIS.replace("Paris", "paris")),
        dialect="mtsql_r1",
        prompt="compact",
    )
    assert run.trajectory.statements == (COUNT_PARIS, COUNT_PARIS.replace("Paris", "paris"))


def test_what_is_left_of_a_refused_text_of_two_statements_is_run(database):
    run = play_messages(
        database,
        r1(f"{COUNT_PARIS}; SELECT 2"),
        r1(COUNT_PARIS),
        dialect="mtsql_r1",
        prompt="compact",
    )
    assert run.replies[0]["error"] == "multiple_statements"
    assert run.replies[1]["rows"] == [[2]]


def test_a_fault_of_the_executor_ends_the_turn_unscored():
    async def run():
        env = TurnEnv(SALES_SECOND, Broken(), EnvironmentConfig(), QueryLimits())
        await env.step(propose(COUNT_PARIS))
        result = await env.step(EXECUTE)
        return result, await env.finish()

    result, trajectory = asyncio.run(run())
    assert (result.observation, result.ending) == (None, Ending.INFRA_FAULT)
    assert trajectory.ending is Ending.INFRA_FAULT
    assert trajectory.judgements == trajectory.matches == ()
    assert trajectory.fault == Fault(kind=FaultKind.SQL_POOL, message="down")
    assert trajectory.statements == (COUNT_PARIS,)
    assert trajectory.steps[1].result_class is None


def test_a_fault_while_judging_leaves_the_turn_unscored():
    async def run():
        env = TurnEnv(SALES_SECOND, Broken(), EnvironmentConfig(), QueryLimits())
        await env.step(propose(COUNT_PARIS))
        await env.step(ANSWER)
        return await env.finish()

    trajectory = asyncio.run(run())
    assert trajectory.ending is Ending.INFRA_FAULT
    assert trajectory.judgements == trajectory.matches == ()
    assert trajectory.fault == Fault(kind=FaultKind.JUDGING, message="down")


def test_a_fault_of_the_caller_wins_over_any_ending(database):
    fault = Fault(kind=FaultKind.MODEL_SERVER, message="engine died")

    async def run():
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            env = TurnEnv(SALES_SECOND, pool, EnvironmentConfig(), QueryLimits())
            await env.step(propose(COUNT_PARIS))
            await env.step(ANSWER)
            return await env.finish(fault=fault)

    trajectory = asyncio.run(run())
    assert (trajectory.ending, trajectory.fault) == (Ending.INFRA_FAULT, fault)
    assert trajectory.judgements == ()


# Playing --------------------------------------------------------------------------------------


def collected(database, generate):
    async def run():
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            return await collect(
                TurnEnv(SALES_SECOND, pool, EnvironmentConfig(), QueryLimits()), generate
            )

    return asyncio.run(run())


def test_collect_plays_a_turn_to_its_end(database):
    seen = []
    script = iter([propose(COUNT_PARIS), EXECUTE, ANSWER])

    async def generate(messages):
        seen.append([message["role"] for message in messages])
        return next(script)

    assert collected(database, generate).ending is Ending.ANSWERED
    start = ["system", "user"]
    assert seen == [start, [*start, "assistant", "tool"], [*start, *["assistant", "tool"] * 2]]


@pytest.mark.parametrize(
    ("error", "ending", "message"),
    [
        (OutOfTokens(), Ending.MAX_TOKENS, None),
        (GenerationFault("engine died"), Ending.INFRA_FAULT, "engine died"),
        (GenerationFault(), Ending.INFRA_FAULT, "generation failed"),
    ],
)
def test_a_policy_that_stops_is_data(database, error, ending, message):
    async def generate(messages):
        raise error

    trajectory = collected(database, generate)
    fault = message and Fault(kind=FaultKind.MODEL_SERVER, message=message)
    assert (trajectory.ending, trajectory.fault) == (ending, fault)


# The rest -------------------------------------------------------------------------------------


def test_specs_hold_the_gold_history_and_travel():
    assert [spec.turn_index for spec in (SALES_FIRST, SALES_SECOND)] == [0, 1]
    assert SALES_FIRST.history == ()
    assert SALES_SECOND.history == (PastTurn(question="show all shops in Paris", sql=IN_PARIS),)
    assert pickle.loads(pickle.dumps(SALES_SECOND)) == SALES_SECOND
    assert len(pickle.dumps(SALES_SECOND)) < 5000


def test_the_tools_are_those_of_the_protocol():
    env = TurnEnv(SALES_FIRST, Broken(), EnvironmentConfig(), QueryLimits())
    assert [tool["function"]["name"] for tool in env.tools] == [str(name) for name in ActionName]


def test_steps_are_cheap():
    class Instant:
        async def execute_many(self, requests):
            return [
                QueryResult(status=QueryStatus.OK, columns=("n",), rows=((2,),)) for _ in requests
            ]

    async def turn():
        env = TurnEnv(SALES_SECOND, Instant(), EnvironmentConfig(), QueryLimits())
        for message in (propose(COUNT_PARIS), EXECUTE, LOOK, verdict("execution", "pass"), ANSWER):
            await env.step(message)

    async def run():
        await turn()  # fills the caches
        elapsed_s = []
        for _ in range(50):
            start_s = time.perf_counter()
            await turn()
            elapsed_s.append(time.perf_counter() - start_s)
        return min(elapsed_s)

    assert asyncio.run(run()) / 5 < 0.3e-3
