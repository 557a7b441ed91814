"""The kinds of process reward: a function, a weight in RewardConfig and a row here make one."""

from collections.abc import Callable, Mapping

from mtsql.config.reward import RewardConfig
from mtsql.rewards.generation import generation_rewards
from mtsql.rewards.verdicts import Values, memory_rewards, verdict_rewards
from mtsql.trajectory.records import Trajectory

PARTS: Mapping[str, Callable[[Trajectory, RewardConfig], Values]] = {
    "verify": verdict_rewards,
    "coherence": memory_rewards,
    "generation": generation_rewards,
}
"""By the name of its weight: what each step earns, the weight included."""
