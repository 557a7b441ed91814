"""Scripted play for the warm start: honest trajectories with mistakes, checks and corrections.

The script knows the gold SQL but acts on what its observations show. Where the agent could not know
how a column stores a text value, the script guesses; it finds out as the agent does, by looking.
"""

import asyncio
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from random import Random

from envs.dialects import RULES
from envs.play import collect
from envs.prompts.schema import shown_hints
from envs.scripts.belief import Belief, Observation, looks_wrong
from envs.scripts.views import ViewPlan
from envs.turn import TurnEnv
from mtsql.config.environment import DialectName, EnvironmentConfig
from mtsql.config.learning import ScriptConfig
from mtsql.dialogue import Message, TurnSpec
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.mistakes.kinds import Scripted
from mtsql.protocol import (
    HERMES,
    ActionName,
    Answer,
    CallFormat,
    ToolCall,
    Verdict,
    VerifyTarget,
)
from mtsql.sql.records import QueryLimits, SqlExecutor
from mtsql.trajectory.records import Trajectory

Act = ToolCall | Answer
Script = Generator[Act, Observation, None]

EXECUTE = ToolCall(name=ActionName.EXECUTE)
COMPARE = ToolCall(name=ActionName.VERIFY, target="memory")


class ScriptedPolicy:
    """A policy for one environment; each of its choices is drawn from `scripts`.

    Example, stored values are upper case and the guess is wrong:
        propose(... WHERE city = 'Rome')    execute -> empty    correct(... WHERE city = 'ROME')
        execute -> rows                     answer
    The same play in `mtsql_r1` has exec_sql for a proposal with its execution, and the SQL again in
    the answer; in `short_horizon` it is the first guess alone. In `cocte` the query is built view
    by view, each looked at before the next.
    """

    def __init__(
        self,
        spec: TurnSpec,
        scripts: ScriptConfig,
        rng: Random,
        dialect: DialectName = "actions",
        call_format: CallFormat = HERMES,
        hinted: Collection[str] = (),
    ) -> None:
        """
        Args:
            hinted: stored values that the prompt shows.
        """
        self._scripts = scripts
        self._rng = rng
        self._spec = spec
        self._rules = RULES[dialect]
        self._dialect = self._rules.wire.in_format(call_format)
        self._belief = Belief(spec, scripts, rng, hinted)
        self._plan: ViewPlan | None = None
        if (only := self._rules.view) is not None:
            self._plan = ViewPlan(spec.turn.gold_sql, spec.schema, scripts, rng, only)
        self._proposed = ""
        self._script = self._play()
        self._has_started = False

    async def __call__(self, messages: Sequence[Message]) -> str:
        is_last = self._dialect.max_steps == 1
        if self._has_started:
            seen = self._rules.read(messages[-1]["content"])
            is_last = is_last or seen.get("steps_left", 2) <= 1
            if is_last and not self._dialect.names_sql:
                # The environment announces its limit; the last message is better spent so.
                return self._dialect.render((Answer(),))
            act = self._script.send(seen)
        else:
            self._has_started = True
            act = next(self._script)
        return self._dialect.render(self._message(act, is_last=is_last))

    def record(self, trajectory: Trajectory) -> Scripted:
        """What became of the mistakes in the trajectory that this policy has played."""
        parts = [one for one in (self._belief, self._plan) if one is not None]
        return Scripted(
            trajectory=trajectory,
            made=frozenset(kind for one in parts for kind in one.made),
            noticed=frozenset(kind for one in parts for kind in one.noticed),
            repaired=frozenset(kind for one in parts for kind in one.made - one.standing),
        )

    def _message(self, act: Act, *, is_last: bool) -> tuple[Act, ...]:
        """The message that begins with `act`, as the dialect takes it: one action, or several."""
        if not self._dialect.names_sql:
            return (act,)
        acts: list[Act] = []
        while True:
            if isinstance(act, ToolCall) and act.sql is not None:
                self._proposed = act.sql
            elif isinstance(act, ToolCall) and act.verdict is not None:
                acts.append(act)
            else:
                sql = ToolCall(name=ActionName.PROPOSE, sql=self._proposed)
                return (*acts, sql, Answer() if is_last else act)
            # A proposal and a verdict are parts of a message and get no reply.
            act = self._script.send({"ok": True})

    def _draw(self, share: float) -> bool:
        return self._rng.random() < share

    def _play(self) -> Script:
        if self._plan is not None:
            yield from self._play_views(self._plan)
            return
        yield ToolCall(name=ActionName.PROPOSE, sql=self._belief.say())
        if self._dialect.names_sql:
            # MTSQL-R1's order: the result first, then the dialogue.
            yield from self._look()
            yield from self._remember()
        else:
            yield from self._remember()
            yield from self._look()
        yield Answer()

    def _play_views(self, plan: ViewPlan) -> Script:
        plan.begin(self._belief.say())
        yield from self._build(plan)
        if self._spec.history and self._draw(self._scripts.verify_memory):
            comparison = yield COMPARE
            if self._belief.see_memory(comparison):
                self._belief.mend_memory()
                if call := plan.mend(self._belief.say()):
                    yield call
                    yield from self._look_at_view(plan)
                    yield from self._build(plan)
        yield Answer()

    def _build(self, plan: ViewPlan) -> Script:
        while not plan.is_done:
            yield plan.next_call()
            yield from self._look_at_view(plan)

    def _look_at_view(self, plan: ViewPlan) -> Script:
        is_due = self._draw(self._scripts.execute)
        while is_due:
            seen = yield EXECUTE
            self._belief.see_result(seen)
            has_slip = plan.see(seen)
            is_failing = has_slip or looks_wrong(seen)
            if self._draw(self._scripts.verify_execution):
                yield _verdict("execution", "fail" if is_failing else "pass")
            call = None
            if is_failing and self._draw(self._scripts.correct):
                if has_slip:
                    call = plan.mend_slip()
                elif self._belief.mend_result(seen):
                    call = plan.mend(self._belief.say())
            is_due = call is not None
            if call is not None:
                yield call

    def _remember(self) -> Script:
        if not (self._spec.history and self._draw(self._scripts.verify_memory)):
            return
        comparison = yield COMPARE
        is_lost = self._belief.see_memory(comparison)
        if self._dialect.names_sql:
            yield _verdict("memory", "fail" if is_lost else "pass")
        if is_lost:
            self._belief.mend_memory()
            yield _correct(self._belief.say())
            if self._dialect.names_sql:
                yield from self._look()

    def _look(self) -> Script:
        is_due = self._draw(self._scripts.execute)
        while is_due:
            seen = yield EXECUTE
            self._belief.see_result(seen)
            is_failing = looks_wrong(seen)
            if self._draw(self._scripts.verify_execution):
                yield _verdict("execution", "fail" if is_failing else "pass")
            is_due = is_failing and self._draw(self._scripts.correct)
            if is_due:
                is_due = self._belief.mend_result(seen)
            if is_due:
                yield _correct(self._belief.say())


async def scripted_trajectories(
    specs: Iterable[TurnSpec],
    executor: SqlExecutor,
    config: EnvironmentConfig,
    limits: QueryLimits,
    scripts: ScriptConfig,
    *,
    seed: int,
    per_turn: int,
    call_format: CallFormat = HERMES,
    rules: Rules = OFFICIAL,
    max_concurrent: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[Scripted]:
    """Play every turn `per_turn` times through the real environment.

    The choices of an attempt depend on (seed, turn_id, attempt) only, not on order or concurrency.

    Args:
        call_format: how the calls are written, for the model that learns from them.
        rules: of the comparison with gold.
        progress: called with (trajectories done, all) after each one.

    Returns:
        The trajectories, turn by turn in the order of `specs`.
    """
    work = [(spec, attempt) for spec in specs for attempt in range(per_turn)]
    slots = asyncio.Semaphore(max_concurrent)
    num_done = 0

    async def play(spec: TurnSpec, attempt: int) -> Scripted:
        nonlocal num_done
        async with slots:
            rng = Random(f"{seed}/{spec.turn.turn_id}/{attempt}")
            hints = await shown_hints(spec, executor, config, limits)
            hinted = {hint.text for some in hints[-1:] for hint in some}
            policy = ScriptedPolicy(spec, scripts, rng, config.dialect, call_format, hinted)
            env = TurnEnv(spec, executor, config, limits, rules=rules)
            trajectory = await collect(env, policy, call_format)
        num_done += 1
        if progress is not None:
            progress(num_done, len(work))
        return policy.record(trajectory)

    return list(await asyncio.gather(*(play(*item) for item in work)))


def _correct(sql: str) -> ToolCall:
    return ToolCall(name=ActionName.CORRECT, sql=sql)


def _verdict(target: VerifyTarget, verdict: Verdict) -> ToolCall:
    return ToolCall(name=ActionName.VERIFY, target=target, verdict=verdict)
