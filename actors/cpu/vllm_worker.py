"""vLLM's worker on the CPU with weights that can be replaced; imported in vLLM's process."""

from collections.abc import Callable

import torch
import vllm.model_executor.layers.utils as vllm_layers
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from actors.cpu.vllm import private_handle

NamedWeights = list[tuple[str, torch.Tensor]]


def _plain_linear(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear  # pyright: ignore[reportArgumentType]


class CopyingReceiver(bucketed_weight_transfer.BucketedWeightReceiver):
    """Hands out copies: views into shared memory would outlive its closing."""

    def receive_weights(self, on_bucket_received: Callable[[NamedWeights, bool], None]) -> None:
        def copy_first(weights: NamedWeights, is_last: bool) -> None:
            on_bucket_received([(name, weight.clone()) for name, weight in weights], is_last)

        super().receive_weights(copy_first)


vllm_layers.dispatch_cpu_unquantized_gemm = _plain_linear
bucketed_weight_transfer.BucketedWeightReceiver = CopyingReceiver


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """verl's extension; importing this module has already made the weights replaceable."""

    def _get_zmq_handle(self) -> str:
        return private_handle(super()._get_zmq_handle())
