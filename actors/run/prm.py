"""`mtsql prm`: the stages of a process reward model, in the folder `prm` of a run."""

import logging
import shutil

from rich.console import Console

from actors import log
from actors.run.checks import check_model
from actors.run.folder import open_run, taken_back
from actors.run.machine import device_of
from actors.run.processes import owned_processes
from actors.run.stage import run_stage
from mtsql.config.run import RunConfig
from mtsql.errors import ConfigError
from mtsql.files import write_record
from mtsql.runs.folder import PRMFolder, RunFolder
from mtsql.runs.stages import stage_named

logger = logging.getLogger(__name__)


def run_prm(
    config: RunConfig,
    stage: str,
    *,
    restart: bool = False,
    log_level: str = "info",
    console: Console | None = None,
) -> PRMFolder:
    """Run one of the stages, unless its result is there.

    Args:
        stage: `prm_label`, `prm_train` or `prm_evaluate`.
        restart: forget what this stage and later ones have made.

    Raises:
        UserError: a mistake in recipe, labels, model or machine.
        StageFailed: the stage broke.
    """
    if config.prm is None:
        raise ConfigError(
            f"recipe {config.name!r} has no section 'prm'; add one, e.g. prm.held_out_share=0.2"
        )
    run = RunFolder(config.folder)
    run.read_note()
    if config.prm.base is not None:
        check_model(config.prm.base, "prm.base")
    console = console or Console()
    own = run.path.absolute() / "prm"
    # A folder like a run's, so that labels and models of another recipe are never mixed.
    data = config.data.model_copy(update={"folder": config.data_folder.absolute()})
    recipe = config.model_copy(update={"run_dir": own, "data": data})
    device = device_of(config)
    with taken_back(own):
        _forget(PRMFolder(own), stage, recipe, restart=restart)
        folder = PRMFolder(open_run(recipe, device, restart=False).path)
        with log.written_to(folder.log, log_level), owned_processes():
            logger.info("reward model", extra={"of": stage, "folder": folder.path})
            run_stage(stage_named(stage), recipe, device, folder, console)
    return folder


def _forget(folder: PRMFolder, stage: str, recipe: RunConfig, *, restart: bool) -> None:
    """Before a restart: remove what the stage and later ones have made, and let the recipe change.

    Raises:
        ConfigError: what the labels depend on has changed, and they are to stay.
    """
    if not restart or not folder.is_run:
        return
    note = folder.read_note(fix="remove the folder")
    if stage == "prm_label":
        shutil.rmtree(folder.path)
        return
    if _for_labels(note.recipe) != _for_labels(recipe):
        raise ConfigError(
            f"{folder.labels}: labels of another recipe: run `mtsql prm label RECIPE --restart` "
            "first"
        )
    made = [folder.figures, folder.stage_end("prm_evaluate")]
    if stage == "prm_train":
        made += [folder.steps.path, folder.outcome.path, folder.stage_end("prm_train")]
    for path in made:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_record(folder.note, note.model_copy(update={"recipe": recipe}))


def _for_labels(recipe: RunConfig) -> object:
    """What labels are made by."""
    prm = recipe.prm
    return recipe.data, recipe.sql, recipe.environment, prm and prm.trajectories
