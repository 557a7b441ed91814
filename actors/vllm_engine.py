"""vLLM in this process, for evaluation and sampling: tokens in, tokens out."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from actors.rollout import Sampled
from mtsql.config import RunConfig


class Engine:
    """A `Sample` over one vLLM engine.

    Args:
        temperature: 0 decodes greedily.
    """

    def __init__(self, llm: AsyncLLM, *, temperature: float, seed: int) -> None:
        self._llm = llm
        self._temperature = temperature
        self._seed = seed
        self.num_tokens = 0

    async def __call__(self, prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
        params = SamplingParams(
            temperature=self._temperature,
            max_tokens=max_tokens,
            seed=self._seed if self._temperature > 0 else None,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        final = None
        async for output in self._llm.generate(
            {"prompt_token_ids": list(prompt_ids)}, params, request_id=uuid.uuid4().hex
        ):
            final = output
        token_ids = tuple(final.outputs[0].token_ids) if final is not None else ()
        self.num_tokens += len(token_ids)
        return Sampled(token_ids=token_ids, logprobs=())


@asynccontextmanager
async def engine(
    model: Path, config: RunConfig, device: str, *, temperature: float = 0.0
) -> AsyncIterator[Engine]:
    """Start vLLM on a model folder and stop it, with its processes, at the end."""
    environment, machine = config.environment, config.machine
    arguments = AsyncEngineArgs(
        model=str(model),
        dtype="float32" if device == "cpu" else machine.dtype,
        max_model_len=environment.max_prompt_tokens + environment.max_response_tokens,
        max_num_seqs=machine.max_running,
        max_num_batched_tokens=4096 if device == "cpu" else None,
        tensor_parallel_size=machine.tensor_parallel,
        gpu_memory_utilization=machine.rollout_memory_share,
        enforce_eager=device == "cpu",
        enable_prefix_caching=True,
        disable_log_stats=True,
        seed=config.seed,
    )
    llm = AsyncLLM.from_engine_args(arguments)
    try:
        yield Engine(llm, temperature=temperature, seed=config.seed)
    finally:
        llm.shutdown()
