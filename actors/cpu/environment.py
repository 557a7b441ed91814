"""The environment variables of the CPU build: what verl and vLLM must find set in every process."""

import uuid

RUN_ID = "MTSQL_RUN_ID"
"""Names what a stage's processes share on this machine; every process of the stage inherits it."""


def cpu_environment(*, learner_threads: int, cache_gb: int) -> dict[str, str]:
    """The variables of a stage's processes on a machine without GPUs.

    Args:
        learner_threads: of the learner, which its ranks share, and of vLLM's engine.
        cache_gb: vLLM's key-value cache.
    """
    return {
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
        "OMP_NUM_THREADS": str(learner_threads),
        "VLLM_CPU_KVCACHE_SPACE": str(cache_gb),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_TARGET_DEVICE": "cpu",
        # The engine keeps its one worker in its own process: a process start less.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
