"""verl's SFT trainer with our order of rows, an exact validation loss and complete exports."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import torch
import verl.utils.distributed as verl_distributed
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, DistributedSampler
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils.fsdp_utils import get_fsdp_full_state_dict
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from actors import plugin
from actors.learner.config import sft_config
from actors.learner.job import SftJob
from actors.learner.sft_dataset import DrawnDataset

logger = logging.getLogger(__name__)

MODELS = "models"
"""Folder of the exports among the checkpoints; each is called step_N."""
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"}


ENGINE, LABEL_ENGINE = "mtsql", "mtsql_labels"
"""What verl takes for vendors of devices: the engines below stand under these names."""


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor=ENGINE)
class LearnedTokensEngine(FSDPEngineWithLMHead):
    """verl's engine, with scores over the vocabulary only where a token is learned.

    Of a small model they are a quarter of all arithmetic, and most tokens of a row are prompt.
    """

    def prepare_model_inputs(self, micro_batch: Any) -> Any:  # noqa: ANN401 - verl's own objects
        verl: Any = super()  # verl's registry hides the type of what it registers
        inputs, outputs = verl.prepare_model_inputs(micro_batch)
        # Each token is predicted at the place before it.
        learned = micro_batch["loss_mask"].values().roll(-1).nonzero()[:, 0]
        return inputs | {"logits_to_keep": learned}, outputs | {"learned": learned}

    def prepare_model_outputs(
        self,
        output: Any,  # noqa: ANN401 - verl's own objects
        output_args: dict[str, Any],
        micro_batch: Any,  # noqa: ANN401
        logits_processor_func: Any,  # noqa: ANN401
    ) -> dict[str, torch.Tensor]:
        """Log-probabilities of the rows' tokens; 0 where the loss does not look."""
        input_ids, learned = micro_batch["input_ids"], output_args["learned"]
        told = output_args["input_ids_rmpad_rolled"]
        loss = cross_entropy(output.logits[0].float(), told[learned], reduction="none")
        return {"log_probs": _in_rows(input_ids, learned, -loss)}


@EngineRegistry.register(
    model_type="language_model", backend="fsdp2", device="cuda", vendor=LABEL_ENGINE
)
class LabelEngine(LearnedTokensEngine):
    """The engine of process reward models: at a mark two tokens are weighed against each other."""

    labels: ClassVar[tuple[int, int]]
    """Ids of the good and the bad one; a rank learns one model only."""

    def prepare_model_outputs(
        self,
        output: Any,  # noqa: ANN401 - verl's own objects
        output_args: dict[str, Any],
        micro_batch: Any,  # noqa: ANN401
        logits_processor_func: Any,  # noqa: ANN401
    ) -> dict[str, torch.Tensor]:
        """good * log p + bad * log(1 - p) before each learned place, p the share of the good label
        among the two; 0 elsewhere."""
        input_ids, learned = micro_batch["input_ids"], output_args["learned"]
        log_p = output.logits[0][:, list(self.labels)].float().log_softmax(-1)
        weights = torch.stack(
            [micro_batch[name].values().roll(-1)[learned] for name in ("good", "bad")], -1
        )
        return {"log_probs": _in_rows(input_ids, learned, (weights * log_p).sum(-1))}


def _in_rows(rows: Any, places: torch.Tensor, values: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a nested tensor
    """Values at some places of nested rows, counted through all of them; 0 elsewhere."""
    flat = values.new_zeros(len(rows.values())).index_put((places,), values)
    return torch.nested.nested_tensor_from_jagged(flat, rows.offsets())


def run_rank(job: SftJob) -> None:
    """One rank of a training; its place stands in RANK and WORLD_SIZE."""
    plugin.require()
    os.environ["VERL_ENGINE_VENDOR"] = ENGINE if job.labels is None else LABEL_ENGINE
    if job.labels is not None:
        engine: Any = LabelEngine  # verl's registry hides the type of what it registers
        engine.labels = job.labels
    verl_distributed.initialize_global_process_group()
    # verl seeds nothing here, and new adapters are random.
    torch.manual_seed(job.recipe.seed)
    keep_all = job.fine_tune.num_validation_dialogues > 0
    Trainer(sft_config(job), keep_all=keep_all).fit()
    verl_distributed.destroy_global_process_group()


class Trainer(SFTTrainer):
    """Differs from verl's in three things, and in the engine above.

    - Order: verl's sampler shuffles with seed 0 regardless of the recipe, drops what fills no
      batch, and starts another epoch when it resumes at the end of one. Ours is drawn beforehand.
    - Validation loss: over every token of every row, not a mean of full batches.
    - Checkpoints: an export whose adapters are merged, in the base model's precision; verl writes
      adapters into a folder that nothing loads. Optimizer states are kept of the newest only.

    Args:
        keep_all: keep every export, to choose among them; otherwise the newest.
    """

    def __init__(self, config: Any, *, keep_all: bool) -> None:  # noqa: ANN401 - verl's own object
        self._out = Path(config.trainer.default_local_dir)
        self._keep_all = keep_all
        super().__init__(config)

    def _build_dataset(self) -> None:
        super()._build_dataset()
        trainer, batch_size = self.config.trainer, self.config.data.train_batch_size
        self.train_dataset = DrawnDataset(
            self.train_dataset,
            len(self.train_dataset),
            num_draws=trainer.total_training_steps * batch_size,
            seed=trainer.seed,
        )

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_sampler.shuffle = False
        if self.val_dataset is None:
            return
        sampler = DistributedSampler(
            self.val_dataset,
            num_replicas=self.engine.get_data_parallel_size(),
            rank=self.engine.get_data_parallel_rank(),
            shuffle=False,
        )
        # One batch, which the engine splits by tokens and averages over all of them.
        self.val_dataloader = DataLoader(
            self.val_dataset,
            batch_size=len(sampler),
            sampler=sampler,
            collate_fn=self.collate_fn,
        )

    def _build_ckpt_handler(self) -> None:
        super()._build_ckpt_handler()
        save = self.ckpt_handler.save_checkpoint

        def export_and_save(step: int) -> None:
            self._export(step)
            save(step)
            self._forget_before(step)

        self.ckpt_handler.save_checkpoint = export_and_save

    def _export(self, step: int) -> None:
        engine: Any = self.engine
        state: Any = get_fsdp_full_state_dict(engine.module, offload_to_cpu=True, rank0_only=True)
        if self.rank == 0:
            model = self.config.model
            if model.lora_rank > 0:
                state = merge_adapters(state, model.lora_alpha / model.lora_rank)
            write_export(Path(model.path), state, self._out / MODELS / f"step_{step}")
            logger.info("checkpoint saved", extra={"step": step, "out": self._out})
        torch.distributed.barrier()

    def _forget_before(self, step: int) -> None:
        """Also what a killed run has left, which verl does not know of."""
        if self.rank != 0:
            return
        kept = {self._out / f"global_step_{step}", self._out / MODELS / f"step_{step}"}
        old = set(self._out.glob("global_step_*"))
        if not self._keep_all:
            old |= set((self._out / MODELS).iterdir())
        logger.debug("checkpoints forgotten", extra={"before": step, "count": len(old - kept)})
        for path in old - kept:
            shutil.rmtree(path)


def merge_adapters(state: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """Weights under the base model's names: W + scale * B A where an adapter stands, else W.

    Example: names of one adapted layer
        base_model.model.model.layers.0.mlp.up_proj.base_layer.weight       W [out, in]
        base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight   A [rank, in]
        base_model.model.model.layers.0.mlp.up_proj.lora_B.default.weight   B [out, rank]
    becomes model.layers.0.mlp.up_proj.weight.
    """
    merged: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        layer, found, rest = name.partition(".base_layer.")
        if found and rest == "weight":
            a, b = (state[f"{layer}.lora_{side}.default.weight"].float() for side in "AB")
            tensor = (tensor.float() + scale * (b @ a)).to(tensor.dtype)
        plain = f"{layer}.{rest}" if found else name
        merged[plain.removeprefix("base_model.model.")] = tensor
    return merged


def write_export(base: Path, state: dict[str, torch.Tensor], folder: Path) -> None:
    """The base model's folder with other weights, whole or not at all.

    Files, names and precisions are the base's, so anything that loads the base loads the export.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in sorted(base.iterdir()):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                tensors = {
                    name: state[name].to(file.get_tensor(name).dtype).contiguous()
                    for name in file.keys()  # noqa: SIM118 - not a mapping
                }
            save_file(tensors, partial / path.name, metadata={"format": "pt"})
        elif path.is_file() and path.suffix not in WEIGHTS:
            shutil.copyfile(path, partial / path.name)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
