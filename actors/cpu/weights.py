"""Weights on their way from learner to vLLM: how large the buffer is, and how long one waits."""

import time
from math import ceil, prod
from pathlib import Path
from typing import Any

import ray
import zmq
from safetensors import safe_open

MIN_BUCKET_MB = 64
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


def bucket_mb(model: Path) -> int:
    """MiB of the buffer by which weights go to vLLM: no tensor, in 32 bits, may be larger.

    verl's default of 2 GB would be taken from /dev/shm.

    Args:
        model: Hugging Face folder.
    """
    shapes = [shape for file in model.glob("*.safetensors") for shape in _shapes(file)]
    largest = max((prod(shape) for shape in shapes), default=0) * 4
    return max(MIN_BUCKET_MB, ceil(largest / (1 << 20)))


def _shapes(file: Path) -> list[list[int]]:
    """Of the tensors in a safetensors file, from its header alone."""
    with safe_open(file, framework="pt") as tensors:
        return [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118 - no mapping
