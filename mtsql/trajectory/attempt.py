"""One attempt at one turn: what happened, its tokens, its reward, and what it was made for."""

from dataclasses import dataclass

from mtsql.config.environment import HistoryMode
from mtsql.dialogue import Hardness, TurnSpec
from mtsql.trajectory.records import Trajectory
from mtsql.trajectory.reward import Reward
from mtsql.trajectory.tokens import TokenSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Where an attempt comes from."""

    policy: str
    """scripted, warm_start, round_1, rl ..."""
    split: str
    history_mode: HistoryMode
    """What memory holds of the earlier turns."""
    rl_step: int = 0
    """0 outside RL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """All that is needed to read, re-score or learn from one trajectory."""

    trajectory: Trajectory
    tokens: TokenSequence
    reward: Reward | None
    """None: unscored."""
    label: Label
    group: str
    """Shared by the trajectories for the same turn that are compared with each other."""
    dialogue_id: str
    turn_index: int
    db_id: str
    hardness: Hardness | None
    question: str
    gold_sql: str


def attempt_at(
    spec: TurnSpec,
    *,
    trajectory: Trajectory,
    tokens: TokenSequence,
    reward: Reward | None,
    label: Label,
    group: str,
) -> Attempt:
    """What came of a turn, with the turn's own facts; its schema and history stay behind."""
    return Attempt(
        trajectory=trajectory,
        tokens=tokens,
        reward=reward,
        label=label,
        group=group,
        dialogue_id=spec.dialogue_id,
        turn_index=spec.turn_index,
        db_id=spec.db_id,
        hardness=spec.turn.hardness,
        question=spec.turn.question,
        gold_sql=spec.turn.gold_sql,
    )
