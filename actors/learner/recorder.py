"""The actor that keeps what was played: Parquet for people, facts and credit for the trainer."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from pydantic import TypeAdapter

from actors import log
from mtsql.dialogue import TurnSpec
from mtsql.rewards.abilities import ability_metrics
from mtsql.rewards.advantages import states_of, step_advantages
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.records import Ending, FaultKind
from mtsql.trajectory.store import write_trajectories

logger = logging.getLogger(__name__)

NAMESPACE = "mtsql"
RECORDER = "mtsql_recorder"
SPEC = TypeAdapter(TurnSpec)
"""Turns travel to the agent loops as JSON columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What one RL step's trajectories say."""

    metrics: dict[str, float]
    successes: tuple[tuple[str, float], ...]
    """(turn_id, EX as 0.0 or 1.0) of every scored trajectory."""
    endings: dict[str, int]
    faults: dict[str, int]
    """By kind."""


@ray.remote(num_cpus=0)
class Recorder:
    """Collects trajectories of a step until the trainer asks for them.

    Args:
        folder: Parquet files go here, one for each step.
    """

    def __init__(self, folder: Path) -> None:
        log.follow()
        self._folder = folder
        self._steps: dict[int, dict[str, Attempt]] = defaultdict(dict)

    def add(self, attempt: Attempt, *, key: str) -> None:
        """Keep an attempt under the key of its row in verl's batch."""
        self._steps[attempt.label.rl_step][key] = attempt

    def advantages(self, rl_step: int, keys: Sequence[str], mode: str) -> list[list[float]]:
        """What `token_advantages` says of the rows that the trainer has."""
        return token_advantages(self._steps[rl_step], keys, mode)

    def flush(self, rl_step: int) -> StepFacts:
        """Write the step's file and return its facts."""
        rows = [*self._steps.pop(rl_step, {}).values()]
        num_dropped = sum(row.reward is None for row in rows)
        what = {"step": rl_step, "trajectories": len(rows), "dropped": num_dropped}
        logger.info("trajectories recorded", extra=what)
        rows.sort(key=lambda row: (row.trajectory.turn_id, row.group))
        write_trajectories(self._folder / f"rl-step-{rl_step:05d}.parquet", rows)
        return step_facts(rows)


def row_key(group: str, session_id: object) -> str:
    """The key that verl gives the one row of an attempt."""
    return f"{group}_{session_id}_0"


def token_advantages(
    rows: Mapping[str, Attempt], keys: Sequence[str], mode: str
) -> list[list[float]]:
    """For each key the advantage of every response token, relative to the keys of its group.

    Only the rows that are named are compared: what verl has no row for (an unscored attempt, one
    without a token) counts in no group.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        groups[rows[key].group].append(key)
    found: dict[str, list[float]] = {}
    for members in groups.values():
        rewards = [rows[key].reward for key in members]
        scored = [reward for reward in rewards if reward is not None]
        assert len(scored) == len(members), "an unscored attempt has no row"
        # Words of every proposal are read for them, which the other modes do not ask for.
        anchored = mode == "anchors"
        states = [states_of(rows[key].trajectory) for key in members] if anchored else None
        for key, steps in zip(members, step_advantages(scored, mode, states), strict=True):
            found[key] = rows[key].tokens.spread(steps)
    return [found[key] for key in keys]


def step_facts(rows: Sequence[Attempt]) -> StepFacts:
    scored = [row for row in rows if row.reward is not None]
    finals = [
        (row, row.trajectory.judgements[-1] if row.trajectory.judgements else None)
        for row in scored
    ]
    count = max(1, len(scored))
    endings: dict[str, int] = {ending.value: 0 for ending in Ending}
    faults: dict[str, int] = {kind.value: 0 for kind in FaultKind}
    for row in rows:
        endings[row.trajectory.ending.value] += 1
        if row.trajectory.fault is not None:
            faults[row.trajectory.fault.kind.value] += 1
    abilities = ability_metrics([row.trajectory for row in scored])
    metrics = {
        "num_trajectories": float(len(rows)),
        "num_dropped": float(len(rows) - len(scored)),
        "reward": sum(row.reward.total for row in scored if row.reward) / count,
        "ex": sum(1.0 for _, final in finals if final and final.ex) / count,
        "em": sum(1.0 for _, final in finals if final and final.em) / count,
        "response_tokens": sum(len(row.tokens.response_ids) for row in scored) / count,
        "sampled_tokens": sum(sum(row.tokens.response_mask) for row in scored) / count,
        **{
            f"ability/{name}": value
            for name, value in abilities.items()
            if not name.startswith("ending_")
        },
    }
    successes = tuple(
        (row.trajectory.turn_id, float(bool(final and final.ex))) for row, final in finals
    )
    return StepFacts(metrics=metrics, successes=successes, endings=endings, faults=faults)
