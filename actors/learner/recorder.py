"""The actor that keeps what was played: Parquet for people, facts for trainer and curriculum."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import ray
from pydantic import TypeAdapter

from mtsql.dialogue import TurnSpec
from mtsql.rewards.abilities import ability_metrics
from mtsql.trajectory.records import Ending, Trajectory
from mtsql.trajectory.reward import Reward
from mtsql.trajectory.store import StoredTrajectory, write_trajectories
from mtsql.trajectory.tokens import TokenSequence

NAMESPACE = "mtsql"
RECORDER = "mtsql_recorder"
SPEC = TypeAdapter(TurnSpec)
"""Turns travel to the agent loops as JSON columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One finished attempt, as the agent loop saw it."""

    spec: TurnSpec
    trajectory: Trajectory
    sequence: TokenSequence
    reward: Reward | None
    group: str
    rl_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What one RL step's trajectories say."""

    metrics: dict[str, float]
    successes: tuple[tuple[str, float], ...]
    """(turn_id, EX as 0.0 or 1.0) of every scored trajectory."""
    endings: dict[str, int]


@ray.remote(num_cpus=0)
class Recorder:
    """Collects trajectories of a step until the trainer asks for them.

    Args:
        folder: Parquet files go here, one for each step.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps: dict[int, list[Played]] = defaultdict(list)

    def add(self, played: Played) -> None:
        self._steps[played.rl_step].append(played)

    def flush(self, rl_step: int) -> StepFacts:
        """Write the step's file and return its facts."""
        rows = self._steps.pop(rl_step, [])
        rows.sort(key=lambda row: (row.spec.turn.turn_id, row.group))
        stored = [
            stored_row(row, policy="rl", split="train", history_mode="gold", rl_step=rl_step)
            for row in rows
        ]
        write_trajectories(self._folder / f"rl-step-{rl_step:05d}.parquet", stored)
        return step_facts(rows)


def stored_row(
    row: Played, *, policy: str, split: str, history_mode: str, rl_step: int
) -> StoredTrajectory:
    spec, sequence = row.spec, row.sequence
    return StoredTrajectory(
        trajectory=row.trajectory,
        dialogue_id=spec.dialogue_id,
        turn_index=spec.turn_index,
        db_id=spec.db_id,
        split=split,
        hardness=spec.turn.hardness,
        question=spec.turn.question,
        gold_sql=spec.turn.gold_sql,
        history_mode=history_mode,
        policy=policy,
        rl_step=rl_step,
        group=row.group,
        reward=row.reward,
        prompt_ids=sequence.prompt_ids,
        response_ids=sequence.response_ids,
        response_mask=sequence.response_mask,
        step_ends=sequence.step_ends,
        logprobs=sequence.logprobs,
    )


def step_facts(rows: list[Played]) -> StepFacts:
    scored = [row for row in rows if row.reward is not None]
    finals = [
        (row, row.trajectory.judgements[-1] if row.trajectory.judgements else None)
        for row in scored
    ]
    count = max(1, len(scored))
    endings: dict[str, int] = {ending.value: 0 for ending in Ending}
    for row in rows:
        endings[row.trajectory.ending.value] += 1
    abilities = ability_metrics([row.trajectory for row in scored])
    metrics = {
        "num_trajectories": float(len(rows)),
        "num_dropped": float(len(rows) - len(scored)),
        "reward": sum(row.reward.total for row in scored if row.reward) / count,
        "ex": sum(1.0 for _, final in finals if final and final.ex) / count,
        "em": sum(1.0 for _, final in finals if final and final.em) / count,
        "response_tokens": sum(len(row.sequence.response_ids) for row in scored) / count,
        "sampled_tokens": sum(sum(row.sequence.response_mask) for row in scored) / count,
        **{
            f"ability/{name}": value
            for name, value in abilities.items()
            if not name.startswith("ending_")
        },
    }
    successes = tuple(
        (row.spec.turn.turn_id, float(bool(final and final.ex))) for row, final in finals
    )
    return StepFacts(metrics=metrics, successes=successes, endings=endings)
