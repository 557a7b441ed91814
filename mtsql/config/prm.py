"""What a recipe says about its process reward model."""

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mtsql.config.learning import FineTuneConfig
from mtsql.config.section import Section

Aggregation = Literal["min", "last", "mean", "product"]
"""How the scores of its steps become one of a trajectory."""


class PRMFineTuneConfig(FineTuneConfig):
    """Fine-tuning on labelled steps: loss at the marks only, good and bad in equal weight."""

    num_epochs: PositiveFloat = 2.0
    """How often each trajectory is learned, unless num_steps is given."""
    learning_rate: PositiveFloat = 5e-4
    """The highest, after the warm-up."""
    validation_share: PositiveFloat = Field(default=0.1, lt=1)
    """Of the dialogues: kept out of learning, for the validation loss and the calibration."""
    num_validation_dialogues: Literal[0] = 0  # pyright: ignore[reportIncompatibleVariableOverride]
    """A scorer plays nothing: the last checkpoint is kept."""
    tree_tokens: None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """A row for each trajectory."""
    save_every: PositiveInt = 100
    """Optimizer steps between checkpoints, from which a killed run resumes; the validation loss is
    measured at each."""


class PRMConfig(Section):
    """A causal language model that says of each step of a trajectory whether it is good."""

    base: Path | None = None
    """Hugging Face folder that it starts from, with the policy's tokenizer; None: the warm start's
    model, or model.path without a warm start."""
    trajectories: tuple[str, ...] = ("trajectories/*.parquet", "rounds/*/samples/*.parquet")
    """What is labelled: patterns below the run's folder. Those of train are learned."""
    digests: bool = True
    """The model reads what the environment replied; false: the messages alone."""
    held_out_share: NonNegativeFloat = Field(default=0.2, lt=1)
    """Of train's dialogues: kept out of learning and calibration, for the evaluation (held_out)."""
    aggregation: Aggregation = "last"
    """How best-of-N ranks trajectories; the evaluation reports all of them."""
    fine_tune: PRMFineTuneConfig = PRMFineTuneConfig()
    """How it is learned; the outcome verifier likewise."""
