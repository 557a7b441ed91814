"""One experiment, whole: every section of a recipe."""

from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from mtsql.config.checks import RULES
from mtsql.config.data import DataConfig
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.evaluation import EvaluationConfig
from mtsql.config.learning import SelfTaughtConfig, WarmStartConfig
from mtsql.config.machine import MachineConfig
from mtsql.config.model import ModelConfig
from mtsql.config.prm import PRMConfig
from mtsql.config.reward import RewardConfig
from mtsql.config.rl import RLConfig
from mtsql.config.section import Section
from mtsql.config.sql import SqlConfig


class RunConfig(Section):
    """One experiment, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder: letters, digits, dots, dashes and underscores."""
    seed: int = 1
    """Of weights, scripts, order and draws; the data have their own."""
    run_dir: Path | None = None
    """Default: runs/NAME."""
    data: DataConfig = DataConfig()
    """Which dialogues."""
    model: ModelConfig
    """Where the policy starts from."""
    environment: EnvironmentConfig = EnvironmentConfig()
    """How a turn is played."""
    sql: SqlConfig = SqlConfig()
    """How its SQL is run."""
    warm_start: WarmStartConfig | None = WarmStartConfig()
    """None: what follows starts from model.path as it is."""
    selftaught: SelfTaughtConfig | None = None
    """None: RL starts from the warm start."""
    reward: RewardConfig = RewardConfig()
    """What a trajectory is worth."""
    rl: RLConfig | None = RLConfig()
    """None: stop after the warm start."""
    prm: PRMConfig | None = None
    """The process reward model of `mtsql prm`; the run's own stages do without."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is judged, and how."""
    machine: MachineConfig = MachineConfig()
    """Where it runs."""

    @property
    def folder(self) -> Path:
        return self.run_dir if self.run_dir is not None else Path("runs") / self.name

    @property
    def data_folder(self) -> Path:
        return self.data.folder if self.data.folder is not None else self.folder / "data"

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for rule in RULES:
            mistake = rule(self)
            if mistake is not None:
                raise ValueError(mistake)
        return self
