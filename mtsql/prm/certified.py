"""Labels certified by rule: what gold says of a proposal or a view, beyond this one content.

A proposal is judged where it is made, and again at the end as the answer. Steps that look or judge
have no truth of their own here.
"""

from collections.abc import Mapping, Sequence

from sqlglot import exp

from mtsql.chains.chain import Chain, Proposal, Query
from mtsql.chains.truth import Truth, view_truth
from mtsql.chains.worlds import World, in_world, worlds_of
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.prm.labels import StepLabel
from mtsql.query.reading import parse_sql
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, SqlExecutor
from mtsql.trajectory.attempt import Attempt

_PROVEN = {Truth.SUFFICIENT: True, Truth.INSUFFICIENT: False}


class Certifier:
    """Rules for the steps of trajectories; equal questions are asked once.

    Args:
        executor: runs what decides whether a match is luck.
        schemas: by database.
    """

    def __init__(
        self, executor: SqlExecutor, schemas: Mapping[str, Schema], limits: QueryLimits
    ) -> None:
        self._executor, self._schemas, self._limits = executor, schemas, limits
        self._known: dict[tuple[str, str, Proposal], bool | None] = {}

    async def labels(self, attempt: Attempt) -> list[StepLabel | None]:
        """One for each step; None where no rule decides.

        proposal    what is known                                        value
        a query     another result than gold's                           0
        a query     gold's result, and gold's clauses with their values  1
        a query     gold's result, by other clauses: gold and proposal run on changed contents
                      they differ somewhere (luck)                       0
                      gold's result changes, the proposal's with it      1
                      nothing changes gold's result, or not SQLite       None
        a chain     its last view's truth, proven sufficient             1
                                           proven insufficient           0
        """
        trajectory = attempt.trajectory
        found: list[StepLabel | None] = []
        before: int | None = None
        for number, step in enumerate(trajectory.steps):
            place = step.proposal
            is_last = number == len(trajectory.steps) - 1
            is_good = None
            if place is not None and (place != before or is_last):
                is_good = await self._is_good(attempt, place, is_answer=is_last)
            found.append(
                None
                if is_good is None
                else StepLabel(source="rule", value=float(is_good), confidence=1.0)
            )
            before = place
        return found

    async def _is_good(self, attempt: Attempt, place: int, *, is_answer: bool) -> bool | None:
        trajectory = attempt.trajectory
        if place >= len(trajectory.judgements):
            return None
        proposal, judgement = trajectory.proposals[place], trajectory.judgements[place]
        if isinstance(proposal, Chain) and not is_answer:
            return await self._asked(attempt, proposal)
        if judgement.ex is not True:
            return judgement.ex
        match = trajectory.matches[place] if place < len(trajectory.matches) else None
        if match is not None and match.coherence == 1.0 and not judgement.is_empty:
            return True
        return await self._asked(attempt, Query(proposal.sql))

    async def _asked(self, attempt: Attempt, proposal: Proposal) -> bool | None:
        db_id, gold = attempt.db_id, attempt.gold_sql
        key = (db_id, gold, proposal)
        if key not in self._known:
            executor, schema, limits = self._executor, self._schemas[db_id], self._limits
            if isinstance(proposal, Chain):
                view = await view_truth(executor, db_id, proposal, gold, schema, limits=limits)
                self._known[key] = _PROVEN.get(view.truth)
            else:
                self._known[key] = await holds_elsewhere(
                    executor, db_id, gold, proposal.sql, schema, limits
                )
        return self._known[key]


async def holds_elsewhere(
    executor: SqlExecutor,
    db_id: str,
    gold_sql: str,
    sql: str,
    schema: Schema,
    limits: QueryLimits,
) -> bool | None:
    """Whether a query that matches gold here does so on slightly changed contents, too.

    Returns:
        False: some change tells them apart. True: none does, and some changes gold's result. None:
        no change of those tried says anything.
    """
    trees = [parse_sql(one) for one in (gold_sql, sql)]
    if schema.engine != "sqlite" or None in trees:
        return None
    read = {one.name.lower() for tree in trees if tree for one in tree.find_all(exp.Table)}
    named = {one.name.lower() for tree in trees if tree for one in tree.find_all(exp.Identifier)}
    worlds = await worlds_of(executor, db_id, schema, read, named, limits)

    async def matches(
        given: Sequence[World], query: str, *, changed: bool, gold_changed: bool
    ) -> list[bool | None]:
        asked = [
            JudgeItem(
                db_id=db_id,
                gold_sql=_seen(world, gold_sql, changed=gold_changed),
                pred_sql=_seen(world, query, changed=changed),
                schema=schema,
                limits=limits,
                with_em=False,
            )
            for world in given
        ]
        return [judgement.ex for judgement in await judge_many(executor, asked)]

    found = await matches(worlds, sql, changed=True, gold_changed=True)
    apart = [world for world, match in zip(worlds, found, strict=True) if match is False]
    # A world of the same form that changes nothing: only the change itself may tell them apart.
    if True in await matches(apart, sql, changed=False, gold_changed=False):
        return False
    same = [world for world, match in zip(worlds, found, strict=True) if match]
    seen = await matches(same, gold_sql, changed=True, gold_changed=False)
    return True if False in seen else None


def _seen(world: World, sql: str, *, changed: bool) -> str:
    """A query in a world, or in the form of it that changes nothing."""
    return in_world([change.table if changed else change.same for change in world], sql)
