"""How a policy is judged."""

from pydantic import (
    PositiveInt,
)

from mtsql.config.environment import HistoryMode
from mtsql.config.section import Section


class EvaluationConfig(Section):
    """Greedy decoding through vLLM and the same environment."""

    histories: tuple[HistoryMode, ...] = ("gold", "predicted")
    splits: tuple[str, ...] = ("test", "test_ood")
    num_bootstrap: PositiveInt = 2000
    """Samples of dialogues for the 95 % intervals."""
    max_concurrent: PositiveInt = 64
    """Dialogues played at the same time."""
