"""What kind of machine this is, and the environment variables that its processes need."""

import os
import shutil
import subprocess

from actors.cpu.environment import cpu_environment
from mtsql.config.machine import Device, multiplies_bfloat16
from mtsql.config.run import RunConfig
from mtsql.errors import MachineError


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


def device_of(config: RunConfig) -> Device:
    """`cpu` or `gpu`, as the recipe asks or as the machine is.

    Raises:
        MachineError: the recipe asks for a GPU, and this machine starts its own Ray and has no GPU;
            or it asks for a number format that this machine's CPU has no instructions for.
    """
    device = _device_of(config)
    if device == "cpu" and config.machine.dtype == "bfloat16" and not multiplies_bfloat16():
        raise MachineError(
            "machine.dtype is bfloat16, but this CPU has no instructions for it (AVX-512) and "
            "would be many times slower than with float32: set machine.dtype=auto"
        )
    return device


def _device_of(config: RunConfig) -> Device:
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
        environment |= cpu_environment(
            learner_threads=config.machine.learner_threads,
            cache_gb=config.machine.rollout_cache_gb,
        )
    return environment
