"""verl's link from learner to vLLM on the CPU; learner processes import it.

Its socket is the run's own, and it does not wait for a vLLM that has failed: verl's sender would
wait for ever, without a word.
"""

from typing import Any, cast

from verl.workers.rollout.vllm_rollout import vllm_rollout
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from actors.cpu.vllm import private_handle
from actors.cpu.weights import WatchedSocket


class WatchedSender(BucketedWeightSender):
    """verl's sender over a watched socket."""

    receiving: Any = None
    """Of the transfer that this process begins next."""

    def _init_socket(self) -> None:
        super()._init_socket()
        self.socket = WatchedSocket(self.socket, self.receiving)


cast(Any, vllm_rollout).BucketedWeightSender = WatchedSender


class CPUServerAdapter(ServerAdapter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - verl's own objects
        super().__init__(*args, **kwargs)
        self.zmq_handle = private_handle(self.zmq_handle)

    async def _execute_method(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        result = await super()._execute_method(method, *args, **kwargs)
        if method == "update_weights_from_ipc":
            WatchedSender.receiving = result
        return result
