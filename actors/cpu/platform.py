"""verl's platform interface for a machine without a GPU.

verl asks a platform for device, memory, random state and collective backend. Here each learner rank
is one process on the CPU, the collective backend is gloo, and Ray is told of logical "GPUs", one
for each rank, because verl's resource pools count nothing else.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

import torch
import verl.utils.distributed as verl_distributed
import verl.utils.fsdp_utils as verl_fsdp_utils
from verl.plugin.platform import PlatformBase, PlatformRegistry


class PlatformCPU(PlatformBase):
    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return torch.cpu

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # never detected on its own: the run asks for it with VERL_PLATFORM=cpu

    def current_device(self) -> Any:  # noqa: ANN401 - verl says int; an int would mean cuda:0
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        """There is one device."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Nothing runs asynchronously."""

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """The settings speak of CUDA's allocator."""

    def empty_cache(self) -> None:
        """There is no cache of device memory."""

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        """No profiler."""

    def profiler_stop(self) -> None:
        """No profiler."""

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_resource_options(self, num_gpus: float) -> dict[str, Any]:
        return {"num_gpus": num_gpus}

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights travel to vLLM through shared memory

    def cudart(self) -> None:
        return None


def _memory_functions() -> dict[str, Callable[..., Any]]:
    """What verl calls on `torch.<device>` and `torch.cpu` lacks."""
    return {
        "empty_cache": lambda *_, **__: None,
        "ipc_collect": lambda *_, **__: None,
        "memory_allocated": lambda *_, **__: 0,
        "memory_reserved": lambda *_, **__: 0,
        "max_memory_allocated": lambda *_, **__: 0,
        "max_memory_reserved": lambda *_, **__: 0,
        "mem_get_info": lambda *_, **__: (0, 0),
        "reset_peak_memory_stats": lambda *_, **__: None,
        "reset_accumulated_memory_stats": lambda *_, **__: None,
        "get_rng_state": lambda *_, **__: torch.get_rng_state(),
        "set_rng_state": lambda state, *_, **__: torch.set_rng_state(state),
        "get_device_name": lambda *_, **__: "CPU",
        "manual_seed": torch.manual_seed,
        "manual_seed_all": torch.manual_seed,
    }


def _start_group(timeout_second: int | None = None, backend: str | None = None) -> None:
    """verl asks for "cpu:gloo,cpu:gloo" here, which torch refuses as a duplicate."""
    if torch.distributed.is_initialized():
        return
    torch.distributed.init_process_group(
        backend="cpu:gloo",
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        timeout=timedelta(seconds=timeout_second) if timeout_second else None,
        init_method=os.environ.get("DIST_INIT_METHOD"),
    )


def _start_group_torchrun(timeout_second: int = 36000) -> tuple[int, int, int]:
    _start_group(timeout_second)
    return tuple(int(os.environ[name]) for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"))  # type: ignore[return-value]


def register() -> None:
    """Make verl's `cpu` platform known in this process, before verl's engines are imported."""
    for name, function in _memory_functions().items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
    verl_distributed.initialize_global_process_group_ray = _start_group
    verl_distributed.initialize_global_process_group = _start_group_torchrun
    # The reference model asks for CPU offload with pinned memory, which needs an accelerator.
    verl_fsdp_utils.CPUOffloadPolicy = (  # pyright: ignore[reportPrivateImportUsage]
        lambda pin_memory=True: None
    )
