"""verl's link from learner to vLLM, with a socket of the run's own; learner processes import it."""

from typing import Any

from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from actors.cpu.vllm import private_handle


class CPUServerAdapter(ServerAdapter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - verl's own objects
        super().__init__(*args, **kwargs)
        self.zmq_handle = private_handle(self.zmq_handle)
