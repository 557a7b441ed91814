"""Judge predictions against gold, many at once.

Who is to blame decides between None and False: a failing gold query or a broken machine gives None
(unscored, counted), a failing prediction gives False. EX needs the database, EM only the texts, so
one can be known without the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mtsql.evaluation.exact import exact_match
from mtsql.evaluation.execution import comparable_sql, execution_match, needs_order
from mtsql.evaluation.records import Judgement
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus, SqlExecutor

GOLD_FAILED = "gold_failed"
NO_ANSWER = "no_answer"
INFRA_FAULT = QueryStatus.INFRA_FAULT.value


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeItem:
    """One prediction, its gold, and the database that decides."""

    db_id: str
    gold_sql: str
    pred_sql: str | None
    """None or blank: no answer, judged wrong without running anything."""
    schema: Schema
    limits: QueryLimits = field(default_factory=QueryLimits)
    """For gold and prediction alike."""


async def judge_many(executor: SqlExecutor, items: Sequence[JudgeItem]) -> list[Judgement]:
    """One judgement for each item, in order.

    All statements travel in one `execute_many` call; equal ones (same database, text and limits
    after `comparable_sql`) run once.

        gold                prediction          ex                      status
        any                 None or blank       False                   no_answer
        infra fault         any                 None                    infra_fault
        not OK              any                 None                    gold_failed
        OK                  infra fault         None                    infra_fault
        OK                  not OK              False                   the prediction's
        OK, cut by the cap  OK, cut by the cap  None                    gold_failed
        OK                  OK                  execution match         ok

    `em` is None only where gold is outside Spider's subset.
    """
    requests = [_requests(item) for item in items]
    unique = list(dict.fromkeys(request for pair in requests if pair for request in pair))
    outcomes = await executor.execute_many(unique) if unique else []
    results = dict(zip(unique, outcomes, strict=True))
    return [
        _no_answer(item) if pair is None else _judge(item, results[pair[0]], results[pair[1]])
        for item, pair in zip(items, requests, strict=True)
    ]


def _requests(item: JudgeItem) -> tuple[QueryRequest, QueryRequest] | None:
    if item.pred_sql is None or not item.pred_sql.strip():
        return None
    gold, pred = (
        QueryRequest(db_id=item.db_id, sql=comparable_sql(sql), limits=item.limits)
        for sql in (item.gold_sql, item.pred_sql)
    )
    return gold, pred


def _no_answer(item: JudgeItem) -> Judgement:
    em = exact_match(item.gold_sql, "", item.schema)
    return Judgement(ex=False, em=em, status=NO_ANSWER, message="no SQL was given")


def _judge(item: JudgeItem, gold: QueryResult, pred: QueryResult) -> Judgement:
    ex: bool | None = None
    status = pred.status.value
    message = pred.message
    if gold.status is QueryStatus.INFRA_FAULT:
        status, message = INFRA_FAULT, gold.message
    elif gold.status is not QueryStatus.OK:
        status, message = GOLD_FAILED, f"gold: {gold.status}: {gold.message}"
    elif gold.truncated and pred.truncated:
        # The rest of both results is unknown, and without an order so is which rows were kept.
        status = GOLD_FAILED
        message = f"gold: more than {item.limits.max_rows} rows; raise max_rows to judge it"
    elif pred.status is QueryStatus.OK:
        ex = execution_match(gold, pred, ordered=needs_order(item.gold_sql))
    elif pred.status is not QueryStatus.INFRA_FAULT:
        ex = False
    assert item.pred_sql is not None
    em = exact_match(item.gold_sql, item.pred_sql, item.schema)
    return Judgement(ex=ex, em=em, status=status, message=message)
