"""One dialogue turn as the agent lives it, in message space.

The environment keeps the state (current proposal, its execution, what was shown) and reports facts;
`mtsql.rewards` judges the finished trajectory.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.prompts import prompt_messages
from mtsql.clause_match import match_clauses
from mtsql.config import EnvironmentConfig
from mtsql.data.records import Dialogue, Turn
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.records import Judgement
from mtsql.memory import Difference, PastTurn, clauses, compare, names_of, relevant_turns
from mtsql.observations import (
    observe_memory,
    observe_result,
    preview_cell,
    suspicion,
    to_json,
)
from mtsql.protocol import DIALECTS, Action, ActionName, ParseFailure, ToolCall
from mtsql.schema import Schema
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus, SqlExecutor
from mtsql.stored_values import lookups
from mtsql.trajectory import Ending, Step, Trajectory, class_of

__all__ = ["Message", "PastTurn", "StepResult", "TurnEnv", "TurnSpec", "turn_specs"]

Message = dict[str, str]
"""`{"role": ..., "content": ...}`; an observation has the role `tool`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSpec:
    """All that makes a turn; small and picklable."""

    dialogue_id: str
    turn_index: int
    turn: Turn
    db_id: str
    schema: Schema
    history: tuple[PastTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    observation: str | None
    """None if and only if the turn has ended."""
    ending: Ending | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What an action leads to; `facts` are fields of the Step."""

    observation: dict[str, object]
    is_accepted: bool = True
    result: QueryResult | None = None
    differences: tuple[Difference, ...] | None = None


_OK = _Reply(observation={"ok": True})
_NOT_RUN = _Reply(observation={}, is_accepted=False)


def _out_of_order(message: str) -> _Reply:
    return _Reply(observation={"error": "order", "message": message}, is_accepted=False)


def turn_specs(dialogue: Dialogue, schema: Schema) -> list[TurnSpec]:
    """The dialogue's turns, each with the gold history before it."""
    past = tuple(PastTurn(question=turn.question, sql=turn.gold_sql) for turn in dialogue.turns)
    return [
        TurnSpec(
            dialogue_id=dialogue.dialogue_id,
            turn_index=index,
            turn=turn,
            db_id=dialogue.db_id,
            schema=schema,
            history=past[:index],
        )
        for index, turn in enumerate(dialogue.turns)
    ]


class TurnEnv:
    """Single-use: start, then step until an ending, then finish.

    Example, model messages left and replies right:
        propose(SELECT id FROM shop WHERE city = 'paris')    {"ok": true}
        execute()           {"columns": ["id"], "rows": [], "num_rows": 0, "note": "empty",
                             "stored": {"city": ["Paris"]}}
        correct(SELECT id FROM shop WHERE city = 'Paris')    {"ok": true}
        answer()            ending: answered
    """

    def __init__(
        self,
        spec: TurnSpec,
        executor: SqlExecutor,
        config: EnvironmentConfig,
        limits: QueryLimits,
    ) -> None:
        self._spec = spec
        self._executor = executor
        self._config = config
        self._limits = limits
        self._dialect = DIALECTS[config.dialect]
        self._steps: list[Step] = []
        self._proposals: list[str] = []
        self._execution: QueryResult | None = None
        self._has_seen_memory = False
        self._num_malformed = 0
        self._ending: Ending | None = None
        self._fault = ""

    @property
    def tools(self) -> list[dict[str, Any]]:
        """JSON schemas of the dialect's tools, for the chat template."""
        return list(self._dialect.tools)

    async def start(self) -> list[Message]:
        """The messages before the agent's first one."""
        return prompt_messages(
            self._config.prompt,
            schema=self._spec.schema,
            history=self._spec.history,
            question=self._spec.turn.question,
            max_steps=self._config.max_steps,
        )

    async def step(self, message: str) -> StepResult:
        """Take one model message: act, and reply or end the turn."""
        assert self._ending is None, "the turn has ended; an environment is used once"
        action = self._dialect.parse(message)
        num_left = self._config.max_steps - len(self._steps) - 1
        if isinstance(action, ParseFailure):
            self._num_malformed += 1
            reply = _Reply(
                observation={"error": "malformed", "message": action.reason}, is_accepted=False
            )
            if self._num_malformed >= self._config.max_malformed:
                self._ending = Ending.MALFORMED
        else:
            self._num_malformed = 0
            if isinstance(action, ToolCall):
                reply = await self._act(action, is_last=num_left == 0)
            elif self._proposals:
                reply = _OK
                self._ending = Ending.ANSWERED
            else:
                reply = _out_of_order("nothing to answer with; propose first")
        if self._ending is None and num_left == 0:
            self._ending = Ending.MAX_STEPS
        observation = None
        if self._ending is None:
            # The last message is announced, so that no action is lost to the limit by surprise.
            warning = {"steps_left": num_left} if num_left <= 2 else {}
            observation = to_json(reply.observation | warning)
        self._steps.append(self._record(message, action, observation, reply))
        return StepResult(observation=observation, ending=self._ending)

    async def finish(self, truncated: Ending | None = None, fault: str = "") -> Trajectory:
        """Judge every proposal against gold and hand over the record.

        Args:
            truncated: the limit that the caller met (MAX_TOKENS), if the turn had not ended.
            fault: what broke in the caller's machinery; the trajectory is then unscored.
        """
        ending = self._ending or truncated
        fault = fault or self._fault
        judgements: Sequence[Judgement] = ()
        if not fault:
            assert ending is not None, "the turn goes on; say what truncated it"
            judgements = await self._judge()
            broken = [one.message for one in judgements if one.status == "infra_fault"]
            fault = (broken[0] or "judging failed") if broken else ""
        trajectory = Trajectory(
            turn_id=self._spec.turn.turn_id,
            steps=tuple(self._steps),
            ending=ending or Ending.INFRA_FAULT,
            proposals=tuple(self._proposals),
            judgements=tuple(judgements),
        )
        if fault:
            return replace(trajectory, ending=Ending.INFRA_FAULT, judgements=(), fault=fault)
        names, gold = names_of(self._spec.schema), self._spec.turn.gold_sql
        matches = tuple(match_clauses(sql, gold, names) for sql in self._proposals)
        return replace(trajectory, matches=matches)

    async def _act(self, action: ToolCall, *, is_last: bool) -> _Reply:
        match action.name:
            case ActionName.PROPOSE:
                return self._propose(action.sql or "")
            case ActionName.CORRECT if not self._proposals:
                return _out_of_order("nothing to correct; propose first")
            case ActionName.CORRECT:
                return self._propose(action.sql or "")
            case _ if not self._proposals:
                return _out_of_order("no proposal; propose first")
            case ActionName.EXECUTE:
                # Nobody would see the result of the last message, so it is not run.
                return _NOT_RUN if is_last else await self._execute()
            case _ if action.target == "execution":
                return self._verify_execution(action)
            case _:
                return self._verify_memory(action)

    def _propose(self, sql: str) -> _Reply:
        self._proposals.append(sql)
        self._execution = None
        self._has_seen_memory = False
        return _OK

    async def _execute(self) -> _Reply:
        if self._execution is None:
            request = QueryRequest(
                db_id=self._spec.db_id, sql=self._proposals[-1], limits=self._limits
            )
            (self._execution,) = await self._executor.execute_many([request])
        result = self._execution
        if result.status is QueryStatus.INFRA_FAULT:
            self._ending = Ending.INFRA_FAULT
            self._fault = result.message or "the executor failed"
            return _Reply(observation={}, result=result)
        observation = observe_result(
            result,
            preview_rows=self._config.preview_rows,
            preview_cell_chars=self._config.preview_cell_chars,
            preview_chars=self._config.preview_chars,
        )
        if suspicion(result):
            observation |= await self._stored_values(self._proposals[-1])
        return _Reply(observation=observation, result=result)

    async def _stored_values(self, sql: str) -> dict[str, object]:
        """What the columns hold that the query compared with a text value; {} when it did not."""
        wanted = lookups(sql, self._spec.schema)
        results = await self._executor.execute_many(
            [
                QueryRequest(db_id=self._spec.db_id, sql=one.sql, limits=self._limits)
                for one in wanted
            ]
        )
        stored = {
            one.column: [
                preview_cell(row[0], self._config.preview_cell_chars) for row in result.rows
            ]
            for one, result in zip(wanted, results, strict=True)
            if result.status is QueryStatus.OK
        }
        return {"stored": stored} if stored else {}

    def _verify_execution(self, action: ToolCall) -> _Reply:
        if self._execution is None:
            return _out_of_order("no result to judge; execute first")
        if action.verdict is None:
            return _out_of_order("no verdict; say pass or fail")
        return _OK

    def _verify_memory(self, action: ToolCall) -> _Reply:
        """The first look at memory shows it; a verdict counts only after that."""
        if action.verdict is not None and self._has_seen_memory:
            return _OK
        self._has_seen_memory = True
        sql, history = self._proposals[-1], self._spec.history
        names = names_of(self._spec.schema)
        turns = relevant_turns(sql, history, names)
        before = clauses(turns[0].sql, names) if turns else None
        after = clauses(sql, names)
        differences = compare(before, after) if before is not None and after is not None else None
        return _Reply(
            observation=observe_memory(turns, differences),
            is_accepted=action.verdict is None,
            differences=differences,
        )

    def _record(self, message: str, action: Action, observation: str | None, reply: _Reply) -> Step:
        result = reply.result
        kinds = None
        if reply.differences is not None:
            kinds = Counter(difference.kind for difference in reply.differences)
        return Step(
            message=message,
            action=action,
            observation=observation,
            proposal=len(self._proposals) - 1 if self._proposals else None,
            status=str(result.status) if result else None,
            num_rows=len(result.rows) if result and result.status is QueryStatus.OK else None,
            is_suspicious=bool(result and suspicion(result)),
            is_accepted=reply.is_accepted,
            num_kept=kinds["kept"] if kinds is not None else None,
            num_added=kinds["added"] if kinds is not None else None,
            num_dropped=kinds["dropped"] if kinds is not None else None,
            num_changed=kinds["changed"] if kinds is not None else None,
            result_class=class_of(result) if result else None,
        )

    async def _judge(self) -> Sequence[Judgement]:
        if not self._proposals:
            return ()
        spec = self._spec
        return await judge_many(
            self._executor,
            [
                JudgeItem(
                    db_id=spec.db_id,
                    gold_sql=spec.turn.gold_sql,
                    pred_sql=sql,
                    schema=spec.schema,
                    limits=self._limits,
                )
                for sql in self._proposals
            ],
        )
