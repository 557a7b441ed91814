"""What a gold query is worth as a measure: does it run, does it match itself, does luck match it?

Asked before anything is trained or scored, so that a gold that cannot judge is known, counted and
said, and not met again in each rollout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtsql.evaluation.ex.text import comparable_sql
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.evaluation.ties import tie_tests
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus, SqlExecutor

Gold = tuple[str, str]
"""A db_id and a statement; many turns share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldFacts:
    """One gold under given limits and rules."""

    failure: str = ""
    """Why it gives no result to compare with, as `gold_STATUS: KIND: MESSAGE`; "" where it does."""
    fault: str = ""
    """Likewise, where the machinery failed: nothing is known of the gold itself."""
    ex: bool | None = None
    """Of the gold as a prediction against itself."""
    em: bool | None = None
    """Likewise; None: it is outside Spider's subset."""
    is_cut: bool = False
    """It has more rows than the limits keep: of a prediction that is written another way, which is
    cut too, nothing can be said."""
    is_empty: bool = False
    """It gives no row, so that any prediction without rows matches."""
    cuts_tie: bool = False
    """Its LIMIT leaves to the engine which of several equal rows are taken."""

    @property
    def is_unread(self) -> bool:
        """It runs, and EM cannot judge it."""
        return not (self.failure or self.fault) and self.em is None

    @property
    def is_wrong(self) -> bool:
        """It runs, and a prediction of the same text scores wrong or not at all under EX or EM."""
        return not (self.failure or self.fault) and (self.ex is not True or self.em is False)


async def gold_facts(
    executor: SqlExecutor,
    golds: Sequence[Gold],
    schemas: Mapping[str, Schema],
    *,
    limits: QueryLimits,
    rules: Rules = OFFICIAL,
) -> list[GoldFacts]:
    """One for each gold, in order.

    Args:
        schemas: by db_id.
        limits: of the run that is to use them.
    """
    results = await _run(executor, golds, limits)
    compared = [(db_id, comparable_sql(sql, rules)) for db_id, sql in golds]
    rows = await _run(executor, compared, limits)
    judgements = await judge_many(
        executor,
        [
            JudgeItem(
                db_id=db_id,
                gold_sql=sql,
                pred_sql=sql,
                schema=schemas[db_id],
                limits=limits,
                rules=rules,
            )
            for db_id, sql in golds
        ],
    )
    ties = await cut_ties(executor, golds, limits, rules)
    return [
        GoldFacts(
            failure=_failure(result) or _failure(compared_result),
            fault=_fault(result) or _fault(compared_result),
            is_cut=compared_result.truncated,
            ex=judgement.ex,
            em=judgement.em,
            is_empty=_is_empty(compared_result),
            cuts_tie=is_cut,
        )
        for result, compared_result, judgement, is_cut in zip(
            results, rows, judgements, ties, strict=True
        )
    ]


async def empty_golds(
    executor: SqlExecutor, golds: Sequence[Gold], limits: QueryLimits, rules: Rules = OFFICIAL
) -> list[bool]:
    """Which of them run and give no row."""
    compared = [(db_id, comparable_sql(sql, rules)) for db_id, sql in golds]
    return [_is_empty(result) for result in await _run(executor, compared, limits)]


async def cut_ties(
    executor: SqlExecutor, golds: Sequence[Gold], limits: QueryLimits, rules: Rules = OFFICIAL
) -> list[bool]:
    """Which of them have a LIMIT that cuts a tie; one that cannot be looked at has none."""
    tests = [
        (place, db_id, test)
        for place, (db_id, sql) in enumerate(golds)
        for test in tie_tests(comparable_sql(sql, rules))
    ]
    results = await _run(executor, [(db_id, test.sql) for _, db_id, test in tests], limits)
    found = [False] * len(golds)
    for (place, _, test), result in zip(tests, results, strict=True):
        found[place] = found[place] or test.is_cut(result)
    return found


async def _run(
    executor: SqlExecutor, statements: Sequence[Gold], limits: QueryLimits
) -> list[QueryResult]:
    requests = [QueryRequest(db_id=db_id, sql=sql, limits=limits) for db_id, sql in statements]
    return await executor.execute_many(requests)


def _is_empty(result: QueryResult) -> bool:
    return result.status is QueryStatus.OK and not result.rows


def _failure(result: QueryResult) -> str:
    return "" if result.status is QueryStatus.INFRA_FAULT else _reason(result)


def _fault(result: QueryResult) -> str:
    return _reason(result) if result.status is QueryStatus.INFRA_FAULT else ""


def _reason(result: QueryResult) -> str:
    if result.status is QueryStatus.OK:
        return ""
    facts = (f"gold_{result.status}", result.kind, result.message)
    return ": ".join(fact for fact in facts if fact)
