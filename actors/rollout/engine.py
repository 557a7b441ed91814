"""vLLM for evaluation and sampling, its core in a process of its own: tokens in, tokens out."""

import itertools
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from actors.rollout.codec import model_codec
from actors.rollout.play import ModelFault, Sampled
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.garbage import long_lived_objects

logger = logging.getLogger(__name__)


class EngineDiedError(Exception):
    """vLLM's process is gone, and with it all that was in flight; nothing can be sampled."""


class Engine:
    """A `Sample` over one vLLM engine.

    Args:
        temperature: 0 decodes greedily.
        end_of_turn: what closes a message in the model's chat template; it need not be among the
            ids at which vLLM stops by itself.
    """

    def __init__(self, llm: AsyncLLM, *, temperature: float, end_of_turn: int) -> None:
        self._llm = llm
        self._end_of_turn = end_of_turn
        self._temperature = temperature
        self._numbers = itertools.count()
        self.num_tokens = 0

    async def __call__(
        self, prompt_ids: Sequence[int], *, max_tokens: int, seed: int | None = None
    ) -> Sampled:
        """Sample one message.

        Args:
            seed: of this message's own random numbers; None draws from the engine's, which all
                requests share. Greedy decoding needs none.

        Raises:
            ModelFault: this request failed; another may succeed.
            EngineDiedError: none will.
        """
        params = sampling_params(self._temperature, max_tokens, seed, self._end_of_turn)
        final = None
        try:
            # A prompt of this type is not rendered again, in a thread, by vLLM.
            async for output in self._llm.generate(
                tokens_input(list(prompt_ids)), params, request_id=str(next(self._numbers))
            ):
                final = output
        except EngineDeadError as error:
            logger.error("vLLM's engine died", exc_info=error)
            raise EngineDiedError(
                "vLLM's engine died: see what it said above, in the log"
            ) from error
        except EngineGenerateError as error:
            logger.warning("vLLM failed a request", exc_info=error)
            raise ModelFault(f"vLLM failed: {error.__cause__ or error}") from error
        token_ids = tuple(final.outputs[0].token_ids) if final is not None else ()
        self.num_tokens += len(token_ids)
        return Sampled(token_ids=token_ids, logprobs=())

    async def reset_prefix_cache(self) -> None:
        """Forget all prompts, so that what follows is measured from a cold start."""
        await self._llm.reset_prefix_cache()


def sampling_params(
    temperature: float, max_tokens: int, seed: int | None, end_of_turn: int | None = None
) -> SamplingParams:
    return SamplingParams(
        stop_token_ids=None if end_of_turn is None else [end_of_turn],
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed if temperature > 0 else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        # Made for one request: vLLM need not copy it deeply.
        skip_clone=True,
    )


def engine_arguments(model: Path, config: RunConfig, device: Device) -> Mapping[str, Any]:
    """What vLLM is started with, under the names of its `EngineArgs`."""
    environment, machine = config.environment, config.machine
    max_tokens = environment.max_prompt_tokens + environment.max_response_tokens
    return {
        "model": str(model),
        "dtype": machine.dtype_on(device),
        "max_model_len": max_tokens,
        "max_num_seqs": machine.max_running,
        "max_num_batched_tokens": max(4096, max_tokens) if device == "cpu" else None,
        # A prompt cut by the limit above rewinds its request's random numbers, which vLLM's CPU
        # build cannot: its engine would die of the first seeded request.
        "enable_chunked_prefill": device != "cpu",
        "tensor_parallel_size": machine.tensor_parallel,
        "gpu_memory_utilization": machine.rollout_memory_share,
        "enforce_eager": device == "cpu",
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "seed": config.seed,
    }


class _QuietLLM(AsyncLLM):
    """`engine` shuts it down. vLLM's own finalizer would do so again at the interpreter's end, fail
    there, and so put its error behind the one that a log ends with."""

    def __del__(self) -> None:
        pass


@asynccontextmanager
async def engine(
    model: Path, config: RunConfig, device: Device, *, temperature: float = 0.0
) -> AsyncIterator[Engine]:
    """Start vLLM on a model folder and stop it, with its processes, at the end."""
    arguments = AsyncEngineArgs(**engine_arguments(model, config, device))
    end_of_turn = model_codec(model, config).end_of_turn
    logger.info("vLLM starts", extra={"model": model, "device": device})
    llm = _QuietLLM.from_engine_args(arguments)
    logger.info("vLLM is up", extra={"model": model})
    with long_lived_objects():  # torch, transformers and vLLM
        try:
            yield Engine(llm, temperature=temperature, end_of_turn=end_of_turn)
        finally:
            llm.shutdown()
