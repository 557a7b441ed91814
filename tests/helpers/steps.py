"""Steps and trajectories written by hand; shared by tests of rewards and abilities."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mtsql.chains.chain import Proposal, Query, relation_of
from mtsql.config.reward import RewardConfig
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, Answer, ToolCall, VerifyTarget
from mtsql.query.match import ClauseMatch
from mtsql.rewards.score import score
from mtsql.sql.records import ResultClass
from mtsql.trajectory.records import Ending, Step, Trajectory
from mtsql.trajectory.reward import Reward

RIGHT = Judgement(ex=True, em=True, status="ok")
LOOSE = Judgement(ex=True, em=False, status="ok")
WRONG = Judgement(ex=False, em=False, status="ok")


def proposed(number=0):
    action = ToolCall(name=ActionName.PROPOSE, sql=f"SELECT {number}")
    return Step(message="", action=action, observation="{}", proposal=number)


def corrected(number):
    action = ToolCall(name=ActionName.CORRECT, sql=f"SELECT {number}")
    return Step(message="", action=action, observation="{}", proposal=number)


def executed(number=0, *, result_class: str | None = "ok", num_rows=None):
    """`result_class` None: nothing was run."""
    return Step(
        message="",
        action=ToolCall(name=ActionName.EXECUTE),
        observation="{}",
        proposal=number,
        result_class=None if result_class is None else ResultClass(result_class),
        num_rows=num_rows,
    )


def verified(verdict, number=0, target: VerifyTarget = "execution"):
    action = ToolCall(name=ActionName.VERIFY, target=target, verdict=verdict)
    return Step(message="", action=action, observation="{}", proposal=number)


def looked(number=0, verdict=None, num_kept: int | None = 3):
    """At the dialogue's memory; a `num_kept` of None: nothing to compare with."""
    action = ToolCall(name=ActionName.VERIFY, target="memory", verdict=verdict)
    return Step(message="", action=action, observation="{}", proposal=number, num_kept=num_kept)


def answered(number=0):
    return Step(message="", action=Answer(), observation=None, proposal=number)


def trajectory_of(*steps, judgements=(RIGHT,), ending=Ending.ANSWERED, proposals=None, f1s=None):
    """`proposals`: SQL, or Query and Chain; `f1s`: clause F1 of each, with and without values."""
    said = proposals or [f"SELECT {number}" for number in range(len(judgements))]
    known = tuple(Query(one) if isinstance(one, str) else one for one in said)
    matches = [ClauseMatch(f1=f1, coherence=f1, is_parsed=True) for f1 in f1s or ()]
    return Trajectory(
        turn_id="d/0",
        steps=tuple(_related(steps, known)),
        ending=ending,
        proposals=known,
        judgements=tuple(judgements),
        matches=tuple(matches),
    )


def _related(steps: Sequence[Step], proposals: Sequence[Proposal]) -> Iterator[Step]:
    """The steps, each new proposal with what it is to the one before it."""
    before = None
    for step in steps:
        current = step.proposal
        if before is None or current is None or not before < current < len(proposals):
            yield step
        else:
            is_correction = step.calls(ActionName.CORRECT)
            old, new = proposals[current - 1], proposals[current]
            yield replace(step, relation=relation_of(new, old, is_correction=is_correction))
        before = current if current is not None else before


def scored(trajectory: Trajectory, config: RewardConfig) -> Reward:
    reward = score(trajectory, config)
    assert reward is not None
    return reward
