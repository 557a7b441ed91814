"""The classes that `vllm_cpu` plugs into verl; imported only where vLLM runs."""

from typing import Any

import ray
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica


class CPUServer(vLLMHttpServer):
    def _get_worker_extension_cls(self) -> str:
        return "actors.cpu.vllm_worker.CPUWorkerExtension"


class CPUReplica(vLLMReplica):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - verl's own objects
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(CPUServer)

    def _get_server_name_prefix(self) -> str:
        return "vllm_cpu_"
