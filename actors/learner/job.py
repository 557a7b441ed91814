"""One supervised fine-tuning as a record: it travels to the trainer's ranks as `job.json`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mtsql.config.learning import FineTuneConfig
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig


class SftJob(BaseModel):
    """What is learned, from what, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base: Path
    """Hugging Face folder to start from."""
    rows: Path
    """Parquet of `input_ids` and `loss_mask`."""
    validation: Path | None
    """The same, for the validation loss."""
    out: Path
    """Folder of the checkpoints, of this training only."""
    labels: tuple[int, int] | None = None
    """Ids of the good and the bad label of a process reward model, whose rows say with which weight
    each is learned; None: tokens are learned."""
    device: Device
    fine_tune: FineTuneConfig
    """In job.json it is settled: num_steps and num_ranks are there, and a pack holds every row."""
    recipe: RunConfig
