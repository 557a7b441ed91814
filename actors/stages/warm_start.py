"""The warm start: scripted trajectories in tokens, then a fine-tuning on them."""

import logging
import shutil
from pathlib import Path

from actors.stages.checkpoints import fine_tune
from actors.stages.context import StageContext
from actors.stages.scripted_rows import prepare_rows
from mtsql.files import write_whole

logger = logging.getLogger(__name__)


def warm_start_stage(context: StageContext) -> None:
    """Prepare the rows once, then learn them or go on doing so."""
    config, folder = context.config, context.run.warm_start
    assert config.warm_start is not None
    if not folder.base_note.exists():
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(parents=True)
        base = prepare_rows(
            config,
            config.warm_start,
            folder,
            progress=lambda done, total: context.report(
                "scripts played", done, total, "trajectories"
            ),
        )
        # Written last: its presence says that everything before it is whole.
        write_whole(folder.base_note, str(base))
    else:
        logger.info("scripted rows kept", extra={"folder": folder.path})
    fine_tune(
        config,
        config.warm_start,
        context.device,
        Path(folder.base_note.read_text("utf-8")),
        folder,
        context.run.metrics("warm_start"),
        progress=context.report,
    )
