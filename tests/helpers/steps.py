"""Steps and trajectories written by hand; shared by tests of rewards and abilities."""

from mtsql.config.reward import RewardConfig
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, Answer, ToolCall, VerifyTarget
from mtsql.query.match import ClauseMatch
from mtsql.rewards.score import score
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


def executed(number=0, *, status="ok", is_suspicious=False, result_class=None, num_rows=None):
    return Step(
        message="",
        action=ToolCall(name=ActionName.EXECUTE),
        observation="{}",
        proposal=number,
        status=status,
        is_suspicious=is_suspicious,
        result_class=result_class,
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
    """`f1s`: clause F1 of each proposal, with and without values."""
    matches = [ClauseMatch(f1=f1, coherence=f1, is_parsed=True) for f1 in f1s or ()]
    return Trajectory(
        turn_id="d/0",
        steps=steps,
        ending=ending,
        proposals=tuple(proposals or (f"SELECT {number}" for number in range(len(judgements)))),
        judgements=tuple(judgements),
        matches=tuple(matches),
    )


def scored(trajectory: Trajectory, config: RewardConfig) -> Reward:
    reward = score(trajectory, config)
    assert reward is not None
    return reward
