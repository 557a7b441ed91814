"""What the project takes from verl is there, and what it hands over lands where verl reads it."""

import inspect
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from helpers.places import ROOT
from mtsql.config.load import load_config
from mtsql.config.machine import Device, Dtype
from mtsql.config.run import RunConfig

# verl is imported late: it takes many seconds, and it and what it imports warn about themselves.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("verl") is None, reason="the core install holds no verl"),
    pytest.mark.filterwarnings("ignore"),
]

OVERRIDES = ["rl.group_size=5", "rl.kl_coef=0.01", "machine.agent_workers=3", "seed=11"]


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def recipe(dtype: Dtype | None = None) -> RunConfig:
    overrides = [*OVERRIDES, *([] if dtype is None else [f"machine.dtype={dtype}"])]
    return load_config(ROOT / "recipes" / "demo_cpu.yaml", overrides)


def sft(
    device: Device, validation: Path | None = None, dtype: Dtype | None = None, **changes: Any
) -> Any:
    from actors.learner.config import sft_config
    from actors.learner.job import SftJob
    from actors.learner.sft import settle

    config = recipe(dtype)
    assert config.warm_start is not None
    settled = settle(
        config.warm_start.model_copy(update={"tree_tokens": None} | changes),
        num_rows=1000,
        longest_tokens=100,
        num_ranks=2,
    )
    return sft_config(
        SftJob(
            base=Path("base"),
            rows=Path("rows.parquet"),
            validation=validation,
            out=Path("out"),
            device=device,
            fine_tune=settled,
            recipe=config,
        )
    )


def rl(device: Device, dtype: Dtype | None = None) -> Any:
    from actors.learner.config import rl_config

    config = recipe(dtype)
    assert config.rl is not None
    return rl_config(
        config,
        config.rl,
        device=device,
        base=Path("base"),
        rows=Path("rows.parquet"),
        out=Path("out"),
        agent_loops=Path("loops.json"),
    )


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every dotted key of a plain configuration; lists and empty sections are values."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{path}.{name}" if path else str(name))
    return found


def forced(name: str, composed: Any) -> set[str]:
    """The keys that verl's own YAML does not have."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module(version_base=None, config_module="verl.trainer.config"):
        stock = OmegaConf.to_container(compose(config_name=name))
    return set(leaves(OmegaConf.to_container(composed))) - set(leaves(stock))


MIXED = ("param_dtype", "reduce_dtype", "buffer_dtype")


def test_no_key_is_made_up() -> None:
    # A misspelt key would be added without a word, so the added ones are all named here.
    assert forced("sft_trainer_engine", sft("gpu")) == set()
    assert forced("ppo_trainer", rl("gpu")) == set()
    assert forced("sft_trainer_engine", sft("cpu")) == {
        "model.override_config.attn_implementation",
        *(f"engine.mixed_precision.{name}" for name in MIXED),
    }
    assert forced("sft_trainer_engine", sft("gpu", tree_tokens=4096)) == {
        "model.override_config.attn_implementation"
    }
    part = "actor_rollout_ref"
    assert forced("ppo_trainer", rl("cpu")) == {
        f"{part}.model.override_config.attn_implementation",
        *(f"{part}.actor.fsdp_config.mixed_precision.{name}" for name in MIXED),
        *(f"{part}.ref.fsdp_config.mixed_precision.{name}" for name in MIXED),
        f"{part}.rollout.enable_sleep_mode",
        f"{part}.rollout.engine_kwargs.vllm.distributed_executor_backend",
    }


def test_the_warm_start_lands_where_verl_reads_it() -> None:
    from verl.utils.config import omega_conf_to_dataclass

    config, recipe_ = sft("cpu"), recipe().warm_start
    assert recipe_ is not None
    # verl's records refuse fields that they do not have.
    engine, optimizer, checkpoint = (
        omega_conf_to_dataclass(config[name]) for name in ("engine", "optim", "checkpoint")
    )
    assert (engine.strategy, engine.model_dtype, engine.use_torch_compile) == (
        "fsdp2",
        "fp32",
        False,
    )
    assert dict(engine.mixed_precision) == dict.fromkeys(MIXED, "fp32")
    assert (optimizer.lr, optimizer.lr_warmup_steps, optimizer.clip_grad) == (
        recipe_.learning_rate,
        recipe_.warmup_steps,
        1.0,
    )
    assert list(checkpoint.save_contents) == ["model", "optimizer", "extra"]
    assert (optimizer.lr_scheduler_type, optimizer.min_lr_ratio) == ("cosine", 0.1)
    assert config.data.train_batch_size == recipe_.batch_size
    assert config.data.max_token_len_per_gpu == recipe_.micro_batch_tokens
    assert config.trainer.total_training_steps == recipe_.num_steps
    assert config.trainer.total_epochs == 1
    assert (config.trainer.save_freq, config.trainer.n_gpus_per_node) == (recipe_.save_every, 2)
    assert config.trainer.seed == 11
    assert config.trainer.device == "cpu"
    assert sft("gpu").trainer.device == "cuda"


def test_the_validation_loss_is_measured_at_each_checkpoint_if_there_are_rows() -> None:
    config = sft("cpu", Path("validation.parquet"), save_every=50)
    assert config.data.val_files == "validation.parquet"
    assert (config.trainer.save_freq, config.trainer.test_freq) == (50, 50)
    # verl would iterate over nothing.
    without = sft("cpu")
    assert (without.data.val_files, without.trainer.test_freq) == (None, -1)


def test_on_a_gpu_the_engine_computes_in_16_bits_and_keeps_weights_in_32() -> None:
    from verl.utils.config import omega_conf_to_dataclass

    config = sft("gpu", micro_batch_tokens=24_000)
    engine = omega_conf_to_dataclass(config.engine)
    # Without `mixed_precision` verl's engine takes bf16 for arithmetic and fp32 for reduction.
    assert (engine.strategy, engine.model_dtype, engine.mixed_precision) == ("fsdp2", "fp32", None)
    assert engine.reshard_after_forward is True
    model = config.model
    assert (model.enable_gradient_checkpointing, model.use_remove_padding) == (True, True)
    assert (config.data.use_dynamic_bsz, config.data.max_token_len_per_gpu) == (True, 24_000)


def test_a_cpu_computes_in_the_format_of_the_recipe_and_keeps_weights_in_32_bits() -> None:
    from verl.utils.config import omega_conf_to_dataclass

    formats: dict[Dtype | None, str] = {None: "fp32", "float32": "fp32", "bfloat16": "bf16"}
    for dtype, arithmetic in formats.items():
        part = rl("cpu", dtype).actor_rollout_ref
        actor = omega_conf_to_dataclass(part.actor)
        engines = [
            omega_conf_to_dataclass(sft("cpu", dtype=dtype).engine),
            actor.engine,
            omega_conf_to_dataclass(part.ref.fsdp_config),
        ]
        for engine in engines:
            assert engine.model_dtype == "fp32"
            assert dict(engine.mixed_precision) == {
                "param_dtype": arithmetic,
                "reduce_dtype": "fp32",
                "buffer_dtype": "fp32",
            }
        assert part.rollout.dtype == (dtype or "float32")
    assert rl("gpu").actor_rollout_ref.rollout.dtype == "bfloat16"
    assert rl("gpu", "float32").actor_rollout_ref.rollout.dtype == "float32"


def test_which_engine_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead

    from actors.learner.config import RL_ENGINE, RL_VENDOR
    from actors.learner.rl_engine import SharedPromptEngine
    from actors.learner.sft_trainer import ENGINE, LearnedTokensEngine

    # On a CPU too: see actors.cpu.environment.
    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    monkeypatch.delenv("VERL_ENGINE_VENDOR", raising=False)
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is FSDPEngineWithLMHead
    monkeypatch.setenv("VERL_ENGINE_VENDOR", ENGINE)
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is LearnedTokensEngine
    monkeypatch.setenv("VERL_ENGINE_VENDOR", RL_VENDOR)
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is SharedPromptEngine
    # verl imports the module before it looks for the engine.
    assert rl("cpu").actor_rollout_ref.model.external_lib == RL_ENGINE
    assert SharedPromptEngine.__module__ == RL_ENGINE
    assert rl("gpu").actor_rollout_ref.model.external_lib is None


def test_rollouts_in_one_tree_have_the_scores_and_gradients_that_they_have_apart() -> None:
    import torch
    from tensordict import TensorDict
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from verl.utils import tensordict_utils

    from actors.learner.rl_engine import SharedPromptEngine
    from actors.learner.tree_attention import NAME

    torch.manual_seed(1)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "head_dim": 16}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=64, num_hidden_layers=2, **sizes, **heads))
    model = model.float()
    prompt = [1, 2, 3, 4, 5]
    # Two rollouts of a group begin their answers alike, and 9 9 stands in a reply.
    responses = [[7, 8, 9, 9, 10], [7, 8, 11], [12]]
    masks = [[1, 1, 0, 0, 1], [1, 1, 1], [1]]
    rollouts = [torch.tensor(prompt + one) for one in responses] + [torch.tensor([6, 13, 14])]
    masks = [torch.tensor(one) for one in [*masks, [1]]]
    temperature = 0.5

    def nested(rows: list[Any]) -> Any:
        return torch.nested.as_nested_tensor(rows, layout=torch.jagged)

    batch = TensorDict({"input_ids": nested(rollouts), "loss_mask": nested(masks)}, batch_size=4)
    tensordict_utils.assign_non_tensor(batch, temperature=temperature, calculate_entropy=True)
    engine: Any = object.__new__(SharedPromptEngine)
    inputs, arguments = engine.prepare_model_inputs(batch)
    # 1 2 3 4 5 7 8 9 9 10, then 11, 12, and the other prompt's rollout.
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5, 7, 8, 9, 9, 10, 11, 12, 6, 13, 14]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 5, 0, 1, 2]]
    # What predicts 7 and 12; 8; 9 and 11; 10; 14.
    assert inputs["logits_to_keep"].tolist() == [4, 5, 6, 8, 13]

    weights = [torch.randn(len(one)) for one in rollouts]
    model.set_attn_implementation(NAME)
    output = engine.prepare_model_outputs(model(**inputs, use_cache=False), arguments, batch, None)
    scores, entropies = (output[name].unbind() for name in ("log_probs", "entropy"))

    def gradients() -> dict[str, torch.Tensor]:
        given = {name: one.grad for name, one in model.named_parameters()}
        model.zero_grad()
        return {name: one for name, one in given.items() if one is not None}

    for score, weight in zip(scores, weights, strict=True):
        (score * weight).sum().backward(retain_graph=True)
    found = gradients()

    model.set_attn_implementation("sdpa")
    for ids, mask, weight, score, entropy in zip(
        rollouts, masks, weights, scores, entropies, strict=True
    ):
        logs = (model(ids[None]).logits[0] / temperature).log_softmax(-1)
        is_sampled = torch.cat([torch.zeros(len(ids) - len(mask)), mask])
        # A token's score stands at the place before it.
        told = logs[:-1].gather(1, ids[1:, None])[:, 0]
        wanted = torch.cat([told * is_sampled[1:], torch.zeros(1)])
        assert torch.allclose(score, wanted, atol=1e-5)
        expected = -(logs.exp() * logs).sum(-1)[:-1] * is_sampled[1:]
        assert torch.allclose(entropy[:-1], expected, atol=1e-5)
        (wanted * weight).sum().backward()
    wanted_gradients = gradients()
    assert found.keys() == wanted_gradients.keys()
    for name, one in wanted_gradients.items():
        assert (found[name] - one).norm() <= 1e-4 * one.norm(), name


def test_every_rank_has_as_many_packs() -> None:
    from actors.learner.rl_engine import split

    assert split([[4, 2, 0], [1, 3]], 2) == [[4, 2, 0], [1, 3]]
    assert split([[4, 2, 0], [1, 3]], 4) == [[4], [2], [0], [1, 3]]


def test_trees_are_attended_to_by_an_attention_that_verl_finds(tmp_path: Path) -> None:
    from omegaconf import open_dict
    from transformers import Qwen3Config
    from verl.utils.config import omega_conf_to_dataclass

    Qwen3Config(architectures=["Qwen3ForCausalLM"]).save_pretrained(tmp_path)
    cases: list[tuple[Device, int | None]] = [
        ("cpu", None),
        ("cpu", 512),
        ("gpu", 512),
        ("gpu", None),
    ]
    for device, tree_tokens in cases:
        config = sft(device, tree_tokens=tree_tokens).model
        is_flash = device == "gpu" and tree_tokens is None
        assert ("attn_implementation" in config.override_config) is not is_flash
        with open_dict(config):
            config.path, config.load_tokenizer = str(tmp_path), False
        model = omega_conf_to_dataclass(config)
        name = "flash_attention_2" if is_flash else "mtsql_trees"
        assert model.hf_config._attn_implementation == name


def test_adapters_are_on_every_linear_layer() -> None:
    config = sft("gpu", lora_rank=16, lora_alpha=64).model
    assert (config.lora_rank, config.lora_alpha, config.target_modules) == (16, 64, "all-linear")
    assert sft("gpu").model.lora_rank == 0


def test_our_rows_are_the_dataset_that_verl_makes(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from verl.trainer.sft_trainer import create_sft_dataset

    rows = tmp_path / "rows.parquet"
    row = {"input_ids": [[5, 6, 7]], "position_ids": [[0, 1, 2]], "loss_mask": [[0, 1, 1]]}
    pq.write_table(pa.table(row), rows)
    dataset: Any = create_sft_dataset(str(rows), sft("cpu").data, None, None)
    assert type(dataset).__name__ == "TokenDataset"
    assert dataset[0]["input_ids"].tolist() == [5, 6, 7]
    assert dataset[0]["loss_mask"].tolist() == [0, 1, 1]


def test_rl_lands_where_verl_reads_it() -> None:
    from verl.utils.config import omega_conf_to_dataclass

    config = rl("cpu")
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    # 512 prompt tokens and 320 of response are the recipe's, 16 turns a step too.
    assert (actor.ppo_mini_batch_size, actor.rollout_n) == (16, 5)
    assert (actor.use_kl_loss, actor.kl_loss_coef, actor.loss_agg_mode) == (
        True,
        0.01,
        "token-mean",
    )
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.grad_clip) == (0.2, 0.2, 1.0)
    assert (actor.optim.lr, actor.data_loader_seed) == (1e-4, 11)
    assert (actor.engine.strategy, actor.engine.model_dtype) == ("fsdp2", "fp32")
    assert (rollout.name, rollout.dtype, rollout.n, rollout.seed) == ("vllm_cpu", "float32", 5, 11)
    assert (rollout.prompt_length, rollout.response_length, rollout.max_model_len) == (
        512,
        320,
        832,
    )
    assert (rollout.enable_sleep_mode, rollout.free_cache_engine) == (False, False)
    assert rollout.calculate_log_probs is True
    assert (rollout.agent.num_workers, rollout.agent.default_agent_loop) == (3, "mtsql")
    assert rollout.agent.agent_loop_config_path == "loops.json"
    assert config.algorithm.adv_estimator == "grpo"
    assert config.trainer.v1.trainer_mode == "sync"
    assert rl("gpu").actor_rollout_ref.rollout.name == "vllm"


def test_advantages_lie_in_rows_as_verl_holds_them() -> None:
    from actors.learner.trainer import nested_rows

    # The row in the middle fills verl's batch up: its mask is one 0.
    rows = nested_rows([[1.0, 0.0, 1.1], None, [-1.0, -1.1]], [3, 1, 2])
    assert rows.is_nested
    expected = [[1.0, 0.0, pytest.approx(1.1)], [0.0], [-1.0, pytest.approx(-1.1)]]
    assert [row.tolist() for row in rows.unbind()] == expected
    with pytest.raises(ValueError, match=r"advantages of \[2, 1\] tokens for \[3, 1\]"):
        nested_rows([[1.0, 0.0], None], [3, 1])


def test_a_row_of_the_batch_has_the_key_that_the_recorder_knows() -> None:
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    from actors.learner.recorder import row_key

    worker: Any = AgentLoopWorkerTQ
    module = inspect.getmodule(worker.__ray_metadata__.modified_class)
    assert module is not None
    source = inspect.getsource(module)
    assert 'keys.append(f"{uid}_{session_id}_{i}")' in source
    assert row_key("uid", 3) == "uid_3_0"


def test_what_we_override_and_call_has_these_names() -> None:
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl.trainer.ppo.v1 import PPOTrainerSync
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
    from verl.trainer.sft_trainer import SFTTrainer
    from verl.utils.checkpoint import CheckpointHandler
    from verl.utils.dataset.rl_dataset import collate_fn
    from verl.utils.distributed import (
        initialize_global_process_group,
        initialize_global_process_group_ray,
    )
    from verl.utils.fsdp_utils import get_fsdp_full_state_dict
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    assert parameters(PPOTrainerSync._init_dataloader) == {"self"}
    assert parameters(PPOTrainerSync._compute_old_log_prob) == {"self", "batch", "metrics"}
    assert parameters(PPOTrainerSync._compute_advantage) == {"self", "batch", "metrics"}
    assert parameters(PPOTrainerSync.step) == {"self", "metrics", "timing_raw"}
    assert parameters(PPOTrainerSync.on_step_end) == {"self"}
    assert "poll_interval" in parameters(ReplayBuffer.__init__)
    runner: Any = TaskRunnerV1
    # Ray adds a parameter for tracing.
    assert parameters(runner.__ray_metadata__.modified_class.run) >= {"self", "config"}
    assert parameters(run_ppo) == {"config", "task_runner_class"}
    assert parameters(SFTTrainer.__init__) == {"self", "config"}
    for method in ("_build_dataset", "_build_dataloader", "_build_ckpt_handler", "fit"):
        assert parameters(getattr(SFTTrainer, method)) == {"self"}
    assert parameters(CheckpointHandler.save_checkpoint) == {"self", "step"}
    assert parameters(get_fsdp_full_state_dict) == {"model", "offload_to_cpu", "rank0_only"}
    assert len(parameters(collate_fn)) == 1
    assert parameters(AgentLoopBase.run) == {"self", "sampling_params", "kwargs"}
    assert parameters(RolloutReplicaRegistry.register) == {"name", "loader"}
    assert parameters(initialize_global_process_group) == {"timeout_second"}
    assert parameters(initialize_global_process_group_ray) == {"timeout_second", "backend"}
    source = inspect.getsource(PPOTrainerSync.__mro__[1])
    # Where our advantages take the place of verl's own.
    assert 'fields = ["advantages", "returns"]' in source
    # Names of timings that a step's metrics are read from.
    for name in ("gen", "old_log_prob", "update_actor"):
        assert f'marked_timer("{name}", timing_raw' in source
    assert 'marked_timer("update_weights", self.timing_raw' in inspect.getsource(PPOTrainerSync)


ON_CPU = """
import verl
from actors import plugin
from actors.cpu import platform as platform_cpu
assert plugin.LOADED
plugin.require()
from verl.plugin.platform import get_platform
platform = get_platform()
assert type(platform) is platform_cpu.PlatformCPU, platform
assert platform.device_name == "cpu", platform.device_name
from verl.utils.device import get_device_name, get_nccl_backend
assert (get_device_name(), get_nccl_backend()) == ("cpu", "gloo")
from verl.workers.rollout.base import get_rollout_class, _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplicaRegistry
assert ("vllm_cpu", "async") in _ROLLOUT_REGISTRY
assert "vllm_cpu" in RolloutReplicaRegistry._registry
# What verl's modules bound by name is ours: the plugin came before them.
import verl.workers.engine_workers as workers
assert workers.initialize_global_process_group_ray is platform_cpu._start_group
import verl.workers.engine.fsdp.transformer_impl as engine
assert engine.CPUOffloadPolicy(pin_memory=True) is None
# verl finds a distribution called vllm, and the methods that our subclasses replace are there.
import inspect
from verl.workers.rollout.vllm_rollout import vllm_rollout
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import (
    BucketedWeightReceiver,
    BucketedWeightSender,
)
assert vllm_rollout.BucketedWeightSender is BucketedWeightSender
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica
for function, names in (
    (vLLMHttpServer._get_worker_extension_cls, ["self"]),
    (vLLMReplica._get_server_name_prefix, ["self"]),
    (BucketedWeightReceiver.receive_weights, ["self", "on_bucket_received"]),
    (BucketedWeightSender._init_socket, ["self"]),
    (
        vllm_rollout.ServerAdapter._execute_method,
        ["self", "method", "non_block", "timeout", "args", "kwargs"],
    ),
):
    assert list(inspect.signature(function).parameters) == names, function
"""
ELSEWHERE = """
import verl
from verl.plugin.platform import PlatformRegistry
from verl.workers.rollout.base import _ROLLOUT_REGISTRY
import sys
assert PlatformRegistry.get("cpu") is None
assert ("vllm_cpu", "async") not in _ROLLOUT_REGISTRY
assert "actors.cpu.platform" not in sys.modules
from actors import plugin
assert plugin.LOADED
plugin.require()
"""


@pytest.mark.parametrize(("platform", "program"), [("cpu", ON_CPU), (None, ELSEWHERE)])
def test_the_plugin_registers_on_the_cpu_and_nowhere_else(
    platform: str | None, program: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if "VERL" not in name}
    if platform is not None:
        environment |= {"VERL_PLATFORM": platform, "VERL_ENGINE_DEVICE": "cuda"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
