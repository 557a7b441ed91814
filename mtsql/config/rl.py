"""Reinforcement learning and its curriculum."""

from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
)

from mtsql.config.section import Section


class CurriculumConfig(Section):
    """Which turns come next: those whose outcome is uncertain teach most."""

    enabled: bool = True
    """false: all turns share one queue, so that an epoch covers each of them once."""
    floor: PositiveFloat = 0.05
    """Least weight of a difficulty band, against 0.25 for a band with success 0.5."""
    decay: NonNegativeFloat = Field(default=0.8, le=1)
    """How much of a band's past counts after each step."""


class RLConfig(Section):
    """Group-relative policy optimisation through verl's V1 trainer."""

    num_steps: PositiveInt = 24
    """Optimizer steps."""
    turns_per_step: PositiveInt = 16
    """Turns played in a step, each by a group of trajectories."""
    group_size: int = Field(default=8, ge=2)
    """Trajectories for the same turn, compared with each other."""
    temperature: PositiveFloat = 1.0
    """Of the rollouts."""
    learning_rate: PositiveFloat = 1e-6
    """Constant."""
    advantage: Literal["grpo", "grpo_steps", "grpo_togo", "anchors"] = "grpo_steps"
    """`grpo`: one scalar for a trajectory. `grpo_steps`: process rewards stay with their step, each
    kind compared with its own kind. `grpo_togo`: a step answers for the process rewards from it to
    the end, of all kinds together. `anchors`: `grpo_steps`, and steps that start from the same
    proposal and result are compared with each other, too (GiGPO)."""
    kl_coef: NonNegativeFloat = 0.0
    """Weight of the KL loss against the warm start; 0 loads no reference model."""
    clip_low: PositiveFloat = 0.2
    """How far below 1 a probability ratio counts."""
    clip_high: PositiveFloat = 0.2
    """How far above 1 a probability ratio counts."""
    max_batch_tokens: PositiveInt = 16384
    """Tokens in one forward pass of the learner."""
    save_every: PositiveInt = 10
    """Steps between checkpoints, from which a killed run resumes."""
    curriculum: CurriculumConfig = CurriculumConfig()
    """Which turns come next."""
