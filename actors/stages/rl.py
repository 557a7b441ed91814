"""The RL stage: verl's trainer until the last step, then its model in a public place."""

import logging
import shutil
from pathlib import Path

from actors.learner import rl
from actors.stages.context import StageContext

logger = logging.getLogger(__name__)


def rl_stage(context: StageContext) -> None:
    """Learn from the newest model before it, or go on doing so from the last checkpoint."""
    logger.info("RL begins", extra={"base": context.rl_base})
    exported = rl.train(context.config, context.device, context.rl_base, context.run)
    publish(exported, context.run.rl.model)
    logger.info("model published", extra={"model": context.run.rl.model, "exported": exported})


def publish(exported: Path, model: Path) -> None:
    """Copy a Hugging Face folder to its public place, whole or not at all."""
    partial = model.with_name(model.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(exported, partial)
    shutil.rmtree(model, ignore_errors=True)
    partial.rename(model)
