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


class WholeReceiver(bucketed_weight_transfer.BucketedWeightReceiver):
    """Hands out all weights at once, as copies, when the last bucket has come.

    vLLM wants a tied embedding and its head in the same call, and they may lie in different
    buckets. Views into shared memory would outlive its closing, also in the traceback of an error;
    so nothing that can fail happens before it is closed.
    """

    def receive_weights(self, on_bucket_received: Callable[[NamedWeights, bool], None]) -> None:
        whole: NamedWeights = []

        def keep(weights: NamedWeights, _is_last: bool) -> None:
            whole.extend((name, weight.clone()) for name, weight in weights)

        super().receive_weights(keep)
        on_bucket_received(whole, True)


vllm_layers.dispatch_cpu_unquantized_gemm = _plain_linear
bucketed_weight_transfer.BucketedWeightReceiver = WholeReceiver


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """verl's extension; importing this module has already made the weights replaceable."""

    def _get_zmq_handle(self) -> str:
        return private_handle(super()._get_zmq_handle())
