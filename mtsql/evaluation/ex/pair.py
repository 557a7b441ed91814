"""EX of one pair, as a dialogue: it asks for results and is sent them, until it knows the verdict.

A trial is a generator: it yields requests, is sent their results in the same order, and returns its
outcome. `judge_many` plays many trials in step, so that one call carries what all of them need:

    judge_many                      trial of pair 1              trial of pair 2
    next(trial)                     yield [gold, pred]           yield [gold, pred]
    execute_many(these 4)
    trial.send(its results)         return Outcome(ex=False)     yield [gold, pred on 3 more]
    execute_many(these 6)
    trial.send(its results)                                      return Outcome(ex=True)

Inside a trial, `yield from` hands requests and results through: run_case -> _suite -> _ask, the
only function that yields.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice
from typing import TypeVar

from mtsql.evaluation.ex.match import (
    ResultRows,
    SearchLimitError,
    needs_order,
    rows_match,
    strict_match,
)
from mtsql.evaluation.ex.plugging import plugged
from mtsql.evaluation.ex.remembered import Memory
from mtsql.evaluation.ex.text import (
    comparable_sql,
    holds_two_statements,
    plain_sql,
    put_year,
    same_tokens,
)
from mtsql.evaluation.rules import Rules, judged_text
from mtsql.sql.engine import ErrorKind
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus

T = TypeVar("T")
Trial = Generator[list[QueryRequest], list[QueryResult], T]

GOLD_FAILED = "gold_failed"
NO_ANSWER = "no_answer"
NO_SQL = "no SQL was given"
TOO_MANY = "too_many"
INFRA_FAULT = QueryStatus.INFRA_FAULT.value
OK = QueryStatus.OK.value
MAX_PLUGGED = 100_000
"""Ways to plug gold's values into one prediction that are all tried, which takes seconds."""
MIN_PLUGGED = 10_000
"""As many are tried where there are more; if none of them matches, nothing is known."""
PLUGGED_AT_ONCE = 64
LEAST_ROWS = 16
"""Predictions are cut no shorter, so that few limits are in use: the pool caches by limits."""
SUITE_GROWTH = 3
"""Databases of a test suite are asked in groups of 1, 3, 9 ...: most wrong queries fail early."""
_TWO_STATEMENTS = QueryResult(
    status=QueryStatus.REFUSED,
    kind=ErrorKind.MULTIPLE_STATEMENTS,
    message="only one statement can be run at a time",
)
_NO_ROWS = QueryResult(status=QueryStatus.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one trial decides: two texts, and the databases on which they have to agree."""

    gold_sql: str
    pred_sql: str | None
    """None: no answer."""
    db_ids: tuple[str, ...]
    limits: QueryLimits
    rules: Rules
    with_strict: bool = False
    cut_rows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """EX of one pair and how it came about; see `Judgement`."""

    ex: bool | None
    status: str = OK
    message: str = ""
    ex_strict: bool | None = None
    is_empty: bool = False


_MATCH = Outcome(ex=True)
_WRONG = Outcome(ex=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gold:
    plain: str
    """The query as values are taken from it."""
    executed: str
    tokens: str
    """Shared with every text that is the same query."""
    ordered: bool


@lru_cache(maxsize=4096)
def _gold(sql: str, rules: Rules) -> _Gold:
    plain = plain_sql(sql, rules.keep_distinct)
    executed = comparable_sql(sql, rules)
    return _Gold(
        plain=plain,
        executed=executed,
        tokens=same_tokens(executed),
        ordered=needs_order(plain),
    )


def run_case(case: Case, memory: Memory) -> Trial[Outcome]:
    """Its requests hold one object for equal limits, so that they can be told apart quickly."""
    case = replace(case, limits=_limits(case.limits, case.limits.max_rows))
    gold = _gold(case.gold_sql, case.rules)
    if case.pred_sql is None:
        return (yield from _no_answer(case, gold, memory))
    pred_sql = judged_text(case.pred_sql, case.rules)
    outcome = yield from _suite(case, gold, comparable_sql(pred_sql, case.rules), memory)
    if outcome.ex is False and case.rules.plug_value:
        outcome = yield from _plug(case, gold, pred_sql, outcome, memory)
    if case.with_strict and outcome.status not in (GOLD_FAILED, INFRA_FAULT):
        ex_strict = yield from _strict(case, pred_sql, memory)
        outcome = replace(outcome, ex_strict=ex_strict)
    return outcome


def _no_answer(case: Case, gold: _Gold, memory: Memory) -> Trial[Outcome]:
    """Wrong as soon as gold runs on one database; where it runs on none, that is gold's fault."""
    unknown: Outcome | None = None
    for db_ids in _growing(case.db_ids):
        for gold_rows, _ in (
            yield from _ask(case, gold.executed, [(db_id, None) for db_id in db_ids], memory)
        ):
            if isinstance(gold_rows, ResultRows):
                ex_strict = False if case.with_strict else None
                return Outcome(ex=False, status=NO_ANSWER, message=NO_SQL, ex_strict=ex_strict)
            unknown = unknown or _gold_failed(gold_rows)
    assert unknown is not None
    return unknown


def _suite(case: Case, gold: _Gold, pred_sql: str, memory: Memory) -> Trial[Outcome]:
    """One text on all databases, until one of them tells it from gold."""
    unknown: Outcome | None = None
    is_empty = True
    is_gold = same_tokens(pred_sql) == gold.tokens and not _is_refused(case, pred_sql)
    groups = iter((case.db_ids,)) if is_gold else _growing(case.db_ids)
    for db_ids in groups:
        texts = [(db_id, None if is_gold else pred_sql) for db_id in db_ids]
        for gold_rows, pred in (yield from _ask(case, gold.executed, texts, memory)):
            outcome = _compare(case, gold_rows, pred, ordered=gold.ordered)
            if outcome.ex is False:
                return outcome
            if outcome.ex is None:
                unknown = unknown or outcome
            is_empty = is_empty and outcome.is_empty
    return unknown or Outcome(ex=True, is_empty=is_empty)


def _growing(db_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    size = 1
    while db_ids:
        yield db_ids[:size]
        db_ids = db_ids[size:]
        size *= SUITE_GROWTH


def _plug(case: Case, gold: _Gold, pred_sql: str, own: Outcome, memory: Memory) -> Trial[Outcome]:
    """Gold's values in place of the prediction's; `own` is the outcome with its own values."""
    num_ways, candidates = plugged(gold.plain, plain_sql(pred_sql, case.rules.keep_distinct))
    first, *others = case.db_ids
    unknown: Outcome | None = None
    if num_ways > MAX_PLUGGED:
        message = f"{num_ways} ways to plug values in, more than {MAX_PLUGGED}"
        candidates = islice(candidates, MIN_PLUGGED)
        unknown = Outcome(ex=None, status=TOO_MANY, message=message)
    while group := list(dict.fromkeys(map(put_year, islice(candidates, PLUGGED_AT_ONCE)))):
        texts = [(first, sql) for sql in group]
        results = yield from _ask(case, gold.executed, texts, memory)
        for sql, (gold_rows, pred) in zip(group, results, strict=True):
            outcome = _compare(case, gold_rows, pred, ordered=gold.ordered)
            if outcome.ex and others:
                outcome = yield from _suite(case, gold, sql, memory)
            if outcome.ex:
                return outcome
            if outcome.ex is None:
                unknown = unknown or outcome
    return unknown or own


def _strict(case: Case, pred_sql: str, memory: Memory) -> Trial[bool | None]:
    rules = replace(case.rules, keep_distinct=True)
    case = replace(case, rules=rules)
    gold = _gold(case.gold_sql, rules)
    texts = [(db_id, comparable_sql(pred_sql, rules)) for db_id in case.db_ids]
    verdict: bool | None = True
    for gold_rows, pred in (yield from _ask(case, gold.executed, texts, memory)):
        assert pred is not None
        if isinstance(gold_rows, QueryResult) or pred.status is QueryStatus.INFRA_FAULT:
            verdict = None
            continue
        is_ok = pred.status is QueryStatus.OK
        if not is_ok or not strict_match(gold_rows, ResultRows(pred), ordered=gold.ordered):
            return False
    return verdict


def _ask(
    case: Case, gold_sql: str, texts: Sequence[tuple[str, str | None]], memory: Memory
) -> Trial[list[tuple[ResultRows | QueryResult, QueryResult | None]]]:
    """Results of gold and of (db_id, prediction); of a gold that failed, its result as it is.

    A prediction that is gold itself is None, and so is its result.
    """
    golds: dict[str, ResultRows | QueryResult] = {}
    missing: list[QueryRequest] = []
    for db_id in dict.fromkeys(db_id for db_id, _ in texts):
        gold_rows = memory.golds.get((db_id, gold_sql, id(case.limits)))
        if gold_rows is None:
            missing.append(QueryRequest(db_id=db_id, sql=gold_sql, limits=case.limits))
        else:
            golds[db_id] = gold_rows
    if case.cut_rows and missing:
        golds |= _learn(missing, (yield missing), memory)
        missing = []
    requests = [
        QueryRequest(db_id=db_id, sql=sql, limits=_enough(case, golds.get(db_id)))
        for db_id, sql in texts
        if sql is not None and not _is_refused(case, sql)
    ]
    results = (yield [*missing, *requests]) if missing or requests else []
    golds |= _learn(missing, results[: len(missing)], memory)
    rest = iter(results[len(missing) :])

    def result(sql: str | None) -> QueryResult | None:
        if sql is None:
            return None
        return _TWO_STATEMENTS if _is_refused(case, sql) else _lenient(next(rest))

    return [(golds[db_id], result(sql)) for db_id, sql in texts]


def _learn(
    requests: Sequence[QueryRequest], results: Sequence[QueryResult], memory: Memory
) -> dict[str, ResultRows | QueryResult]:
    """Results of gold by database; those that may be compared are remembered."""
    golds: dict[str, ResultRows | QueryResult] = {}
    for request, result in zip(requests, results, strict=True):
        golds[request.db_id] = result
        if result.status is QueryStatus.OK:
            golds[request.db_id] = gold_rows = ResultRows(result)
            memory.keep_gold((request.db_id, request.sql, id(request.limits)), gold_rows)
    return golds


def _enough(case: Case, gold: ResultRows | QueryResult | None) -> QueryLimits:
    """A prediction with more rows than gold is wrong in any case: no more are fetched."""
    if not case.cut_rows or not isinstance(gold, ResultRows) or gold.truncated:
        return case.limits
    num_rows = max(LEAST_ROWS, 1 << len(gold.rows).bit_length())
    return _limits(case.limits, min(case.limits.max_rows, num_rows))


@cache  # few are in use, and each must stay the one of its kind
def _limits(limits: QueryLimits, max_rows: int) -> QueryLimits:
    """The same object for equal limits."""
    return limits if max_rows == limits.max_rows else replace(limits, max_rows=max_rows)


def _is_refused(case: Case, sql: str) -> bool:
    return case.rules.keep_distinct and holds_two_statements(sql)


def _lenient(result: QueryResult) -> QueryResult:
    """A text without a statement, such as a comment, has no rows for the official evaluator."""
    return _NO_ROWS if result.kind == ErrorKind.EMPTY_STATEMENT else result


def _gold_failed(gold: QueryResult) -> Outcome:
    if gold.status is QueryStatus.INFRA_FAULT:
        return Outcome(ex=None, status=INFRA_FAULT, message=gold.message)
    message = f"gold: {gold.status}: {gold.message}"
    return Outcome(ex=None, status=GOLD_FAILED, message=message)


def _compare(
    case: Case, gold: ResultRows | QueryResult, pred: QueryResult | None, *, ordered: bool
) -> Outcome:
    if isinstance(gold, QueryResult):
        return _gold_failed(gold)
    if pred is None:
        return Outcome(ex=bool(gold.rows) or not case.rules.empty_is_wrong, is_empty=not gold.rows)
    if pred.status is not QueryStatus.OK:
        ex = None if pred.status is QueryStatus.INFRA_FAULT else False
        return Outcome(ex=ex, status=pred.status.value, message=pred.message)
    if gold.truncated and pred.truncated:
        # The rest of both results is unknown, and without an order so is which rows were kept.
        message = f"gold: more than {case.limits.max_rows} rows; raise max_rows to judge it"
        return Outcome(ex=None, status=GOLD_FAILED, message=message)
    try:
        ex = rows_match(gold, pred, ordered=ordered, rules=case.rules)
    except SearchLimitError:
        return Outcome(ex=None, status=TOO_MANY, message="too many permutations of columns")
    if gold.rows or pred.rows:
        return _MATCH if ex else _WRONG
    return Outcome(ex=ex, is_empty=True)
