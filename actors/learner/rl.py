"""The RL stage: rows for verl's dataset, then verl's trainer until the last step."""

import json
import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf, open_dict

from actors import log, plugin
from actors.learner.config import AGENT, RL_VENDOR, rl_config
from actors.learner.recorder import SPEC
from actors.rollout.turns import load_run_data, training_specs
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.dialogue import band_of
from mtsql.runs.folder import RunFolder

logger = logging.getLogger(__name__)

CPUS_OF_A_RANK = 3
"""verl's resource pool reserves so many of Ray's CPUs for each learner rank."""
CPUS_OF_THE_OTHERS = 5
"""Task runner, data plane and agent loops; Ray starts a process for each CPU, so no more."""


def write_rows(config: RunConfig, path: Path) -> int:
    """One row for each training turn, in verl's columns; returns how many."""
    specs = training_specs(config, load_run_data(config))
    rows = [
        {
            # verl wants a prompt column; the environment makes the real one.
            "prompt": [{"role": "user", "content": spec.turn.question}],
            "data_source": config.data.source,
            "agent_name": AGENT,
            "extra_info": {
                "index": number,
                "turn_id": spec.turn.turn_id,
                "band": band_of(spec.turn.hardness),
                "spec": SPEC.dump_json(spec).decode(),
            },
        }
        for number, spec in enumerate(specs)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return len(rows)


def train(config: RunConfig, device: Device, model: Path, run: RunFolder) -> Path:
    """Run verl's trainer, resuming from its last checkpoint, and return the exported model.

    Args:
        model: the warm start's Hugging Face folder.
    """
    from verl.trainer.main_ppo import run_ppo

    from actors.learner.trainer import TaskRunner

    plugin.require()
    assert config.rl is not None
    here = run.rl
    here.path.mkdir(parents=True, exist_ok=True)
    num_turns = write_rows(config, here.rows)
    what = {"turns": num_turns, "steps": config.rl.num_steps, "base": model}
    logger.info("RL rows written", extra=what)
    here.agent_loops.write_text(
        json.dumps(
            [
                {
                    "name": AGENT,
                    "_target_": "actors.learner.agent_loop.DialogueAgentLoop",
                    "run": config.model_dump_json(),
                }
            ]
        ),
        encoding="utf-8",
    )
    merged = rl_config(
        config,
        config.rl,
        device=device,
        base=model.absolute(),
        rows=here.rows.absolute(),
        out=here.checkpoints.absolute(),
        agent_loops=here.agent_loops.absolute(),
    )
    ray_init = {
        "address": config.machine.ray_address or "local",
        "log_to_driver": True,
        "namespace": "mtsql",
        # A cluster's workers do not inherit this process's variables.
        "runtime_env": {"env_vars": log.variables()},
    }
    if device == "cpu":
        os.environ["VERL_ENGINE_VENDOR"] = RL_VENDOR
    if config.machine.ray_address is None:
        ray_init |= {"include_dashboard": False}
        if device == "cpu":
            # Logical ones: verl's resource pools count GPUs, and here each is a learner rank.
            num_ranks = config.machine.gpus_per_node
            ray_init |= {
                "num_gpus": num_ranks,
                "num_cpus": CPUS_OF_A_RANK * num_ranks + CPUS_OF_THE_OTHERS,
            }
    with open_dict(merged):
        merged.mtsql = {
            "run": config.model_dump_json(),
            "metrics_file": str(run.metrics("rl").absolute()),
            "trajectories": str(run.trajectories.absolute()),
        }
        merged.ray_kwargs = OmegaConf.create({"ray_init": ray_init, "timeline_json_file": None})
    # verl's own metrics, in addition to ours; Ray's workers inherit the variable.
    os.environ["VERL_FILE_LOGGER_PATH"] = str(run.metrics("rl-verl").absolute())
    run_ppo(merged, task_runner_class=TaskRunner)
    return here.checkpoints / f"global_step_{config.rl.num_steps}" / "actor" / "huggingface"
