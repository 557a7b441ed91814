"""One trajectory in tokens: the loop that RL, evaluation and sampling share."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.rollout.codec import Codec
from envs.turn import TurnEnv
from mtsql.config.environment import EnvironmentConfig
from mtsql.trajectory.records import Ending, Fault, FaultKind, Trajectory
from mtsql.trajectory.tokens import TokenSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One model message in tokens, its end included when the model wrote it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of each sampled token, natural logarithm; empty when they were not asked for."""


class ModelFault(Exception):
    """The model server failed: nobody's verdict, and the trajectory's end."""


class Sample(Protocol):
    """A vLLM engine, verl's client and a scripted fake all fit."""

    async def __call__(self, prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled: ...


class _BrokenTurn(Exception):
    """A part of the machinery failed in the middle of a turn."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(kind=kind, message=message)


class _Tokens:
    """A sequence as it grows; the mask is made with the tokens."""

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.response_ids: list[int] = []
        self._mask: list[int] = []
        self._logprobs: list[float] = []
        self._step_ends: list[int] = []

    def add_message(self, ids: Sequence[int], logprobs: Sequence[float] = ()) -> None:
        """What the model wrote; its last token ends a step."""
        self.response_ids += ids
        self._mask += [1] * len(ids)
        self._logprobs += logprobs
        self._step_ends.append(len(self.response_ids) - 1)

    def add_reply(self, ids: Sequence[int]) -> None:
        self.response_ids += ids
        self._mask += [0] * len(ids)
        if self._logprobs:
            self._logprobs += [0.0] * len(ids)

    def sequence(self) -> TokenSequence:
        return TokenSequence(
            prompt_ids=self.prompt_ids,
            response_ids=tuple(self.response_ids),
            response_mask=tuple(self._mask),
            step_ends=tuple(self._step_ends),
            logprobs=tuple(self._logprobs),
        )


async def play(
    env: TurnEnv, codec: Codec, sample: Sample, config: EnvironmentConfig
) -> tuple[Trajectory, TokenSequence]:
    """Play one turn to its end.

    The trajectory and the sequence have the same number of steps, but for a message whose reply did
    not come in time: it is in the sequence only. A prompt beyond `max_prompt_tokens` gives a
    trajectory without steps that ends as MAX_TOKENS. A call beyond `call_timeout_s`, or a model
    server that fails, gives an INFRA_FAULT.
    """
    tokens = _Tokens(codec.prompt(await env.start(codec.call_format)))
    try:
        truncated = await _take_steps(env, codec, sample, config, tokens)
    except _BrokenTurn as broken:
        trajectory = await env.finish(fault=broken.fault)
    else:
        trajectory = await env.finish(truncated=truncated)
    return trajectory, tokens.sequence()


async def _take_steps(
    env: TurnEnv, codec: Codec, sample: Sample, config: EnvironmentConfig, tokens: _Tokens
) -> Ending | None:
    """Go on until the turn ends (None) or its tokens do (MAX_TOKENS).

    Raises _BrokenTurn.
    """
    if len(tokens.prompt_ids) > config.max_prompt_tokens:
        return Ending.MAX_TOKENS
    while True:
        room = config.max_response_tokens - len(tokens.response_ids)
        sampled = await _sampled(
            sample,
            [*tokens.prompt_ids, *tokens.response_ids],
            max_tokens=min(room, config.max_step_tokens),
            timeout_s=config.call_timeout_s,
        )
        tokens.add_message(sampled.token_ids, sampled.logprobs)
        room -= len(sampled.token_ids)
        observation = await _observation(
            env,
            codec.message(sampled.token_ids),
            tokens_left=room,
            timeout_s=config.call_timeout_s,
        )
        if observation is None:
            return None
        reply = codec.reply(observation, is_closed=sampled.token_ids[-1] == codec.end_of_turn)
        # The reply must leave room for at least one token of the next message.
        if len(reply) >= room:
            return Ending.MAX_TOKENS
        tokens.add_reply(reply)


async def _sampled(
    sample: Sample, prompt_ids: Sequence[int], *, max_tokens: int, timeout_s: float
) -> Sampled:
    """The model's next message, of one token at least. Raises _BrokenTurn."""
    try:
        async with asyncio.timeout(timeout_s):
            sampled = await sample(prompt_ids, max_tokens=max_tokens)
    except TimeoutError:
        message = f"the model gave no message in {timeout_s:g} s"
        raise _BrokenTurn(FaultKind.MODEL_SERVER, message) from None
    except ModelFault as error:
        raise _BrokenTurn(FaultKind.MODEL_SERVER, str(error)) from error
    if not sampled.token_ids:
        raise _BrokenTurn(FaultKind.MODEL_SERVER, "the model server gave no token")
    return sampled


async def _observation(
    env: TurnEnv, message: str, *, tokens_left: int, timeout_s: float
) -> str | None:
    """The environment's reply; None when the turn has ended. Raises _BrokenTurn."""
    try:
        async with asyncio.timeout(timeout_s):
            return (await env.step(message, tokens_left=tokens_left)).observation
    except TimeoutError:
        text = f"the environment gave no reply in {timeout_s:g} s"
        raise _BrokenTurn(FaultKind.ENVIRONMENT_TIMEOUT, text) from None


def encode(trajectory: Trajectory, prompt_ids: Sequence[int], codec: Codec) -> TokenSequence:
    """A trajectory that was made as text (scripted, or from elsewhere) as a token sequence."""
    tokens = _Tokens(prompt_ids)
    for step in trajectory.steps:
        tokens.add_message(codec.written(step.message))
        if step.observation is not None:
            tokens.add_reply(codec.reply(step.observation, is_closed=True))
    return tokens.sequence()
