"""One experiment, whole: every section of a recipe."""

from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from mtsql.config.data import DataConfig
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.evaluation import EvaluationConfig
from mtsql.config.learning import FineTuneConfig, SelfTaughtConfig, WarmStartConfig
from mtsql.config.machine import MachineConfig
from mtsql.config.model import ModelConfig
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
    def _parts_fit(self) -> Self:
        if (
            self.data.source != "embedded"
            and self.data.source_dir is None
            and self.data.folder is None
        ):
            raise ValueError(
                f"data.source is {self.data.source!r}: "
                "set data.source_dir to the folder of the release"
            )
        if self.model.tiny is not None and self.warm_start is None:
            raise ValueError("model.tiny starts from random weights: keep warm_start")
        if self.selftaught is not None and self.selftaught.replay and self.warm_start is None:
            raise ValueError(
                "selftaught.replay repeats the warm start's scripts: keep warm_start, or set "
                "selftaught.replay=0"
            )
        fine_tunes: dict[str, FineTuneConfig] = {}
        if self.warm_start is not None:
            fine_tunes["warm_start"] = self.warm_start
        if self.selftaught is not None:
            fine_tunes["selftaught.fine_tune"] = self.selftaught.fine_tune
        for key, one in fine_tunes.items():
            num_ranks = one.num_ranks or self.machine.gpus_per_node
            if one.batch_size % num_ranks:
                raise ValueError(
                    f"{key}.batch_size is {one.batch_size}, but {num_ranks} ranks share it: "
                    f"make it a multiple, or set {key}.num_ranks"
                )
        machine = self.machine
        if machine.gpus_per_node % machine.tensor_parallel:
            raise ValueError(
                f"machine.tensor_parallel is {machine.tensor_parallel}, which does not divide "
                f"machine.gpus_per_node {machine.gpus_per_node}: set one of them"
            )
        environment = self.environment
        room = environment.max_prompt_tokens + environment.max_response_tokens
        if self.model.tiny is not None and room > self.model.tiny.max_position:
            raise ValueError(
                f"environment.max_prompt_tokens + max_response_tokens is {room}, beyond "
                f"model.tiny.max_position {self.model.tiny.max_position}"
            )
        return self
