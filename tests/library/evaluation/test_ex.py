"""EX: results are bags or sequences of rows, columns may be permuted; and who is to blame."""

import asyncio
import dataclasses
import itertools
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.evaluation.ex.match import execution_match, needs_order
from mtsql.evaluation.ex.text import comparable_sql, holds_two_statements, same_tokens
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.rules import Rules
from mtsql.schema import Column, Schema, Table
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus

PETS = Schema(
    db_id="pets",
    tables=(
        Table(
            name="pets",
            columns=(
                Column(name="name", type="text", is_primary=True),
                Column(name="age", type="number"),
            ),
        ),
    ),
)


def rows(*rows) -> QueryResult:
    return QueryResult(status=QueryStatus.OK, rows=rows)


BY_VALUE = Rules(numbers_by_value=True)
SPARING = Rules(keep_literals=True)


def match(
    gold: Sequence[tuple], pred: Sequence[tuple], *, ordered: bool = False, rules: Rules = BY_VALUE
) -> bool:
    return execution_match(rows(*gold), rows(*pred), ordered=ordered, rules=rules)


def test_row_order_counts_only_when_gold_orders() -> None:
    assert match([(1,), (2,)], [(2,), (1,)])
    assert not match([(1,), (2,)], [(2,), (1,)], ordered=True)
    assert match([(1,), (2,)], [(1,), (2,)], ordered=True)


def test_duplicates_count() -> None:
    assert not match([(1,), (1,), (2,)], [(1,), (2,), (2,)])
    assert not match([(1,), (1,)], [(1,)])


def test_columns_may_be_swapped_in_all_rows_alike() -> None:
    assert match([(1, "a"), (2, "b")], [("b", 2), ("a", 1)])
    assert match([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], ordered=True)
    assert not match([(1, 2), (3, 4)], [(1, 2), (4, 3)])
    assert not match([(1, 2), (3, 4)], [(1, 2), (4, 3)], ordered=True)


def test_equal_column_bags_are_not_enough() -> None:
    # Both columns hold 0, 0, 1, 1 on both sides, but gold pairs equal cells and pred does not.
    assert not match([(0, 0), (0, 0), (1, 1), (1, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)])


def test_an_extra_column_is_wrong() -> None:
    assert not match([(1,)], [(1, 1)])


def test_empty_results_are_equal_whatever_their_columns() -> None:
    gold = QueryResult(status=QueryStatus.OK, columns=("a",))
    pred = QueryResult(status=QueryStatus.OK, columns=("b", "c"))
    assert execution_match(gold, pred, ordered=True)
    assert not match([], [(1,)])
    assert not match([(1,)], [])


def test_numbers_compare_by_value_and_text_is_no_number() -> None:
    assert match([(1,)], [(1.0,)])
    assert match([(1, 10), (2, 3)], [(3.0, 2), (10, 1.0)])
    assert not match([(1,)], [("1",)])
    assert not match([("a",)], [(b"a",)])


def test_cells_are_sorted_by_text_before_rows_are_compared() -> None:
    # As text, 10 stands before 1 (0 before the < of its type) and 1.0 before 10 (. before 0).
    assert not match([(1, 10)], [(1.0, 10)], rules=Rules())
    assert not match([(1, 10)], [(1.0, 10)], ordered=True, rules=Rules())
    assert match([(1, 10)], [(1.0, 10)])
    assert match([(1, 2)], [(1.0, 2)], rules=Rules())
    assert match([(1.5, 10)], [(10, 1.5)], rules=Rules())
    assert match([(0.0, 10)], [(0.0, 10)], rules=Rules())


def test_bytes_that_are_no_text_are_dropped_before_cells_are_compared() -> None:
    assert match([("Jos\ufffd", 1)], [("Jos", 1)])
    assert not match([("Jos\ufffd", 1)], [("Josi", 1)])


def test_empty_results_match_unless_a_rule_says_no() -> None:
    assert match([], [], rules=Rules())
    assert not match([], [], rules=Rules(empty_is_wrong=True))


def test_null_equals_only_null() -> None:
    assert match([(None,), (1,)], [(1,), (None,)])
    assert not match([(None,)], [(0,)])
    assert not match([(None,)], [("",)])


def test_column_names_do_not_matter() -> None:
    gold = QueryResult(status=QueryStatus.OK, columns=("n",), rows=((3,),))
    pred = QueryResult(status=QueryStatus.OK, columns=("count(*)",), rows=((3,),))
    assert execution_match(gold, pred, ordered=False)


@pytest.mark.parametrize("num_columns", [9, 60])
def test_wide_results_with_look_alike_columns_are_quick(num_columns: int) -> None:
    # Column c is the cycle 0..C-1 started at c: all bags are equal, C! permutations exist.
    gold = [
        tuple((row + c) % num_columns for c in range(num_columns)) for row in range(num_columns)
    ]
    pred = [tuple(reversed(row)) for row in reversed(gold)]
    start = time.process_time()
    assert match(gold, pred)
    assert not match(gold, [*pred[:-1], (pred[-1][1], pred[-1][0], *pred[-1][2:])])
    assert time.process_time() - start < 5


CELLS = st.sampled_from([0, 1, 1.0, 10, "1", "a", None])


@st.composite
def tables(draw) -> list[tuple]:
    width = draw(st.integers(1, 4))
    return draw(st.lists(st.tuples(*[CELLS] * width), max_size=6))


@given(tables(), st.randoms(use_true_random=False))
def test_shuffled_rows_and_columns_still_match(gold, random) -> None:
    width = len(gold[0]) if gold else 0
    places = random.sample(range(width), width)
    pred = [tuple(row[place] for place in places) for row in random.sample(gold, len(gold))]
    assert match(gold, pred)


@given(tables(), tables(), st.booleans())
def test_the_search_agrees_with_trying_every_permutation(gold, pred, ordered) -> None:
    assert match(gold, pred, ordered=ordered) == brute_force(gold, pred, ordered)


def brute_force(gold: list[tuple], pred: list[tuple], ordered: bool) -> bool:
    if not gold or not pred or len(gold[0]) != len(pred[0]):
        return not gold and not pred
    for places in itertools.permutations(range(len(gold[0]))):
        left = list(gold)
        permuted = [tuple(row[place] for place in places) for row in pred]
        if ordered and permuted == gold:
            return True
        if not ordered and len(permuted) == len(left):
            for row in permuted:
                if row in left:
                    left.remove(row)
            if not left:
                return True
    return False


def test_comparable_sql_joins_operators() -> None:
    sql = "SELECT a FROM t WHERE a > = 1 AND b ! = '> ='"
    assert comparable_sql(sql) == "SELECT a FROM t WHERE a >= 1 AND b != '>='"
    assert comparable_sql(sql, SPARING) == "SELECT a FROM t WHERE a >= 1 AND b != '> ='"
    assert comparable_sql("a >  = 1") == "a >  = 1"  # one blank only


@pytest.mark.parametrize("rules", [Rules(), SPARING])
def test_comparable_sql_drops_distinct_but_not_in_names_and_strings(rules: Rules) -> None:
    sql = "SELECT DISTINCT a, count(distinct b) FROM distinct_t WHERE c = 'distinct'"
    kept = dataclasses.replace(rules, keep_distinct=True)
    assert comparable_sql(sql, rules) == "SELECT  a, count( b) FROM distinct_t WHERE c = 'distinct'"
    assert comparable_sql(sql, kept) == sql


def test_comparable_sql_keeps_the_first_statement() -> None:
    assert comparable_sql("SELECT ';' ; SELECT 2;") == "SELECT ';' ; "
    assert comparable_sql("SELECT 1;;") == "SELECT 1;"
    assert comparable_sql("; SELECT 1") == "; "
    assert comparable_sql("SELECT 1 -- a; b") == "SELECT 1 -- a; b"
    assert comparable_sql("SELECT (1; 2)") == "SELECT (1; 2)"
    assert comparable_sql("SELECT ';' ; SELECT 2;", SPARING) == "SELECT ';' "


def test_the_current_year_is_that_of_the_published_data() -> None:
    assert comparable_sql("SELECT YEAR ( CURDATE() ) - 1") == "SELECT 2020- 1"


@pytest.mark.parametrize(
    ("sql", "is_two"),
    [
        ("SELECT 1;", False),
        ("SELECT 1; -- and; no more", False),
        ("; SELECT 1", False),
        ("SELECT ';'", False),
        ("SELECT 1;;", True),
        ("SELECT 1; SELECT 2", True),
    ],
)
def test_two_statements_are_what_sqlite3_refuses(sql: str, is_two: bool) -> None:
    assert holds_two_statements(sql) is is_two
    connection = sqlite3.connect(":memory:")
    if is_two:
        with pytest.raises((sqlite3.Warning, sqlite3.ProgrammingError), match="one statement"):
            connection.execute(sql)
    else:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ("SELECT a  FROM t", "select A from T -- done\n ;", True),
        ("SELECT count( * ),a FROM t", "SELECT count(*) , a FROM t", True),
        ("SELECT 'A'", "SELECT 'a'", False),
        ("SELECT a >= 1", "SELECT a > = 1", False),
        ("SELECT 1e-5", "SELECT 1e - 5", False),
        ("SELECT x'00'", "SELECT x '00'", False),
        ("SELECT 1 --c\n+1", "SELECT 1 --c +1", False),
        ("SELECT random()", "SELECT  random()", False),
        ("SELECT é", "SELECT É", False),
    ],
)
def test_the_same_query_in_another_dress(left: str, right: str, is_same: bool) -> None:
    assert (same_tokens(left) == same_tokens(right)) is is_same


def test_order_is_needed_when_gold_says_order_by_anywhere() -> None:
    assert needs_order("select a from t Order By a")
    assert needs_order("SELECT a FROM t WHERE a IN (SELECT b FROM u ORDER BY b LIMIT 1)")
    assert not needs_order("SELECT a FROM t")


@dataclass
class ScriptedExecutor:
    """Answers from a table of results by SQL; remembers what it was asked."""

    results: dict[str, QueryResult]
    calls: list[list[QueryRequest]] = field(default_factory=list)

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        self.calls.append(list(requests))
        return [self.results[request.sql] for request in requests]


def item(gold: str, pred: str | None) -> JudgeItem:
    return JudgeItem(db_id="pets", gold_sql=gold, pred_sql=pred, schema=PETS)


NAMES = "SELECT name FROM pets"
AGES = "SELECT age FROM pets"


def judged(gold: QueryResult, pred: QueryResult) -> tuple[bool | None, bool | None, str]:
    executor = ScriptedExecutor({NAMES: gold, AGES: pred})
    [judgement] = asyncio.run(judge_many(executor, [item(NAMES, AGES)]))
    return judgement.ex, judgement.em, judgement.status


def test_a_failing_prediction_is_wrong() -> None:
    for status in ("refused", "interrupted", "capped", "error"):
        failed = QueryResult(status=QueryStatus(status), message="why")
        assert judged(rows((1,)), failed) == (False, False, status)


def test_a_failing_gold_or_machine_leaves_ex_open_and_em_known() -> None:
    error, fault = (
        QueryResult(status=QueryStatus.ERROR),
        QueryResult(status=QueryStatus.INFRA_FAULT),
    )
    assert judged(error, rows((1,))) == (None, False, "gold_failed")
    assert judged(error, error) == (None, False, "gold_failed")
    assert judged(error, fault) == (None, False, "gold_failed")
    assert judged(fault, rows((1,))) == (None, False, "infra_fault")
    assert judged(rows((1,)), fault) == (None, False, "infra_fault")


def test_cut_results() -> None:
    cut = QueryResult(status=QueryStatus.OK, rows=((1,),), truncated=True)
    assert judged(cut, cut) == (None, False, "gold_failed")
    # One row against more than one: known to differ.
    assert judged(rows((1,)), cut)[0] is False
    assert judged(cut, rows((1,)))[0] is False


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_no_answer_is_wrong_where_gold_runs(answer: str | None) -> None:
    executor = ScriptedExecutor({NAMES: rows()})  # no rows either, and yet no match
    [judgement] = asyncio.run(judge_many(executor, [item(NAMES, answer)]))
    assert (judgement.ex, judgement.em, judgement.status) == (False, False, "no_answer")
    asyncio.run(judge_many(executor, [item(NAMES, " "), item(NAMES, "\n"), item(NAMES, None)]))
    assert [[request.sql for request in call] for call in executor.calls] == [[NAMES]]


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_no_answer_is_open_where_gold_fails(answer: str | None) -> None:
    executor = ScriptedExecutor({NAMES: QueryResult(status=QueryStatus.ERROR, message="why")})
    [judgement] = asyncio.run(judge_many(executor, [item(NAMES, answer)]))
    assert (judgement.ex, judgement.em, judgement.status) == (None, False, "gold_failed")
    assert judgement.message == "gold: error: why"
    executor.results[NAMES] = QueryResult(status=QueryStatus.INFRA_FAULT)
    [judgement] = asyncio.run(judge_many(executor, [item(NAMES, answer)]))
    assert (judgement.ex, judgement.em, judgement.status) == (None, False, "infra_fault")


def test_without_ex_no_answer_runs_nothing() -> None:
    executor = ScriptedExecutor({})
    em_only = dataclasses.replace(item(NAMES, None), with_ex=False)
    [judgement] = asyncio.run(judge_many(executor, [em_only]))
    assert (judgement.ex, judgement.em, judgement.status) == (None, False, "no_answer")
    assert executor.calls == []


def test_em_is_open_when_gold_is_outside_spiders_subset() -> None:
    gold = "WITH p AS (SELECT name FROM pets) SELECT name FROM p"
    executor = ScriptedExecutor({gold: rows(("Bo",)), NAMES: rows(("Bo",))})
    [judgement] = asyncio.run(judge_many(executor, [item(gold, NAMES)]))
    assert (judgement.ex, judgement.em, judgement.status) == (True, None, "ok")


def test_equal_statements_travel_once_in_one_call() -> None:
    executor = ScriptedExecutor({NAMES: rows(("Bo",)), AGES: rows((3,))})
    judgements = asyncio.run(
        judge_many(executor, [item(NAMES, NAMES), item(NAMES, AGES), item(NAMES, None)])
    )
    assert [judgement.ex for judgement in judgements] == [True, False, False]
    assert [[request.sql for request in call] for call in executor.calls] == [[NAMES, AGES]]


def test_judging_with_a_real_database(tmp_path: Path) -> None:
    path = tmp_path / "pets.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE pets (name TEXT PRIMARY KEY, age INT)")
    connection.execute("INSERT INTO pets VALUES ('Bo', 3), ('Al', 3), ('Cy', 5)")
    connection.commit()
    connection.close()
    golds_and_preds = [
        ("SELECT name, age FROM pets", "SELECT age, name FROM pets ORDER BY age"),
        ("SELECT age FROM pets", "SELECT DISTINCT age FROM pets"),
        ("SELECT name FROM pets ORDER BY age, name", "SELECT name FROM pets ORDER BY name"),
        ("SELECT name FROM pets ORDER BY age, name", "SELECT name FROM pets ORDER BY age DESC"),
        ("SELECT count(*) FROM pets", "SELECT 3.0"),
        ("SELECT name FROM pets WHERE age > = 4", "SELECT name FROM pets WHERE age = 5; DROP"),
        ("SELECT name FROM pets", "SELECT nick FROM pets"),
        ("SELECT name FROM pets", "DROP TABLE pets"),
        ("SELECT nick FROM pets", "SELECT name FROM pets"),
    ]

    async def judge() -> list[tuple[bool | None, str]]:
        async with LocalPool({"pets": path}) as pool:
            items = [
                JudgeItem(
                    db_id="pets",
                    gold_sql=gold,
                    pred_sql=pred,
                    schema=PETS,
                    limits=QueryLimits(timeout_s=10.0),
                )
                for gold, pred in golds_and_preds
            ]
            return [(one.ex, one.status) for one in await judge_many(pool, items)]

    assert asyncio.run(judge()) == [
        (True, "ok"),
        (True, "ok"),
        (True, "ok"),  # Al 3, Bo 3, Cy 5: by age and name is by name
        (False, "ok"),
        (True, "ok"),
        (True, "ok"),
        (False, "error"),
        (False, "refused"),
        (None, "gold_failed"),
    ]
