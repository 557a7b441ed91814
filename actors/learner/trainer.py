"""verl's V1 sync trainer with our curriculum, our facts and cheap steps.

    rows (Parquet) -> CurriculumSampler -> agent loops -> Recorder -> advantages
                                                                   -> facts -> curriculum, metrics

Runs inside verl's task runner, a Ray actor. Nothing of verl is edited: the trainer class is looked
up in verl's registry, and this module puts its subclass there.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import ray
import torch
import transfer_queue
import verl.trainer.ppo.v1.trainer_base as verl_trainer
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from torch.utils.data import Sampler
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import PPOTrainerSync
from verl.utils.dataset.rl_dataset import collate_fn

from actors import log, plugin
from actors.learner.recorder import NAMESPACE, RECORDER, Recorder, StepFacts
from actors.rollout.turns import load_run_data
from actors.sql_pool import require_unchanged, start_sql_pools
from mtsql.config.run import RunConfig
from mtsql.curriculum import Curriculum

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.05


class CurriculumSampler(Sampler[int]):
    """The curriculum as torch sees it; its state travels in verl's checkpoint (data.pt)."""

    def __init__(self, curriculum: Curriculum, num_items: int) -> None:
        self.curriculum = curriculum
        self._num_items = num_items

    def __len__(self) -> int:
        return self._num_items

    def __iter__(self) -> Iterator[int]:
        while True:
            yield self.curriculum.next_item()

    def state_dict(self) -> dict[str, Any]:
        return self.curriculum.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.curriculum.load_state_dict(state)


class CurriculumTrainer(PPOTrainerSync):
    """One step: draw turns, play them, learn, record."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self._run = RunConfig.model_validate_json(config.mtsql.run)
        self._metrics_file = Path(config.mtsql.metrics_file)
        # The stock interval of 2 s would be most of a small model's step.
        self.replay_buffer.poll_interval = POLL_INTERVAL_S
        self._logprob_diff: float | None = None
        """Of the step that runs, if it is the one that measures."""
        self._has_compared = False

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        assert self._run.rl is not None
        turns = [
            (info["turn_id"], info["band"])
            for info in cast(Any, self.train_dataset).dataframe["extra_info"]
        ]
        self._sampler = CurriculumSampler(
            Curriculum(turns, self._run.rl.curriculum, seed=self._run.seed), len(turns)
        )
        # num_workers=0: a prefetching loader would run ahead of the curriculum's updates.
        self.train_dataloader = StatefulDataLoader(
            self.train_dataset,
            batch_size=self.config.data.train_batch_size,
            num_workers=0,
            drop_last=True,
            collate_fn=collate_fn,
            sampler=self._sampler,
        )

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:  # noqa: ANN401 - verl's KVBatchMeta
        """Recompute the rollout's log-probabilities on this process's first step only.

        There it measures that rollout and learner agree. Later steps take vLLM's own numbers as the
        old policy's, which saves one forward pass of the learner.
        """
        with open_dict(self.config):
            self.config.algorithm.rollout_correction = {"bypass_mode": self._has_compared}
        batch = super()._compute_old_log_prob(batch, metrics)
        self._logprob_diff = None if self._has_compared else _mean_difference(batch)
        self._has_compared = True
        return batch

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:  # noqa: ANN401 - verl's KVBatchMeta
        """Put the advantages of the Recorder's typed rewards in the place of verl's own.

        verl's batch has one number for a trajectory; what it computes of it besides is kept.
        """
        batch = super()._compute_advantage(batch, metrics)
        assert self._run.rl is not None
        rows = transfer_queue.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"]
        )
        keys = [
            None if tag.get("is_padding") else key
            for key, tag in zip(batch.keys, batch.tags, strict=True)
        ]
        recorder = ray.get_actor(RECORDER, namespace=NAMESPACE)
        known = [key for key in keys if key is not None]
        advantages = ray.get(
            recorder.advantages.remote(self.global_steps, known, self._run.rl.advantage)
        )
        lengths = [len(mask) for mask in rows["response_mask"].unbind(0)]
        by_key = dict(zip(known, advantages, strict=True))
        fields = nested_rows([by_key.get(key) for key in keys], lengths)
        return transfer_queue.kv_batch_put(
            keys=batch.keys,
            partition_id=batch.partition_id,
            fields=TensorDict({"advantages": fields, "returns": fields}, batch_size=len(keys)),
        )

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> Any:  # noqa: ANN401 - verl's KVBatchMeta
        self._step_started = time.monotonic()
        batch = super().step(metrics, timing_raw)
        require_unchanged(NAMESPACE)  # before verl saves a checkpoint of what this step learned
        recorder = ray.get_actor(RECORDER, namespace=NAMESPACE)
        facts = cast(StepFacts, ray.get(recorder.flush.remote(self.global_steps)))
        self._sampler.curriculum.update(facts.successes)
        self._facts = facts
        return batch

    def on_step_end(self) -> None:
        super().on_step_end()
        self._write_metrics()

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        logger.info("checkpoint saved", extra={"step": self.global_steps})

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        logger.info("RL goes on", extra={"after_step": self.global_steps})

    def _write_metrics(self) -> None:
        """One line for each step; the command that waits for the run reads it as it grows."""
        timing = self.timing_raw
        line = {
            "step": self.global_steps,
            **self._facts.metrics,
            "endings": self._facts.endings,
            "faults": self._facts.faults,
            "curriculum": self._sampler.curriculum.metrics(),
            "logprob_diff": self._logprob_diff,
            "generate_s": timing.get("gen"),
            "logprob_s": timing.get("old_log_prob"),
            "update_s": timing.get("update_actor"),
            "sync_s": timing.get("update_weights"),
            "step_s": time.monotonic() - self._step_started,
        }
        logger.debug("weights synced", extra={"step": line["step"], "sync_s": line["sync_s"]})
        names = ("step", "reward", "ex", "num_dropped", "generate_s", "update_s", "step_s")
        logger.info("RL step ends", extra={name: line.get(name) for name in names})
        if self._logprob_diff is not None:
            difference = {"step": line["step"], "logprob_diff": self._logprob_diff}
            logger.info("rollout and learner compared", extra=difference)
        with self._metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def nested_rows(
    rows_B_T: Sequence[Sequence[float] | None], lengths_B: Sequence[int]
) -> torch.Tensor:
    """Rows as verl holds them; zeros for None, which is padding.

    Raises:
        ValueError: a row has not the length of its response.
    """
    rows = [
        [0.0] * length if row is None else row
        for row, length in zip(rows_B_T, lengths_B, strict=True)
    ]
    if [len(row) for row in rows] != list(lengths_B):
        raise ValueError(f"advantages of {[len(row) for row in rows]} tokens for {list(lengths_B)}")
    tensors = [torch.tensor(row, dtype=torch.float32) for row in rows]
    return torch.nested.as_nested_tensor(tensors, layout=torch.jagged)


def _mean_difference(batch: Any) -> float:  # noqa: ANN401 - verl's KVBatchMeta
    """Mean absolute difference of rollout and learner log-probabilities over sampled tokens."""
    fields = ["rollout_log_probs", "old_log_probs", "response_mask"]
    rows = transfer_queue.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=fields
    )
    rollout, learner, mask = (cast(torch.Tensor, rows[name]).values() for name in fields)
    return float((rollout - learner).abs()[mask.bool()].mean())


_Runner: Any = cast(Any, TaskRunnerV1).__ray_metadata__.modified_class


class _TaskRunner(_Runner):
    """verl's task runner, with our actors started first and our trainer class."""

    def run(self, config: DictConfig) -> None:
        log.follow()
        plugin.require()
        run = RunConfig.model_validate_json(config.mtsql.run)
        dataset = load_run_data(run)
        self._pools = start_sql_pools(
            dataset.databases,
            namespace=NAMESPACE,
            **run.sql.pool(),
        )
        self._recorder = Recorder.options(name=RECORDER, namespace=NAMESPACE).remote(
            Path(config.mtsql.trajectories)
        )
        logger.info("task runner starts", extra={"databases": len(dataset.databases)})
        verl_trainer.TRAINER_REGISTRY["sync"] = CurriculumTrainer
        super().run(config)


TaskRunner = ray.remote(num_cpus=0)(_TaskRunner)
