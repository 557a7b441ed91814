"""One dialogue turn as the agent lives it, in message space.

The environment keeps the state (current proposal, its execution, what was shown) and reports facts;
`mtsql.rewards.score` judges the finished trajectory. A dialect says how messages are read and
worded; the actions behind them are the same in all.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.database import TurnDatabase
from envs.dialects.mtsql_r1 import reply_text
from envs.prompts import prompt_messages
from envs.prompts.schema import shown_schema
from envs.records import StepResult
from envs.replies import NOT_RUN, OK, Reply, RoomLeft, TextFacts, problem
from mtsql.chains.chain import View, compose, view_problem
from mtsql.config.environment import EnvironmentConfig
from mtsql.dialogue import Message, TurnSpec
from mtsql.evaluation.records import Judgement
from mtsql.protocol import (
    DIALECTS,
    Action,
    ActionName,
    Answer,
    Dialect,
    ParseFailure,
    Reading,
    ToolCall,
)
from mtsql.query.clauses import clauses
from mtsql.query.compare import compare
from mtsql.query.match import match_clauses
from mtsql.query.names import names_of
from mtsql.query.same import same_statement
from mtsql.shown.budget import CountTokens, approximate_tokens
from mtsql.shown.harmless import to_json
from mtsql.shown.memory import observe_memory, relevant_turns
from mtsql.sql.records import (
    QueryLimits,
    QueryResult,
    QueryStatus,
    SqlExecutor,
    class_of,
    suspicion,
)
from mtsql.trajectory.records import Ending, Step, Trajectory

_RUN = ToolCall(name=ActionName.EXECUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What a message led to."""

    done: tuple[Action, ...]
    """What took effect, at least one; or the one that could not."""
    reply: Reply
    ignored: tuple[str, ...] = ()
    """What did not count, and why."""
    lacks_verdict: bool = False


class TurnEnv:
    """Single-use: start, then step until an ending, then finish.

    Example, model messages left and replies right:
        propose(SELECT id FROM shop WHERE city = 'paris')    {"ok": true}
        execute()           {"columns": ["id"], "rows": [], "num_rows": 0, "note": "empty",
                             "stored": {"city": ["Paris"]}}
        correct(SELECT id FROM shop WHERE city = 'Paris')    {"ok": true}
        answer()            ending: answered

    Args:
        count_tokens: measures `max_schema_tokens`.
    """

    def __init__(
        self,
        spec: TurnSpec,
        executor: SqlExecutor,
        config: EnvironmentConfig,
        limits: QueryLimits,
        *,
        count_tokens: CountTokens = approximate_tokens,
    ) -> None:
        self._spec = spec
        self._executor = executor
        self._config = config
        self._limits = limits
        self._count_tokens = count_tokens
        self._database = TurnDatabase(spec, executor, config, limits)
        self._names = names_of(spec.schema)
        self._dialect = DIALECTS[config.dialect]
        self._max_steps = min(config.max_steps, self._dialect.max_steps or config.max_steps)
        self._steps: list[Step] = []
        self._proposals: list[str] = []
        self._chain: tuple[View, ...] = ()
        self._execution: QueryResult | None = None
        self._observed: dict[str, object] | None = None
        """The current proposal's result as it was shown."""
        self._has_seen_memory = False
        """Of the current proposal."""
        self._num_looks = 0
        self._last_reply = OK
        self._num_malformed = 0
        self._ending: Ending | None = None
        self._fault = ""

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def tools(self) -> list[dict[str, Any]]:
        """JSON schemas of the dialect's tools, for the chat template."""
        return list(self._dialect.tools)

    async def start(self) -> list[Message]:
        """The messages before the agent's first one."""
        spec, config = self._spec, self._config
        schema = await shown_schema(spec, self._executor, config, self._limits, self._count_tokens)
        return prompt_messages(
            config.prompt,
            dialect=config.dialect,
            schema=schema,
            history=spec.history,
            question=spec.turn.question,
            max_steps=self._max_steps,
        )

    async def step(self, message: str, *, tokens_left: int | None = None) -> StepResult:
        """Take one model message: act, and reply or end the turn.

        Args:
            tokens_left: for all further replies and messages; a worded reply tells when it is
                little.
        """
        assert self._ending is None, "the turn has ended; an environment is used once"
        num_left = self._max_steps - len(self._steps) - 1
        taken = await self._take(self._dialect.parse(message), is_last=num_left == 0)
        if self._ending is None and num_left == 0:
            self._ending = Ending.MAX_STEPS
        observation = None
        if self._ending is None:
            observation = await self._word(taken, RoomLeft(steps=num_left, tokens=tokens_left))
        self._last_reply = taken.reply
        self._steps.append(self._record(message, taken, observation))
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
            judgements = await self._database.judge(self._proposals)
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
        gold = self._spec.turn.gold_sql
        matches = tuple(match_clauses(sql, gold, self._names) for sql in self._proposals)
        return replace(trajectory, matches=matches)

    # Acting.

    async def _take(self, reading: Reading, *, is_last: bool) -> _Taken:
        """Act on all that a message says; the last action's reply is the message's."""
        done: list[Action] = []
        ignored = list(reading.ignored)
        reply = OK
        for said in reading.actions:
            if self._dialect.names_sql and (why := self._stray(said)):
                ignored.append(why)
                continue
            for action in self._resolved(said, is_last=is_last):
                if self._ending is not None:
                    break
                reply = replace(
                    one := await self._act(action, is_last=is_last),
                    result=one.result or reply.result,
                )
                done.append(action)
        if not done:
            # Nothing but stray verdicts; the first stands for them.
            why = ignored.pop(0)
            return _Taken(
                done=reading.actions[:1],
                reply=problem("order", why),
                ignored=tuple(ignored),
                lacks_verdict=self._lacks_verdict(()),
            )
        return _Taken(
            done=tuple(done),
            reply=reply,
            ignored=tuple(ignored),
            lacks_verdict=self._lacks_verdict(done),
        )

    def _lacks_verdict(self, done: Sequence[Action]) -> bool:
        """The reply before asked for a verdict, and the message can be read and holds none."""
        asked = self._last_reply.kind
        if not self._dialect.names_sql or asked not in ("execution", "memory"):
            return False
        if asked == "memory" and not self._spec.history:
            return False
        return not any(
            isinstance(one, ParseFailure)
            or (isinstance(one, ToolCall) and one.target == asked and one.verdict is not None)
            for one in done
        )

    def _stray(self, action: Action) -> str:
        """Why a verdict does not count: it belongs to the observation directly before it."""
        if not isinstance(action, ToolCall) or action.verdict is None:
            return ""
        if self._last_reply.kind == action.target:
            return ""
        return f"a verdict on the {action.target} without its observation directly before it"

    def _resolved(self, action: Action, *, is_last: bool) -> Sequence[Action]:
        """What the action means in this state, in a dialect whose messages name their SQL.

        A proposal of the current SQL is none, one of other SQL is a correction, and a look at
        memory shows the proposal's result as well, so it runs what was not run.
        """
        if not self._dialect.names_sql or not isinstance(action, ToolCall):
            return (action,)
        if action.name is ActionName.PROPOSE and self._proposals:
            if same_statement(action.sql or "", self._proposals[-1]):
                return ()
            return (replace(action, name=ActionName.CORRECT),)
        is_look = action.target == "memory" and action.verdict is None
        if is_look and self._execution is None and not is_last:
            return _RUN, action
        return (action,)

    async def _act(self, action: Action, *, is_last: bool) -> Reply:
        match action:
            case ParseFailure():
                return self._malformed(action)
            case Answer():
                return self._answer()
            case ToolCall():
                self._num_malformed = 0
                return await self._call(action, is_last=is_last)

    def _malformed(self, failure: ParseFailure) -> Reply:
        self._num_malformed += 1
        # In a dialect of one message there is no other one to be corrected in.
        if self._num_malformed >= min(self._config.max_malformed, self._max_steps):
            self._ending = Ending.MALFORMED
        return problem("malformed", failure.reason)

    def _answer(self) -> Reply:
        self._num_malformed = 0
        if not self._proposals:
            return problem("order", "nothing to answer with; propose first")
        self._ending = Ending.ANSWERED
        return OK

    async def _call(self, action: ToolCall, *, is_last: bool) -> Reply:
        match action.name:
            case ActionName.PROPOSE:
                return self._propose(action)
            case ActionName.CORRECT if not self._proposals:
                return problem("order", "nothing to correct; propose first")
            case ActionName.CORRECT:
                return self._propose(action)
            case _ if not self._proposals:
                return problem("order", "no proposal; propose first")
            case ActionName.EXECUTE:
                # Nobody would see the result of the last message, so it is not run.
                return NOT_RUN if is_last else await self._execute()
            case _ if action.target == "execution":
                return self._verify_execution(action)
            case _:
                return self._verify_memory(action)

    def _propose(self, action: ToolCall) -> Reply:
        sql = action.sql or ""
        if self._config.dialect == "cocte":
            is_new = action.name is ActionName.PROPOSE
            before = self._chain if is_new else self._chain[:-1]
            view = View(name=action.view or self._chain[-1].name, sql=sql)
            tables = (table.name for table in self._spec.schema.tables)
            if why := view_problem(view, taken=[*tables, *(one.name for one in before)]):
                return problem("view", why)
            self._chain = (*before, view)
            sql = compose(self._chain)
        self._proposals.append(sql)
        self._execution = self._observed = None
        self._has_seen_memory = False
        return OK

    async def _execute(self) -> Reply:
        sql = self._proposals[-1]
        if self._execution is None:
            self._execution = await self._database.run(sql)
        result = self._execution
        if result.status is QueryStatus.INFRA_FAULT:
            self._ending = Ending.INFRA_FAULT
            self._fault = result.message or "the executor failed"
            return Reply(observation={}, result=result)
        self._observed = await self._database.observe(sql, result)
        return Reply(observation=self._observed, kind="execution", result=result)

    def _verify_execution(self, action: ToolCall) -> Reply:
        if self._execution is None:
            return problem("order", "no result to judge; execute first")
        if action.verdict is None:
            return problem("order", "no verdict; say pass or fail")
        return OK

    def _verify_memory(self, action: ToolCall) -> Reply:
        """The first look at memory shows it; a verdict counts only after that."""
        if action.verdict is not None and self._has_seen_memory:
            return OK
        self._has_seen_memory = True
        self._num_looks += 1
        sql = self._proposals[-1]
        turns = relevant_turns(sql, self._spec.history, self._names)
        before = clauses(turns[0].sql, self._names) if turns else None
        after = clauses(sql, self._names)
        differences = compare(before, after) if before is not None and after is not None else None
        return Reply(
            observation=observe_memory(turns, differences),
            kind="memory",
            is_accepted=action.verdict is None,
            differences=differences,
            compared_with=turns[0] if turns else None,
        )

    # Replying and recording.

    async def _word(self, taken: _Taken, room: RoomLeft) -> str:
        """The reply as the agent reads it: JSON, or the words of the dialect."""
        config, history, reply = self._config, self._spec.history, taken.reply
        if config.dialect != "mtsql_r1" or config.prompt == "compact":
            # The last message is announced, so that no action is lost to the limit by surprise.
            warning = {"steps_left": room.steps} if room.steps <= 2 else {}
            noted = {"ignored": list(taken.ignored)} if taken.ignored else {}
            return to_json(reply.observation | noted | warning)
        facts = TextFacts(
            question=self._spec.turn.question,
            sql=self._proposals[-1] if self._proposals else "",
            result=self._observed,
            turns=await self._database.previews(history) if reply.kind == "memory" else (),
            room=room,
            is_tight=room.tokens is not None and room.tokens < 2 * config.max_step_tokens,
            must_see_memory=bool(history) and self._num_looks == 0,
            ignored=taken.ignored,
        )
        return reply_text(reply, facts, self._names)

    def _record(self, message: str, taken: _Taken, observation: str | None) -> Step:
        reply, result = taken.reply, taken.reply.result
        kinds = None
        if reply.differences is not None:
            kinds = Counter(difference.kind for difference in reply.differences)
        *earlier, action = taken.done
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
            earlier=tuple(one for one in earlier if isinstance(one, ToolCall)),
            num_ignored=len(taken.ignored),
            lacks_verdict=taken.lacks_verdict,
        )
