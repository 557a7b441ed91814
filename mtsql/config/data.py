"""Which dialogues a run learns and is judged on."""

from pathlib import Path
from typing import Literal

from pydantic import (
    PositiveInt,
)

from mtsql.config.section import Section

DataSource = Literal["embedded", "sparc", "cosql", "spider"]


class DataConfig(Section):
    """Which dialogues, and where they lie."""

    source: DataSource = "embedded"
    """`embedded` is generated offline in seconds; the others read official releases."""
    source_dir: Path | None = None
    """Folder of the release (holds sparc/, cosql/ or spider/); not used by `embedded`."""
    folder: Path | None = None
    """Prepared dataset folder; made when it is missing. Default: RUN_DIR/data."""
    seed: int = 1
    """Seed of the embedded generator and of the validation split carved from train."""
    exclude: Path | None = None
    """Turns of train that are not learned from: JSONL with `dialogue_id` and `turn` (from 0), as
    `mtsql data audit --out` writes it. They stay in the history of the turns after them."""
    lower_case: bool = False
    """Names of schemas, and golds outside of quotes, in lower case, on SQLite and DuckDB, which do
    not tell the cases apart. Half of the names in SParC's golds are spelled unlike the schema."""
    num_train_dialogues: PositiveInt | None = None
    """Embedded: how many to generate. Real data: use only the first ones (None: all)."""
    num_valid_dialogues: PositiveInt | None = None
    """The same for the split that may select checkpoints."""
    num_test_dialogues: PositiveInt | None = None
    """The same for the held-out dialogues (embedded: of databases that train has too)."""
    num_test_unseen_db_dialogues: PositiveInt | None = None
    """The same for those of databases that are not in train, of its domains (embedded only)."""
    num_test_ood_dialogues: PositiveInt | None = None
    """The same for those of domains that are not in train (embedded only)."""
