"""Which function does the work of a stage, and on which machine it runs."""

import logging
import platform
import traceback
from collections.abc import Callable
from pathlib import Path

from actors import log
from actors.failures import Failed, failure_of
from actors.stages.context import StageContext, load_context
from mtsql.runs.folder import RunFolder
from mtsql.runs.records import Failure
from mtsql.runs.stages import Stage, stage_named

logger = logging.getLogger(__name__)


def work_of(stage: Stage) -> Callable[[StageContext], None]:
    """The function of a stage; only its own heavy modules load."""
    policy = stage.policy
    if policy is not None:
        from actors.stages.evaluation import evaluate_policy

        return lambda context: evaluate_policy(context, policy)
    if stage.round is not None:
        from actors.stages import rounds

        number = stage.round
        in_a_round = {
            "sample": rounds.sample_stage,
            "select": rounds.select_stage,
            "fine_tune": rounds.fine_tune_stage,
        }
        work = in_a_round[stage.kind.key]
        return lambda context: work(context, number)
    return OUTSIDE[stage.kind.key]


def _data(context: StageContext) -> None:
    from actors.stages.data import data_stage

    data_stage(context)


def _warm_start(context: StageContext) -> None:
    from actors.stages.warm_start import warm_start_stage

    warm_start_stage(context)


def _rl(context: StageContext) -> None:
    from actors.stages.rl import rl_stage

    rl_stage(context)


def _evaluate(context: StageContext) -> None:
    from actors.stages.evaluation import evaluate_request

    evaluate_request(context)


def _prm(name: str) -> Callable[[StageContext], None]:
    def work(context: StageContext) -> None:
        from actors.stages import prm

        {
            "prm_label": prm.label_stage,
            "prm_train": prm.train_stage,
            "prm_evaluate": prm.evaluate_stage,
        }[name](context)

    return work


OUTSIDE: dict[str, Callable[[StageContext], None]] = {
    "data": _data,
    "warm_start": _warm_start,
    "rl": _rl,
    "evaluate": _evaluate,
    **{name: _prm(name) for name in ("prm_label", "prm_train", "prm_evaluate")},
}
"""By a stage's key, outside of the self-taught rounds."""


def run_here_or_there(stage: Stage, context: StageContext) -> None:
    """Run a stage in this process, or on a GPU node of the cluster that the recipe joins.

    The run's folder must be visible on every node.
    """
    address = context.config.machine.ray_address
    if address is None or not stage.kind.needs_gpu_node:
        work_of(stage)(context)
        return
    import ray

    logger.info("stage goes to a GPU node", extra={"of": stage.name, "cluster": address})
    num_gpus = context.config.machine.gpus_per_node if context.device == "gpu" else 0
    ray.init(address=address, namespace="mtsql", runtime_env={"env_vars": log.variables()})
    # A failed stage is resumed by a person or a supervisor, never silently run twice.
    task = ray.remote(num_gpus=num_gpus, num_cpus=1, max_retries=0)(_run_there)
    failure = ray.get(task.remote(stage.name, context.run.path.absolute()))
    if failure is not None:
        raise Failed(failure)


def _run_there(stage: str, folder: Path) -> Failure | None:
    """Why the stage has failed, with its place on that node; None if it has not."""
    log.follow()
    try:
        work_of(stage_named(stage))(load_context(RunFolder(folder)))
    except Exception as error:
        traceback.print_exc()
        logger.error("stage failed on its node", exc_info=error)
        return failure_of(error, actor=f"the task on node {platform.node()}")
    return None
