"""One trajectory in tokens: the loop that RL, evaluation and sampling share."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.rollout.codec import Codec
from envs.turn import TurnEnv
from mtsql.config.environment import EnvironmentConfig
from mtsql.trajectory.records import Ending, Trajectory
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


async def play(
    env: TurnEnv, codec: Codec, sample: Sample, config: EnvironmentConfig
) -> tuple[Trajectory, TokenSequence]:
    """Play one turn to its end.

    The trajectory and the sequence have the same number of steps. A prompt beyond
    `max_prompt_tokens` gives a trajectory without steps that ends as MAX_TOKENS. A call beyond
    `call_timeout_s`, or a model server that fails, gives an INFRA_FAULT.
    """
    prompt_ids = codec.prompt(await env.start(codec.call_format))
    response_ids: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    step_ends: list[int] = []
    truncated: Ending | None = None
    fault = ""
    if len(prompt_ids) > config.max_prompt_tokens:
        truncated = Ending.MAX_TOKENS
    while truncated is None:
        room = config.max_response_tokens - len(response_ids)
        try:
            async with asyncio.timeout(config.call_timeout_s):
                sampled = await sample(
                    [*prompt_ids, *response_ids], max_tokens=min(room, config.max_step_tokens)
                )
        except TimeoutError:
            truncated = Ending.INFRA_FAULT
            fault = f"the model gave no message in {config.call_timeout_s:g} s"
            break
        except ModelFault as error:
            truncated, fault = Ending.INFRA_FAULT, str(error)
            break
        if not sampled.token_ids:
            truncated, fault = Ending.INFRA_FAULT, "the model server gave no token"
            break
        response_ids += sampled.token_ids
        mask += [1] * len(sampled.token_ids)
        logprobs += sampled.logprobs
        step_ends.append(len(response_ids) - 1)
        try:
            async with asyncio.timeout(config.call_timeout_s):
                result = await env.step(
                    codec.message(sampled.token_ids),
                    tokens_left=config.max_response_tokens - len(response_ids),
                )
        except TimeoutError:
            truncated = Ending.INFRA_FAULT
            fault = f"the environment gave no reply in {config.call_timeout_s:g} s"
            break
        if result.observation is None:
            break
        reply = codec.reply(
            result.observation, is_closed=sampled.token_ids[-1] == codec.end_of_turn
        )
        # The reply must leave room for at least one token of the next message.
        if len(response_ids) + len(reply) >= config.max_response_tokens:
            truncated = Ending.MAX_TOKENS
            break
        response_ids += reply
        mask += [0] * len(reply)
        if sampled.logprobs:
            logprobs += [0.0] * len(reply)
    trajectory = await env.finish(truncated=truncated, fault=fault)
    sequence = TokenSequence(
        prompt_ids=tuple(prompt_ids),
        response_ids=tuple(response_ids),
        response_mask=tuple(mask),
        logprobs=tuple(logprobs),
        step_ends=tuple(step_ends),
    )
    return trajectory, sequence


def encode(trajectory: Trajectory, prompt_ids: Sequence[int], codec: Codec) -> TokenSequence:
    """A trajectory that was made as text (scripted, or from elsewhere) as a token sequence."""
    response_ids: list[int] = []
    mask: list[int] = []
    step_ends: list[int] = []
    for step in trajectory.steps:
        message = codec.written(step.message)
        response_ids += message
        mask += [1] * len(message)
        step_ends.append(len(response_ids) - 1)
        if step.observation is not None:
            reply = codec.reply(step.observation, is_closed=True)
            response_ids += reply
            mask += [0] * len(reply)
    return TokenSequence(
        prompt_ids=tuple(prompt_ids),
        response_ids=tuple(response_ids),
        response_mask=tuple(mask),
        logprobs=(),
        step_ends=tuple(step_ends),
    )
