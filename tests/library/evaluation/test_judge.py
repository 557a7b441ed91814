"""Judging many pairs: what runs, what is remembered, and the rules that widen or narrow EX."""

import asyncio
import gc
import random
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.evaluation.ex.match import ResultRows
from mtsql.evaluation.ex.plugging import plugged
from mtsql.evaluation.ex.remembered import MEMORIES, Memory
from mtsql.evaluation.ex.text import same_tokens
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import Rules
from mtsql.schema import Column, Schema, Table
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus
from recipes.bench.perturbed import perturb

PETS = Schema(
    db_id="pets",
    tables=(
        Table(
            name="pets",
            columns=(Column(name="name", type="text"), Column(name="age", type="number")),
        ),
    ),
)
GOLDS = (
    "SELECT name FROM pets WHERE age > 3 AND name != 'Bo'",
    "SELECT DISTINCT age FROM pets ORDER BY age DESC LIMIT 2",
    "SELECT count(*), avg(age) FROM pets GROUP BY name HAVING count(*) > 0",
    "SELECT T1.name FROM pets AS T1 JOIN pets AS T2 ON T1.age = T2.age",
)


def rows(*rows) -> QueryResult:
    return QueryResult(status=QueryStatus.OK, rows=rows)


@dataclass
class Scripted:
    """Answers by database and SQL; remembers what it was asked."""

    results: dict[tuple[str, str], QueryResult]
    asked: list[list[tuple[str, str]]] = field(default_factory=list)

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        self.asked.append([(request.db_id, request.sql) for request in requests])
        return [self.results[request.db_id, request.sql] for request in requests]


def item(gold: str, pred: str, **changes) -> JudgeItem:
    return JudgeItem(db_id="a", gold_sql=gold, pred_sql=pred, schema=PETS, **changes)


def judge(executor, *items: JudgeItem) -> list[Judgement]:
    return asyncio.run(judge_many(executor, items))


def test_a_verdict_is_remembered() -> None:
    executor = Scripted({("a", "g"): rows((1,)), ("a", "p"): rows((1,)), ("a", "q"): rows((2,))})
    assert judge(executor, item("g", "p"), item("g", "p"))[1].ex is True
    assert judge(executor, item("g", "p"))[0].ex is True
    assert executor.asked == [[("a", "g"), ("a", "p")]]
    assert judge(executor, item("g", "q"))[0].ex is False
    assert executor.asked[1:] == [[("a", "q")]]  # gold is known


def test_copies_of_a_schema_share_what_is_remembered() -> None:
    executor = Scripted({("a", "g"): rows((1,)), ("a", "p"): rows((1,))})
    judge(executor, item("g", "p"))
    copy = Schema.model_validate_json(PETS.model_dump_json())
    assert copy is not PETS
    again = JudgeItem(db_id="a", gold_sql="g", pred_sql="p", schema=copy)
    assert judge(executor, again)[0].ex is True
    assert len(executor.asked) == 1


def test_a_verdict_of_the_clock_or_of_the_machine_is_not_remembered() -> None:
    for status in (QueryStatus.INTERRUPTED, QueryStatus.INFRA_FAULT):
        late = QueryResult(status=status)
        executor = Scripted({("a", "g"): rows((1,)), ("a", "p"): late})
        judge(executor, item("g", "p"))
        executor.results["a", "p"] = rows((1,))
        assert judge(executor, item("g", "p"))[0].ex is True


def test_memories_end_with_their_executor() -> None:
    executor = Scripted({("a", "g"): rows((1,)), ("a", "p"): rows((1,))})
    judge(executor, item("g", "p"))
    gc.collect()  # those that earlier tests left
    num_memories = len(MEMORIES)
    del executor
    gc.collect()
    assert len(MEMORIES) == num_memories - 1


def test_old_golds_make_room() -> None:
    # A result of R rows and one column counts as 10 + 2 R.
    memory = Memory(max_gold_cells=40)
    num_rows = {"a": 2, "b": 2, "c": 2, "huge": 16}
    golds = {name: ResultRows(rows(*[(0,)] * num)) for name, num in num_rows.items()}
    for name in ("a", "b", "huge"):
        memory.keep_gold(("db", name, 0), golds[name])
    assert memory.golds.get(("db", "a", 0)) is golds["a"]  # used, so that b is the oldest
    memory.keep_gold(("db", "c", 0), golds["c"])
    assert [name for name in golds if ("db", name, 0) in memory.golds] == ["a", "c"]


def test_the_same_query_is_not_run_twice() -> None:
    executor = Scripted({("a", "SELECT x FROM t"): rows((1,))})
    verdict = judge(executor, item("SELECT x FROM t", "select X  from T ; -- done"))[0]
    assert (verdict.ex, verdict.status) == (True, "ok")
    assert executor.asked == [[("a", "SELECT x FROM t")]]
    executor = Scripted({("a", "SELECT x FROM t"): QueryResult(status=QueryStatus.ERROR)})
    assert judge(executor, item("SELECT x FROM t", "select x from t"))[0].status == "gold_failed"


def test_a_suite_stops_at_the_first_database_that_tells_two_queries_apart() -> None:
    names = [f"a{number}" for number in range(12)]
    results = {(name, sql): rows((1,)) for name in ["a", *names] for sql in ("g", "p")}
    results["a1", "p"] = rows((2,))
    executor = Scripted(results)
    assert judge(executor, item("g", "p", variants=tuple(names)))[0].ex is False
    # groups of 1 and 3; the next one would begin with a3
    assert {name for call in executor.asked for name, _ in call} == {"a", "a0", "a1", "a2"}
    results["a1", "p"] = rows((1,))
    executor = Scripted(results)
    assert judge(executor, item("g", "p", variants=tuple(names)))[0].ex is True
    assert sum(map(len, executor.asked)) == 2 * 13


def test_a_gold_that_fails_on_one_database_of_a_suite_is_no_verdict() -> None:
    results = {(name, sql): rows((1,)) for name in ("a", "b") for sql in ("g", "p", "q")}
    results["b", "g"] = QueryResult(status=QueryStatus.ERROR, message="why")
    results["a", "q"] = rows((2,))
    executor = Scripted(results)
    right, wrong = judge(executor, *(item("g", pred, variants=("b",)) for pred in "pq"))
    assert (right.ex, right.status) == (None, "gold_failed")
    assert wrong.ex is False  # told apart before gold fails


def test_no_answer_is_wrong_where_gold_runs_on_one_database_of_a_suite() -> None:
    error = QueryResult(status=QueryStatus.ERROR, message="why")
    executor = Scripted({("a", "g"): error, ("b", "g"): rows((1,))})
    verdict = judge(executor, item("g", "", variants=("b",), with_strict=True))[0]
    assert (verdict.ex, verdict.ex_strict, verdict.status) == (False, False, "no_answer")
    executor = Scripted({("a", "g"): error, ("b", "g"): error})
    verdict = judge(executor, item("g", "", variants=("b",), with_strict=True))[0]
    assert (verdict.ex, verdict.ex_strict, verdict.status) == (None, None, "gold_failed")


def test_rows_beyond_those_of_gold_are_not_fetched() -> None:
    limits: list[int] = []

    class Counting(Scripted):
        async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
            limits.extend(request.limits.max_rows for request in requests)
            return await super().execute_many(requests)

    many = QueryResult(status=QueryStatus.OK, rows=((1,),) * 16, truncated=True)
    executor = Counting({("a", "g"): rows((1,)), ("a", "p"): many})
    assert judge(executor, item("g", "p", cut_rows=True))[0].ex is False
    assert executor.asked == [[("a", "g")], [("a", "p")]]
    assert limits == [10_000, 16]


def test_two_statements_fail_only_where_distinct_is_kept() -> None:
    executor = Scripted({("a", "g"): rows((1,)), ("a", "p; "): rows((1,))})
    assert judge(executor, item("g", "p; q"))[0].ex is True
    kept = judge(executor, item("g", "p; q", rules=Rules(keep_distinct=True)))[0]
    assert (kept.ex, kept.status) == (False, "refused")


def test_a_text_without_a_statement_has_no_rows() -> None:
    executor = Scripted(
        {
            ("a", "g"): rows(),
            ("a", ";"): QueryResult(status=QueryStatus.REFUSED, kind="empty_statement"),
        }
    )
    verdict = judge(executor, item("g", ";"))[0]
    assert (verdict.ex, verdict.is_empty) == (True, True)
    sane = item("g", ";", rules=Rules(empty_is_wrong=True))
    assert judge(executor, sane)[0].ex is False


def test_the_word_value() -> None:
    executor = Scripted({("a", "g"): rows((1,)), ("a", "1"): rows((1,)), ("a", "value"): rows()})
    assert judge(executor, item("g", "value"))[0].ex is True
    assert judge(executor, item("g", "value", rules=Rules(keep_value_word=True)))[0].ex is False


def test_strict_companion() -> None:
    gold, pred = "SELECT DISTINCT a, b", "SELECT b, a"
    executor = Scripted(
        {
            ("a", "SELECT  a, b"): rows((1, 2), (1, 2)),
            ("a", gold): rows((1, 2)),
            ("a", pred): rows((2, 1), (2, 1)),
        }
    )
    verdict = judge(executor, item(gold, pred, with_strict=True))[0]
    assert (verdict.ex, verdict.ex_strict) == (True, False)
    assert judge(executor, item(gold, gold, with_strict=True))[0].ex_strict is True
    assert judge(executor, item(gold, pred))[0].ex_strict is None


def test_plugged_values() -> None:
    gold = "SELECT a FROM t WHERE b = 'X y' AND c > 3"
    number, queries = plugged(gold, "SELECT T1.a FROM t AS T1 WHERE T1.c > 9")
    assert number == 2
    assert sorted(queries) == [
        "select t1 . a from t as t1 where t1 . c > 'X y'",
        "select t1 . a from t as t1 where t1 . c > 3",
    ]
    number, queries = plugged("SELECT a FROM t", "SELECT a FROM t WHERE c > 9")
    assert (number, list(queries)) == (0, [])


def test_plugged_values_make_a_match() -> None:
    gold, pred = "SELECT a FROM t WHERE c > 3", "SELECT a FROM t WHERE c > 9"
    plug = "select a from t where c > 3"
    executor = Scripted({("a", gold): rows((1,)), ("a", pred): rows(), ("a", plug): rows((1,))})
    assert judge(executor, item(gold, pred))[0].ex is False
    assert judge(executor, item(gold, pred, rules=Rules(plug_value=True)))[0].ex is True


def test_too_many_ways_to_plug_are_no_verdict() -> None:
    gold = "SELECT a FROM t WHERE " + " AND ".join(f"b = '{n}'" for n in range(10))
    pred = "SELECT a FROM t WHERE " + " OR ".join("b = 'x'" for _ in range(9))

    class Never(Scripted):
        async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
            return [rows((1,)) if request.sql == gold else rows() for request in requests]

    started_s = time.perf_counter()
    verdict = judge(Never({}), item(gold, pred, rules=Rules(plug_value=True)))[0]
    assert (verdict.ex, verdict.status) == (None, "too_many")
    assert time.perf_counter() - started_s < 10


@given(st.integers(0, 10**9), st.sampled_from(GOLDS))
def test_queries_with_the_same_tokens_give_the_same_rows(seed: int, gold: str) -> None:
    rng = random.Random(seed)
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE pets (name, age); INSERT INTO pets VALUES ('Bo', 3), ('Al', 4), ('Cy', 4)"
    )
    _, pred = perturb(gold, PETS, GOLDS, rng)
    if same_tokens(pred) == same_tokens(gold):
        assert connection.execute(pred).fetchall() == connection.execute(gold).fetchall()
    connection.close()


def test_predictions_are_the_same_for_a_seed() -> None:
    def some(seed: int) -> list[tuple[str, str]]:
        rng = random.Random(seed)
        return [perturb(gold, PETS, GOLDS, rng) for gold in GOLDS * 20]

    assert some(1) == some(1)
    assert some(1) != some(2)
    assert len({kind.split("+")[0] for kind, _ in some(1)}) > 10


def test_hostile_predictions_are_answered_within_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE pets (name, age)")
    connection.executemany("INSERT INTO pets VALUES (?, ?)", [(str(n), n) for n in range(50)])
    connection.commit()
    connection.close()
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT count(*) FROM c"
    wide = "SELECT " + ", ".join(["age % 2"] * 12) + " FROM pets"
    shifted = "SELECT " + ", ".join(["(age + 1) % 2"] * 11 + ["age % 2"]) + " FROM pets"
    pairs = [
        ("SELECT name FROM pets", endless, False, "interrupted"),
        ("SELECT name FROM pets", "DELETE FROM pets", False, "refused"),
        ("SELECT name FROM pets", "SELECT name FROM pets, pets, pets", False, "error"),
        ("SELECT 1", "(" * 5000, False, "error"),
        (wide, shifted, False, "ok"),
    ]

    async def main() -> list[Judgement]:
        async with LocalPool({"a": path}, num_workers=1) as pool:
            limits = QueryLimits(timeout_s=1.0)
            return await judge_many(
                pool, [item(gold, pred, limits=limits) for gold, pred, _, _ in pairs]
            )

    started_s = time.perf_counter()
    found = asyncio.run(main())
    assert [(one.ex, one.status) for one in found] == [(ex, status) for *_, ex, status in pairs]
    assert time.perf_counter() - started_s < 20


@pytest.mark.parametrize("status", ["gold_failed", "infra_fault"])
def test_nobody_is_judged_by_a_gold_that_fails(status: str) -> None:
    kind = QueryStatus.ERROR if status == "gold_failed" else QueryStatus.INFRA_FAULT
    executor = Scripted({("a", "g"): QueryResult(status=kind), ("a", "p"): rows((1,))})
    verdict = judge(executor, item("g", "p", with_strict=True))[0]
    assert (verdict.ex, verdict.ex_strict, verdict.status) == (None, None, status)
