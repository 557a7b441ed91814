"""What proposals earn: the gain in clause F1 from one to the next."""

from mtsql.config.reward import RewardConfig
from mtsql.query.same import first_uses
from mtsql.rewards.verdicts import Values
from mtsql.trajectory.records import Trajectory


def generation_rewards(trajectory: Trajectory, config: RewardConfig) -> Values:
    return tuple(
        None if value is None else config.generation * value
        for value in generation_values(trajectory)
    )


def generation_values(trajectory: Trajectory) -> Values:
    """Gain in clause F1 on each step that makes a new proposal; from 0 before the first one.

    The gains sum to the F1 of the last proposal: a first try never lowers a corrected trajectory,
    and neither going back and forth nor exploring pays. A proposal that got no reply (the last
    message of a turn) can lose but not gain.
    """
    matches = trajectory.matches
    firsts = first_uses(trajectory.statements)
    values: list[float | None] = [None] * len(trajectory.steps)
    if len(matches) != len(trajectory.proposals):
        return tuple(values)
    before: int | None = None
    for number, step in enumerate(trajectory.steps):
        current = step.proposal
        if current is None or current == before:
            continue
        f1 = matches[current].f1
        last_f1 = matches[before].f1 if before is not None else 0.0
        if f1 is None or last_f1 is None:
            return (None,) * len(trajectory.steps)
        if before is None or firsts[before] != firsts[current]:
            gain = f1 - last_f1
            values[number] = gain if step.observation is not None else min(gain, 0.0)
        before = current
    return tuple(values)
