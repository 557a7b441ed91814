"""A recipe as verl's configuration: the one file that knows verl's keys.

verl's own YAML is composed with hydra, and only the keys below are set; the rest keeps verl's
defaults.
"""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf, open_dict

from actors.cpu.vllm import NAME as VLLM_CPU
from actors.cpu.weights import bucket_mb
from actors.learner import tree_attention
from actors.learner.job import SftJob
from mtsql.config.learning import FineTuneConfig
from mtsql.config.machine import Device
from mtsql.config.rl import RLConfig
from mtsql.config.run import RunConfig

ARITHMETIC = {"float32": "fp32", "bfloat16": "bf16"}
"""By `machine.dtype`, the engine's name of the format in which it multiplies."""
AGENT = "mtsql"
RL_ENGINE = "actors.learner.rl_engine"
"""The module of the engine; it imports verl's own, so only where they run."""
RL_VENDOR = "mtsql_rl"
"""What verl takes for a vendor of devices: that engine stands under this name."""


def _compose(name: str, values: dict[str, Any]) -> DictConfig:
    with initialize_config_module(version_base=None, config_module="verl.trainer.config"):
        config = compose(config_name=name)
    with open_dict(config):
        for key, value in values.items():
            OmegaConf.update(config, key, value, force_add=True)
    return config


def _cpu_precision(config: RunConfig, prefix: str) -> dict[str, Any]:
    """The engine's numbers on a CPU.

    Weights, optimizer states and the sums of gradients have 32 bits always. On a GPU verl's own
    defaults are the same, with 16 bits for arithmetic.
    """
    arithmetic = ARITHMETIC[config.machine.dtype_on("cpu")]
    return {
        f"{prefix}.use_torch_compile": False,
        f"{prefix}.model_dtype": "fp32",
        f"{prefix}.mixed_precision": {
            "param_dtype": arithmetic,
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
    }


def _precision(config: RunConfig, device: Device, prefix: str) -> dict[str, Any]:
    if device == "gpu":
        return {}
    return {
        **_cpu_precision(config, prefix),
        f"{prefix}.strategy": "fsdp2",
        # Gradients are exchanged once for a batch, not once for a pack, and gathered weights stay:
        # on a CPU the small messages of each layer and pack cost as much as the arithmetic.
        f"{prefix}.use_no_sync_for_gradient_accumulation": True,
        f"{prefix}.reshard_after_forward": False,
    }


def _model(path: Path, device: Device, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}.path": str(path),
        f"{prefix}.enable_gradient_checkpointing": device == "gpu",
        # Packs hold no padding.
        f"{prefix}.use_remove_padding": True,
    }


def _tree_attention(fine_tune: FineTuneConfig, device: Device) -> dict[str, Any]:
    """Which attention a fine-tuning computes with.

    On a GPU flash attention, where no row is a tree; it cannot see trees. On a CPU always ours,
    because it attends to each row of a pack by itself.
    """
    if device == "gpu" and fine_tune.tree_tokens is None:
        return {}
    return {
        "model.external_lib": tree_attention.__name__,
        "model.override_config.attn_implementation": tree_attention.NAME,
    }


def sft_config(job: SftJob) -> DictConfig:
    """For verl's SFT trainer.

    Args:
        job: its fine_tune settled.
    """
    config, fine_tune, device = job.recipe, job.fine_tune, job.device
    has_validation = job.validation is not None
    return _compose(
        "sft_trainer_engine",
        {
            **_model(job.base, device, "model"),
            **_tree_attention(fine_tune, device),
            **_precision(config, device, "engine"),
            "engine.strategy": "fsdp2",
            "model.lora_rank": fine_tune.lora_rank,
            "model.lora_alpha": fine_tune.lora_alpha,
            "model.target_modules": "all-linear",
            "data.train_files": str(job.rows),
            "data.val_files": str(job.validation) if has_validation else None,
            "data.custom_cls.path": "pkg://actors.learner.sft_dataset",
            "data.custom_cls.name": "TokenDataset",
            "data.train_batch_size": fine_tune.batch_size,
            "data.use_dynamic_bsz": True,
            "data.max_token_len_per_gpu": fine_tune.micro_batch_tokens,
            "data.max_length": fine_tune.max_tokens,
            "data.num_workers": 0,
            "optim.lr": fine_tune.learning_rate,
            "optim.lr_warmup_steps": fine_tune.warmup_steps,
            "optim.weight_decay": fine_tune.weight_decay,
            "optim.lr_scheduler_type": "cosine",
            "optim.min_lr_ratio": 0.1,
            "optim.clip_grad": 1.0,
            # A short run cannot wait for the usual 1,000 steps of memory.
            "optim.betas": [0.9, 0.98],
            # Exports and what is kept of the states are our trainer's business.
            "checkpoint.save_contents": ["model", "optimizer", "extra"],
            "checkpoint.load_contents": ["model", "optimizer", "extra"],
            "trainer.default_local_dir": str(job.out),
            "trainer.project_name": "mtsql",
            "trainer.experiment_name": config.name,
            "trainer.logger": ["file"],
            "trainer.total_training_steps": fine_tune.num_steps,
            # The rows are drawn for all steps beforehand: one pass is the whole run.
            "trainer.total_epochs": 1,
            "trainer.save_freq": fine_tune.save_every,
            # verl would measure without rows too, and fail.
            "trainer.test_freq": fine_tune.save_every if has_validation else -1,
            "trainer.max_ckpt_to_keep": None,
            "trainer.seed": config.seed,
            "trainer.device": "cuda" if device == "gpu" else "cpu",
            "trainer.nnodes": 1,
            "trainer.n_gpus_per_node": fine_tune.num_ranks,
        },
    )


def rl_config(
    config: RunConfig,
    rl: RLConfig,
    *,
    device: Device,
    base: Path,
    rows: Path,
    out: Path,
    agent_loops: Path,
) -> DictConfig:
    """For verl's V1 sync trainer.

    Args:
        base: the warm start's Hugging Face folder.
        rows: Parquet with one row for each training turn.
        out: folder of its checkpoints.
        agent_loops: YAML that names our agent loop.
    """
    machine, environment = config.machine, config.environment
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    length = environment.max_prompt_tokens + environment.max_response_tokens
    values: dict[str, Any] = {
        **_model(base, device, "actor_rollout_ref.model"),
        "data.train_files": str(rows),
        "data.val_files": str(rows),
        "data.val_max_samples": 1,
        "data.train_batch_size": rl.turns_per_step,
        "data.max_prompt_length": environment.max_prompt_tokens,
        "data.max_response_length": environment.max_response_tokens,
        "data.filter_overlong_prompts": False,
        "data.dataloader_num_workers": 0,
        "data.return_raw_chat": True,
        "data.seed": config.seed,
        # The trainer puts the advantages of the typed rewards in the place of these.
        "algorithm.adv_estimator": "grpo",
        "algorithm.use_kl_in_reward": False,
        f"{actor}.optim.lr": rl.learning_rate,
        f"{actor}.optim.weight_decay": 0.01,
        f"{actor}.ppo_mini_batch_size": rl.turns_per_step,
        f"{actor}.use_dynamic_bsz": True,
        f"{actor}.ppo_max_token_len_per_gpu": max(rl.max_batch_tokens, length),
        f"{actor}.use_kl_loss": rl.kl_coef > 0,
        f"{actor}.kl_loss_coef": rl.kl_coef,
        f"{actor}.clip_ratio_low": rl.clip_low,
        f"{actor}.clip_ratio_high": rl.clip_high,
        f"{actor}.entropy_coeff": 0.0,
        f"{actor}.loss_agg_mode": "token-mean",
        f"{actor}.grad_clip": 1.0,
        f"{actor}.data_loader_seed": config.seed,
        f"{actor}.checkpoint.save_contents": ["hf_model", "model", "optimizer", "extra"],
        f"{actor}.checkpoint.load_contents": ["model", "optimizer", "extra"],
        f"{rollout}.n": rl.group_size,
        f"{rollout}.temperature": rl.temperature,
        f"{rollout}.top_p": 1.0,
        f"{rollout}.top_k": -1,
        f"{rollout}.tensor_model_parallel_size": machine.tensor_parallel,
        f"{rollout}.max_model_len": length,
        f"{rollout}.max_num_seqs": machine.max_running,
        f"{rollout}.dtype": machine.dtype_on(device),
        f"{rollout}.gpu_memory_utilization": machine.rollout_memory_share,
        f"{rollout}.log_prob_use_dynamic_bsz": True,
        f"{rollout}.log_prob_max_token_len_per_gpu": max(rl.max_batch_tokens, length),
        f"{rollout}.calculate_log_probs": True,
        f"{rollout}.agent.num_workers": machine.agent_workers,
        f"{rollout}.agent.default_agent_loop": AGENT,
        f"{rollout}.agent.agent_loop_config_path": str(agent_loops),
        f"{rollout}.seed": config.seed,
        "actor_rollout_ref.ref.log_prob_use_dynamic_bsz": True,
        "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu": max(rl.max_batch_tokens, length),
        "reward.num_workers": 0,
        "trainer.nnodes": machine.num_nodes,
        "trainer.n_gpus_per_node": machine.gpus_per_node,
        "trainer.logger": ["file"],
        "trainer.project_name": "mtsql",
        "trainer.experiment_name": config.name,
        "trainer.total_training_steps": rl.num_steps,
        "trainer.total_epochs": 10_000,
        "trainer.save_freq": rl.save_every,
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
        "trainer.resume_mode": "auto",
        "trainer.max_actor_ckpt_to_keep": 2,
        "trainer.default_local_dir": str(out),
        "trainer.device": "cuda" if device == "gpu" else "cpu",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": machine.num_nodes,
    }
    if device == "cpu":
        values |= {
            "actor_rollout_ref.model.external_lib": RL_ENGINE,
            "actor_rollout_ref.model.override_config.attn_implementation": tree_attention.NAME,
            f"{actor}.strategy": "fsdp2",
            f"{actor}.use_torch_compile": False,
            **_cpu_precision(config, f"{actor}.fsdp_config"),
            "actor_rollout_ref.ref.strategy": "fsdp2",
            "actor_rollout_ref.ref.use_torch_compile": False,
            **_cpu_precision(config, "actor_rollout_ref.ref.fsdp_config"),
            f"{rollout}.name": VLLM_CPU,
            f"{rollout}.enforce_eager": True,
            # The one worker lives in the engine's process; see actors.run.machine.
            f"{rollout}.engine_kwargs.vllm.distributed_executor_backend": "uni",
            f"{rollout}.enable_sleep_mode": False,
            f"{rollout}.free_cache_engine": False,
            f"{rollout}.max_num_batched_tokens": 4096,
            f"{rollout}.checkpoint_engine.update_weights_bucket_megabytes": bucket_mb(base),
        }
    else:
        values |= {
            f"{rollout}.name": "vllm",
            f"{rollout}.max_num_batched_tokens": max(8192, length),
        }
    return _compose("ppo_trainer", values)
