"""Our advantage estimators in verl's registry; imported in the trainer's process."""

from functools import partial
from typing import Any

import numpy as np
import torch
from verl.trainer.ppo.core_algos import register_adv_est

from mtsql.rewards.advantages import MODES, token_advantages


def _estimate(
    mode: str,
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    **_: Any,  # noqa: ANN401 - verl passes more than this needs
) -> tuple[torch.Tensor, torch.Tensor]:
    """`token_advantages` of one mode. Shapes [B, T]; returns (advantages, returns)."""
    advantages = token_advantages(
        token_level_rewards.tolist(), response_mask.tolist(), [str(group) for group in index], mode
    )
    tensor = torch.tensor(np.asarray(advantages), dtype=torch.float32)
    return tensor, tensor


for _mode in MODES:
    register_adv_est(f"mtsql_{_mode}")(partial(_estimate, _mode))
