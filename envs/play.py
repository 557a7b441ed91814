"""Play a turn to its end with any policy that maps messages to a message."""

from collections.abc import Sequence
from typing import Protocol

from envs.turn import TurnEnv
from mtsql.dialogue import Message, PastTurn, TurnSpec
from mtsql.protocol import HERMES, CallFormat
from mtsql.trajectory.records import Ending, Fault, FaultKind, Trajectory


class Generate(Protocol):
    """A policy: a vLLM actor, an HTTP client and a scripted one all fit.

    Raises:
        OutOfTokens: the token limit came before the message's end.
        GenerationFault: the machinery failed; the trajectory stays unscored.
    """

    async def __call__(self, messages: Sequence[Message]) -> str: ...


class OutOfTokens(Exception):
    """The policy has no token left for a message."""


class GenerationFault(Exception):
    """The policy's machinery failed; the text says how."""


async def collect(env: TurnEnv, generate: Generate, call_format: CallFormat = HERMES) -> Trajectory:
    """Play one turn to its end and return the record.

    Args:
        call_format: how the policy writes a tool call.
    """
    messages = await env.start(call_format)
    while True:
        try:
            message = await generate(messages)
        except OutOfTokens:
            return await env.finish(truncated=Ending.MAX_TOKENS)
        except GenerationFault as error:
            message = str(error) or "generation failed"
            return await env.finish(fault=Fault(kind=FaultKind.MODEL_SERVER, message=message))
        result = await env.step(message)
        if result.observation is None:
            return await env.finish()
        messages = [
            *messages,
            {"role": "assistant", "content": message},
            {"role": "tool", "content": result.observation},
        ]


def remembered(spec: TurnSpec, trajectory: Trajectory) -> PastTurn:
    """The turn as predicted history holds it, with the agent's own SQL; empty if it gave none."""
    answer = trajectory.proposals[-1].sql if trajectory.proposals else ""
    return PastTurn(question=spec.turn.question, sql=answer)
