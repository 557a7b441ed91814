"""Our advantage estimators in verl's registry; imported in the trainer's process."""

from typing import Any

import numpy as np
import torch
from verl.trainer.ppo.core_algos import register_adv_est

from mtsql.advantages import token_advantages


def _estimate(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, mode: str
) -> tuple[torch.Tensor, torch.Tensor]:
    advantages = token_advantages(
        token_level_rewards.tolist(), response_mask.tolist(), [str(group) for group in index], mode
    )
    tensor = torch.tensor(np.asarray(advantages), dtype=torch.float32)
    return tensor, tensor


@register_adv_est("mtsql_grpo")
def grpo(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    **_: Any,  # noqa: ANN401 - verl passes more than this needs
) -> tuple[torch.Tensor, torch.Tensor]:
    """One scalar for each trajectory. Shapes [B, T]; returns (advantages, returns)."""
    return _estimate(token_level_rewards, response_mask, index, "grpo")


@register_adv_est("mtsql_grpo_steps")
def grpo_steps(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    **_: Any,  # noqa: ANN401 - verl passes more than this needs
) -> tuple[torch.Tensor, torch.Tensor]:
    """Process rewards stay with their step. Shapes [B, T]; returns (advantages, returns)."""
    return _estimate(token_level_rewards, response_mask, index, "grpo_steps")
