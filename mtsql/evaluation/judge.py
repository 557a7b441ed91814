"""Judge predictions against gold, many at once.

Who is to blame decides between None and False: a failing gold query or a broken machine gives None
(unscored, counted), a failing prediction gives False. EX needs the database, EM only the texts, so
one can be known without the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from mtsql.evaluation.em.match import exact_match
from mtsql.evaluation.ex.pair import NO_ANSWER, NO_SQL, Case, Outcome, Trial, run_case
from mtsql.evaluation.ex.remembered import MEMORIES, Memory, VerdictKey
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.query.names import names_of
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus, SqlExecutor

LASTING = frozenset({"ok", "error", "refused", NO_ANSWER})
"""Statuses that the same pair would get again; a time limit depends on the machine's load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeItem:
    """One prediction, its gold, and the database that decides."""

    db_id: str
    gold_sql: str
    pred_sql: str | None
    """None or blank: no answer, which is wrong wherever gold runs."""
    schema: Schema
    limits: QueryLimits = field(default_factory=QueryLimits)
    """For gold and prediction alike."""
    rules: Rules = OFFICIAL
    variants: tuple[str, ...] = ()
    """Further databases of a test suite, by the executor's names: EX has to hold on each."""
    with_ex: bool = True
    with_em: bool = True
    with_strict: bool = False
    """Fill in `Judgement.ex_strict`; queries with DISTINCT run twice."""
    cut_rows: bool = False
    """Run gold first, and fetch few more rows of a prediction than gold has. The verdicts are the
    same, in less time; but a pool that ran the prediction under `limits` has to run it again."""


async def judge_many(executor: SqlExecutor, items: Sequence[JudgeItem]) -> list[Judgement]:
    """One judgement for each item, in order; verdicts on the same executor are remembered.

    Statements of all items travel together, and equal ones (same database, text and limits after
    `comparable_sql`) run once. Only a test suite or plugged values need further calls.

        gold                prediction          ex                      status
        infra fault         any                 None                    infra_fault
        not OK              any                 None                    gold_failed
        OK                  None or blank       False                   no_answer
        OK                  infra fault         None                    infra_fault
        OK                  not OK              False                   the prediction's
        OK, cut by the cap  OK, cut by the cap  None                    gold_failed
        OK                  OK                  execution match         ok, or None and too_many

    Of a test suite one database that tells the queries apart is enough for False. `em` is None only
    where gold is outside Spider's subset, and both where they were not asked for. Without EX
    nothing runs, and the status says only whether there is an answer.
    """
    memory = MEMORIES.of(executor)
    keys = [_key(item) for item in items]
    known: dict[VerdictKey, Judgement] = {}
    open_items: dict[VerdictKey, JudgeItem] = {}
    for key, item in zip(keys, items, strict=True):
        judgement = memory.verdicts.get(key)
        if judgement is None:
            open_items[key] = item
        else:
            known[key] = judgement
    outcomes = await _play(executor, [_start(item, memory) for item in open_items.values()])
    for (key, item), outcome in zip(open_items.items(), outcomes, strict=True):
        known[key] = judgement = _judgement(item, outcome)
        if judgement.status in LASTING:
            memory.verdicts[key] = judgement
    return [known[key] for key in keys]


def _key(item: JudgeItem) -> VerdictKey:
    what = (item.with_ex, item.with_em, item.with_strict)
    names = names_of(item.schema)
    place = (item.db_id, item.variants, item.limits)
    return (item.pred_sql, item.gold_sql, place, item.rules, what, names)


def _start(item: JudgeItem, memory: Memory) -> Trial[Outcome]:
    pred_sql = item.pred_sql if item.pred_sql and item.pred_sql.strip() else None
    if not item.with_ex:
        if pred_sql is None:
            return _settled(Outcome(ex=None, status=NO_ANSWER, message=NO_SQL))
        return _settled(Outcome(ex=None, status=QueryStatus.OK.value))
    case = Case(
        gold_sql=item.gold_sql,
        pred_sql=pred_sql,
        db_ids=(item.db_id, *item.variants),
        limits=item.limits,
        rules=item.rules,
        with_strict=item.with_strict,
        cut_rows=item.cut_rows,
    )
    return run_case(case, memory)


def _settled(outcome: Outcome) -> Trial[Outcome]:
    yield from ()
    return outcome


async def _play(executor: SqlExecutor, trials: Sequence[Trial[Outcome]]) -> list[Outcome]:
    """Run the trials in step, so that what they ask for travels in one call for each round."""
    outcomes: dict[int, Outcome] = {}
    asked: dict[int, list[QueryRequest]] = {}

    def advance(place: int, trial: Trial[Outcome], results: list[QueryResult] | None) -> None:
        try:
            asked[place] = next(trial) if results is None else trial.send(results)
        except StopIteration as stop:
            outcomes[place] = stop.value
            asked.pop(place, None)

    for place, trial in enumerate(trials):
        advance(place, trial, None)
    while asked:
        unique = {_name(request): request for request in chain.from_iterable(asked.values())}
        # A worker keeps a few databases open: one after the other, not all in turn.
        names = sorted(unique, key=_db_id)
        found = await executor.execute_many([unique[name] for name in names])
        results = dict(zip(names, found, strict=True))
        for place, requests in list(asked.items()):
            advance(place, trials[place], [results[_name(request)] for request in requests])
    return [outcomes[place] for place in range(len(trials))]


def _name(request: QueryRequest) -> tuple[str, str, int]:
    """Trials share one object for equal limits, and its identity is quicker than its hash."""
    return request.db_id, request.sql, id(request.limits)


def _db_id(name: tuple[str, str, int]) -> str:
    return name[0]


def _judgement(item: JudgeItem, outcome: Outcome) -> Judgement:
    em = None
    if item.with_em:
        em = exact_match(item.gold_sql, item.pred_sql or "", item.schema, item.rules)
    return Judgement(
        ex=outcome.ex if item.with_ex else None,
        em=em,
        status=outcome.status,
        message=outcome.message,
        ex_strict=outcome.ex_strict,
        is_empty=outcome.is_empty,
    )
