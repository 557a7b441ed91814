"""Where a stage works, and how it tells the waiting command how far it is."""

import json
from dataclasses import dataclass
from pathlib import Path

from mtsql.config.learning import SelfTaughtConfig
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.runs.folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    config: RunConfig
    device: Device
    run: RunFolder

    def report(self, text: str, done: int, total: int, unit: str) -> None:
        """Tell the waiting command how far the stage is, counted in `unit`s."""
        line = json.dumps({"text": text, "done": done, "total": total, "unit": unit})
        with self.run.progress.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @property
    def taught(self) -> SelfTaughtConfig:
        """Of a recipe with self-taught rounds."""
        assert self.config.selftaught is not None
        return self.config.selftaught

    @property
    def warm_start_model(self) -> Path:
        if self.config.warm_start is None:
            return self.config.model.folder
        return self.run.warm_start.model

    def round_model(self, number: int) -> Path:
        """The newest model of the self-taught rounds up to `number`, or the warm start's."""
        return self.run.newest_model(number) or self.warm_start_model

    @property
    def rl_base(self) -> Path:
        """What RL begins with."""
        taught = self.config.selftaught
        return self.round_model(taught.rounds if taught is not None else 0)

    def policy_model(self, policy: str) -> Path:
        """The model of `warm_start`, `round_N` or `rl`."""
        return self.warm_start_model if policy == "warm_start" else self.run.model(policy)


def load_context(run: RunFolder) -> StageContext:
    """Read what the waiting command wrote into the run's folder.

    Raises:
        DataError: the note is not what a run writes.
    """
    note = run.read_note()
    return StageContext(config=note.recipe, device=note.device, run=run)
