"""What kind of machine this is, and the environment variables that its processes need."""

import os
import shutil
import subprocess
import uuid

from mtsql.config.run import RunConfig
from mtsql.errors import MachineError

RUN_ID = "MTSQL_RUN_ID"
"""Names what a stage's processes share on this machine; every process of the stage inherits it."""


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers here; asks no torch, so that commands stay instant."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        return (
            subprocess.run([tool, "-L"], capture_output=True, timeout=20, check=False).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def device_of(config: RunConfig) -> str:
    """`cpu` or `gpu`, as the recipe asks or as the machine is.

    Raises:
        MachineError: the recipe asks for a GPU of a machine that starts its own Ray and has none.
    """
    wanted = config.machine.device
    if wanted == "auto":
        return "gpu" if has_gpu() else "cpu"
    if wanted == "gpu" and config.machine.ray_address is None and not has_gpu():
        raise MachineError(
            "machine.device is gpu, but no NVIDIA GPU answers here: set machine.device=cpu, or "
            "join a cluster with machine.ray_address=auto"
        )
    return wanted


def process_environment(config: RunConfig, device: str) -> dict[str, str]:
    """The variables of a stage's process; Ray's workers inherit them."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if device == "cpu":
        threads = str(config.machine.learner_threads)
        environment |= {
            "VERL_PLATFORM": "cpu",
            RUN_ID: uuid.uuid4().hex,
            # verl registers its FSDP engine for cuda and npu only; this is its own override.
            "VERL_ENGINE_DEVICE": "cuda",
            # Waiting threads must not spin: learner and rollout share the cores.
            "OMP_WAIT_POLICY": "PASSIVE",
            # Keep freed buffers: glibc would return every large one to the kernel, and on a virtual
            # machine the page faults of the next one cost more than the arithmetic on it.
            "MALLOC_MMAP_THRESHOLD_": "536870912",
            "MALLOC_TRIM_THRESHOLD_": "1073741824",
            "OMP_NUM_THREADS": threads,
            "VLLM_CPU_KVCACHE_SPACE": str(config.machine.rollout_cache_gb),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_TARGET_DEVICE": "cpu",
            # The engine keeps its one worker in its own process: a process start less.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    return environment
