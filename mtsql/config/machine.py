"""Where a run runs, and with how much of it."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
)

from mtsql.config.section import Section

Device = Literal["cpu", "gpu"]
"""What a run computes on."""
Dtype = Literal["float32", "bfloat16"]
"""A number format."""


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions with which torch multiplies bfloat16.

    Without them (AVX-512 on x86, BF16 on ARM) it is 10 to 70 times as slow as float32.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    words = set(text.split())
    return {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= words or "bf16" in words


class MachineConfig(Section):
    """Where it runs."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto`: a GPU if there is one."""
    num_nodes: PositiveInt = 1
    """Machines of the Ray cluster that learn."""
    gpus_per_node: PositiveInt = 1
    """On a CPU machine: learner ranks."""
    learner_threads: PositiveInt = 2
    """On a CPU machine: threads of the learner, which its ranks share, and of vLLM's engine."""
    dtype: Dtype | Literal["auto"] | None = None
    """Number format in which vLLM and, on a CPU, the learner compute; a GPU's learner takes
    bfloat16. Weights and optimizer states are float32 for either. None: bfloat16 on a GPU, float32
    on a CPU. `auto`: bfloat16 on a CPU, too, if it has instructions for it (AVX-512), which pays
    from some 100 million parameters on; log-probabilities of learner and vLLM then agree to about
    0.01 only."""
    rollout_memory_share: PositiveFloat = Field(default=0.6, le=1)
    """Share of a GPU's memory for vLLM's weights and cache."""
    rollout_cache_gb: PositiveInt = 1
    """vLLM's key-value cache on a CPU machine."""
    max_running: PositiveInt = 128
    """Sequences that one vLLM replica decodes together."""
    tensor_parallel: PositiveInt = 1
    """GPUs that one vLLM replica takes; a divisor of gpus_per_node."""
    agent_workers: PositiveInt = 1
    """Ray actors that play trajectories."""
    ray_address: str | None = None
    """None starts a local Ray; `auto` joins the running cluster (`ray job submit`)."""

    def dtype_on(self, device: Device) -> Dtype:
        """The number format that vLLM computes in."""
        if self.dtype == "auto":
            return "bfloat16" if device == "gpu" or multiplies_bfloat16() else "float32"
        return self.dtype or ("float32" if device == "cpu" else "bfloat16")
