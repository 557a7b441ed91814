"""How a policy is judged."""

from pydantic import (
    PositiveInt,
)

from mtsql.config.environment import HistoryMode
from mtsql.config.section import Section


class EvaluationConfig(Section):
    """Greedy decoding through vLLM and the same environment."""

    histories: tuple[HistoryMode, ...] = ("gold", "predicted")
    """What memory holds of earlier turns: their gold SQL, or what the policy answered."""
    splits: tuple[str, ...] = ("test", "test_unseen_db", "test_ood")
    """Splits of the dataset that are judged; one that the dataset lacks is left out."""
    num_bootstrap: PositiveInt = 2000
    """Samples of dialogues for the 95 % intervals."""
    max_concurrent: PositiveInt = 64
    """Dialogues played at the same time."""
