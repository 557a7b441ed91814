"""Weights of the reward's parts."""

from collections.abc import Mapping
from typing import Literal, cast

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)

from mtsql.config.section import Section

REWARD_PRESETS: Mapping[str, Mapping[str, object]] = {
    "mtsql_r1": {
        "ex": 1.0,
        "em": 1.0,
        "verify": 0.1,
        "coherence": 0.1,
        "generation": 0.8,
        "verdicts": "mean",
    }
}
"""Named sets of the keys below; `mtsql_r1`: EX + EM + 0.1 V + 0.1 C + 0.8 G, from 0 to 3."""


class RewardConfig(Section):
    """Weights of the reward's parts, and how they are given out."""

    preset: Literal["mtsql_r1"] | None = None
    """Fills the keys that are not given along with it; see REWARD_PRESETS."""
    ex: NonNegativeFloat = 1.0
    """Outcome: the last proposal matches gold by execution."""
    em: NonNegativeFloat = 1.0
    """Outcome: the last proposal matches gold by its clauses."""
    verify: NonNegativeFloat = 0.1
    """Process reward of an execution verdict that agrees with gold, on the step's last token."""
    coherence: NonNegativeFloat = 0.0
    """The same for a memory verdict that agrees with the measured coherence."""
    generation: NonNegativeFloat = 0.0
    """Times what a proposal gains in clause F1 over the proposal before it, on the step that makes
    it; over a trajectory this sums to the F1 of the last proposal."""
    verdicts: Literal["each", "mean"] = "mean"
    """`each`: every verdict that counts pays its weight. `mean`: all verdicts of one kind share it,
    so that a mistake made on purpose, found and corrected, pays no more than a right first
    proposal."""
    verdict_table: Literal["gold", "reference"] = "gold"
    """`gold`: a verdict is right if "pass" is said of a result that matches gold. `reference`: the
    table of MTSQL-R1's code, which never asks gold and pays "pass" on anything that runs; for
    comparisons only."""
    coherent_from: PositiveFloat = Field(default=1.0, le=1)
    """Coherence (clause F1 with values) from which on a proposal counts as coherent."""
    unreadable_em: Literal["ex", "drop"] = "ex"
    """Turns whose gold EM cannot read (it is outside Spider's subset of SQL). `ex`: EX speaks for
    EM as well. `drop`: training leaves them out."""
    empty_is_wrong: bool = False
    """As `mtsql score --rule empty_is_wrong`: a proposal without rows does not match a gold without
    rows. Turns whose gold is empty then pay nothing, so training leaves them out."""
    keep_value_word: bool = False
    """As `mtsql score --rule keep_value_word`: the text "value" stays in proposals; officially it
    becomes "1", so that a gold with a column such as market_value cannot be met."""
    keep_literals: bool = False
    """As `mtsql score --rule keep_literals`: operators inside of texts are not joined."""
    numbers_by_value: bool = False
    """As `mtsql score --rule numbers_by_value`: a row with 1 next to 10 equals one with 1.0."""
    attribution: Literal["steps", "last"] = "steps"
    """`steps`: each reward lies on the step that earned it. `last`: all of them on the last step,
    one number for a trajectory."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        keys = cast("dict[str, object]", given)
        preset = keys.get("preset")
        return {**REWARD_PRESETS.get(preset, {}), **keys} if isinstance(preset, str) else keys
