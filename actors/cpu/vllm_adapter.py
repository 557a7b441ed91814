"""verl's link from learner to vLLM on the CPU; learner processes import it.

Its socket is the run's own, and it does not wait for a vLLM that has failed: verl's sender would
wait for ever, without a word.
"""

import time
from typing import Any

import ray
import zmq
from verl.workers.rollout.vllm_rollout import vllm_rollout
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from actors.cpu.vllm import private_handle

LIMIT_S = 600.0
"""For one answer of vLLM, which copies a bucket; loading the weights is not part of it."""
_POLL_MS = 500


class WatchedSocket:
    """A socket that looks, while it waits, whether the other side still works.

    Args:
        receiving: vLLM's call that receives the weights; None where another rank waits for it.
    """

    def __init__(
        self,
        socket: Any,  # noqa: ANN401 - zmq's sockets are generic in a private type
        receiving: Any,  # noqa: ANN401 - a Ray ObjectRef
        *,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._socket = socket
        self._receiving = receiving
        self._limit_s = limit_s

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the socket's own
        return getattr(self._socket, name)

    def send_pyobj(self, value: object) -> None:
        self._wait_for(zmq.POLLOUT)
        self._socket.send_pyobj(value)

    def recv(self) -> bytes:
        self._wait_for(zmq.POLLIN)
        return self._socket.recv()

    def _wait_for(self, event: int) -> None:
        """
        Raises:
            RuntimeError: vLLM has stopped receiving, or does not answer.
            Exception: vLLM's own, if it has failed.
        """
        end_s = time.monotonic() + self._limit_s
        while not self._socket.poll(_POLL_MS, event):
            if self._receiving is not None and ray.wait([self._receiving], timeout=0)[0]:
                ray.get(self._receiving)
                raise RuntimeError("vLLM stopped receiving weights before the last ones were sent")
            if time.monotonic() > end_s:
                raise RuntimeError(f"vLLM received no weights for {self._limit_s:.0f} s")


class WatchedSender(BucketedWeightSender):
    """verl's sender over a watched socket."""

    receiving: Any = None
    """Of the transfer that this process begins next."""

    def _init_socket(self) -> None:
        super()._init_socket()
        self.socket = WatchedSocket(self.socket, self.receiving)


vllm_rollout.BucketedWeightSender = WatchedSender


class CPUServerAdapter(ServerAdapter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - verl's own objects
        super().__init__(*args, **kwargs)
        self.zmq_handle = private_handle(self.zmq_handle)

    async def _execute_method(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        result = await super()._execute_method(method, *args, **kwargs)
        if method == "update_weights_from_ipc":
            WatchedSender.receiving = result
        return result
