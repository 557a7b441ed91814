"""One dialogue turn as the agent lives it, in message space.

The environment keeps the state (current proposal, its execution, what was shown) and reports facts;
`mtsql.rewards.score` judges the finished trajectory. A dialect says how messages are read and
worded; the actions behind them are the same in all.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from envs.database import TurnDatabase
from envs.dialects import RULES
from envs.dialects.base import Current, Known, ProposalError
from envs.prompts import prompt_messages
from envs.prompts.schema import shown_hints, shown_schema
from envs.records import StepResult, Taken, step_of
from envs.replies import (
    NOT_RUN,
    OK,
    Reply,
    RoomLeft,
    TextFacts,
    json_reply,
    memory_reply,
    problem,
    proposed,
)
from mtsql.chains.chain import Chain, Proposal
from mtsql.chains.digest import ViewDigest
from mtsql.chains.history import earlier_views
from mtsql.chains.truth import Truth
from mtsql.config.environment import EnvironmentConfig
from mtsql.dialogue import Message, TurnSpec
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.protocol import (
    HERMES,
    Action,
    ActionName,
    Answer,
    CallFormat,
    Dialect,
    ParseFailure,
    Reading,
    ToolCall,
)
from mtsql.query.match import ClauseMatch, match_clauses
from mtsql.query.names import names_of
from mtsql.shown.budget import CountTokens, approximate_tokens
from mtsql.shown.hints import hints_text
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus, SqlExecutor
from mtsql.trajectory.records import Ending, Fault, FaultKind, Step, Trajectory, calls_of


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
        rules: of the comparison with gold; training may have others than evaluation.
    """

    def __init__(
        self,
        spec: TurnSpec,
        executor: SqlExecutor,
        config: EnvironmentConfig,
        limits: QueryLimits,
        *,
        count_tokens: CountTokens = approximate_tokens,
        rules: Rules = OFFICIAL,
    ) -> None:
        self._spec = spec
        self._executor = executor
        self._config = config
        self._limits = limits
        self._count_tokens = count_tokens
        self._database = TurnDatabase(spec, executor, config, limits, rules)
        self._names = names_of(spec.schema)
        self._rules = RULES[config.dialect]
        self._known = Known(
            tables=[table.name for table in spec.schema.tables],
            earlier=earlier_views(spec.history) if self._rules.shows_chains else (),
        )
        self._dialect = self._rules.wire
        self._max_steps = min(config.max_steps, self.dialect.max_steps or config.max_steps)
        self._steps: list[Step] = []
        self._proposals: list[Proposal] = []
        self._execution: QueryResult | None = None
        self._digest: ViewDigest | None = None
        """Of the current proposal, where that is a chain that was run."""
        self._observed: dict[str, object] | None = None
        """The current proposal's result as it was shown."""
        self._has_seen_memory = False
        """Of the current proposal."""
        self._num_looks = 0
        self._last_reply = OK
        self._num_malformed = 0
        self._ending: Ending | None = None
        self._fault: Fault | None = None

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def tools(self) -> list[dict[str, Any]]:
        """JSON schemas of the dialect's tools, for the chat template."""
        return list(self.dialect.tools)

    async def start(self, call_format: CallFormat = HERMES) -> list[Message]:
        """The messages before the agent's first one.

        Args:
            call_format: how the agent's chat template writes a tool call.
        """
        self._dialect = self._dialect.in_format(call_format)
        spec, config = self._spec, self._config
        hints = await shown_hints(spec, self._executor, config, self._limits)
        schema = await shown_schema(
            spec, self._executor, config, self._limits, self._count_tokens, hints
        )
        return prompt_messages(
            config.prompt,
            dialect=config.dialect,
            schema=schema,
            history=spec.history,
            question=spec.turn.question,
            hints=[hints_text(some, spec.schema) for some in hints],
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
        before = self._current
        taken = await self._take(self.dialect.parse(message), is_last=num_left == 0)
        if self._ending is None and num_left == 0:
            self._ending = Ending.MAX_STEPS
        observation = None
        if self._ending is None:
            observation = await self._word(taken, RoomLeft(steps=num_left, tokens=tokens_left))
        self._last_reply = taken.reply
        step = step_of(message, taken, observation, before=before, proposals=self._proposals)
        self._steps.append(step)
        return StepResult(observation=observation, ending=self._ending)

    async def finish(
        self, truncated: Ending | None = None, fault: Fault | None = None
    ) -> Trajectory:
        """Judge every proposal against gold and hand over the record.

        Args:
            truncated: the limit that the caller met (MAX_TOKENS), if the turn had not ended.
            fault: what broke in the caller's machinery; the trajectory is then unscored.
        """
        ending, proposals = self._ending or truncated, tuple(self._proposals)
        fault = fault or self._fault
        judgements: Sequence[Judgement] = ()
        matches: tuple[ClauseMatch, ...] = ()
        truths: tuple[Truth | None, ...] = ()
        if fault is None:
            assert ending is not None, "the turn goes on; say what truncated it"
            judgements = await self._database.judge([one.sql for one in proposals])
            broken = [one.message for one in judgements if one.status == "infra_fault"]
            if broken:
                message = broken[0] or "judging failed"
                fault = Fault(kind=FaultKind.JUDGING, message=message)
        if fault is not None:
            ending, judgements = Ending.INFRA_FAULT, ()
        else:
            gold = self._spec.turn.gold_sql
            matches = tuple(match_clauses(one.sql, gold, self._names) for one in proposals)
            truths = await self._truths(proposals)
        assert ending is not None
        return Trajectory(
            turn_id=self._spec.turn.turn_id,
            steps=tuple(self._steps),
            ending=ending,
            proposals=proposals,
            judgements=tuple(judgements),
            fault=fault,
            matches=matches,
            truths=truths,
        )

    async def _truths(self, proposals: Sequence[Proposal]) -> tuple[Truth | None, ...]:
        """Of the views that were judged: a proof takes some hundred queries."""
        judged = {
            step.proposal
            for step in self._steps
            if any(call.target == "execution" and call.verdict for call in calls_of(step))
        }
        if not any(isinstance(proposals[place], Chain) for place in judged if place is not None):
            return ()
        return tuple(
            [
                await self._database.truth(one)
                if isinstance(one, Chain) and place in judged
                else None
                for place, one in enumerate(proposals)
            ]
        )

    # Acting.

    @property
    def _current(self) -> Proposal | None:
        return self._proposals[-1] if self._proposals else None

    async def _take(self, reading: Reading, *, is_last: bool) -> Taken:
        """Act on all that a message says; the last action's reply is the message's."""
        done: list[Action] = []
        ignored = list(reading.ignored)
        reply = OK
        asked = self._last_reply.kind
        for said in reading.actions:
            if why := self._rules.stray(said, asked):
                ignored.append(why)
                continue
            current = Current(
                proposal=self._current, is_run=self._execution is not None, is_last=is_last
            )
            for action in self._rules.resolve(said, current):
                if self._ending is not None:
                    break
                reply = replace(
                    one := await self._act(action, is_last=is_last),
                    result=one.result or reply.result,
                )
                done.append(action)
        lacks_verdict = self._rules.lacks_verdict(done, asked, bool(self._spec.history))
        if not done:
            # Nothing but stray verdicts; the first stands for them.
            reply = problem("order", ignored.pop(0))
        return Taken(
            done=tuple(done) or reading.actions[:1],
            reply=reply,
            ignored=tuple(ignored),
            lacks_verdict=lacks_verdict,
        )

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
        before = self._current
        try:
            self._proposals.append(self._rules.propose(action, before, self._known))
        except ProposalError as error:
            return problem("view", str(error))
        self._execution = self._observed = self._digest = None
        self._has_seen_memory = False
        return proposed(before, self._proposals[-1])

    async def _execute(self) -> Reply:
        proposal = self._proposals[-1]
        if self._execution is None:
            if isinstance(proposal, Chain):
                self._digest = await self._database.digest(proposal)
                self._execution = self._digest.result
            else:
                self._execution = await self._database.run(proposal.sql)
        result = self._execution
        if result.status is QueryStatus.INFRA_FAULT:
            self._ending = Ending.INFRA_FAULT
            message = result.message or "the executor failed"
            self._fault = Fault(kind=FaultKind.SQL_POOL, message=message)
            return Reply(observation={}, result=result)
        self._observed = await self._database.observe(proposal.sql, result, self._digest)
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
        return memory_reply(
            self._proposals[-1].sql,
            self._spec.history,
            self._names,
            is_asked=action.verdict is None,
            shows_chains=self._rules.shows_chains,
        )

    async def _word(self, taken: Taken, room: RoomLeft) -> str:
        """The reply as the agent reads it: JSON, or the words of the dialect."""
        config, history, reply = self._config, self._spec.history, taken.reply
        if self._rules.word is None or config.prompt == "compact":
            return json_reply(reply, taken.ignored, room)
        facts = TextFacts(
            question=self._spec.turn.question,
            sql=self._proposals[-1].sql if self._proposals else "",
            result=self._observed,
            turns=await self._database.previews(history) if reply.kind == "memory" else (),
            room=room,
            is_tight=room.tokens is not None and room.tokens < 2 * config.max_step_tokens,
            must_see_memory=bool(history) and self._num_looks == 0,
            ignored=taken.ignored,
        )
        return self._rules.word(reply, facts, self._names)
