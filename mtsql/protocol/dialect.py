"""A dialect: which tools an agent has, how it says what it does, and what comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mtsql.protocol.call_formats import HERMES, CallFormat
from mtsql.protocol.records import Answer, Reading, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way to put the actions on the wire."""

    tools: tuple[dict[str, Any], ...]
    """JSON schemas of the tools, in OpenAI's function format, for a chat template; () for none."""
    read: Callable[[str, CallFormat], Reading]
    """Reads the model's message; never raises."""
    write: Callable[[Sequence[ToolCall | Answer], CallFormat], str]
    """The canonical message of its actions."""
    fixed_texts: tuple[str, ...] = ()
    """Constant strings of the wire format, which a tokenizer made for it keeps whole."""
    reply_role: Literal["tool"] | None = "tool"
    """The role of an observation; None: there is never one."""
    max_steps: int | None = None
    """Messages that the dialect has room for; None: as many as the configuration says."""
    names_sql: bool = False
    """Each message names the SQL it is about, so a proposal is new only if its SQL is."""
    call_format: CallFormat = HERMES
    """How the model's chat template writes a call."""

    def parse(self, message: str) -> Reading:
        """What a model's message says; never raises."""
        return self.read(message, self.call_format)

    def render(self, actions: Sequence[ToolCall | Answer]) -> str:
        """The canonical message of the actions; `parse(render(actions)).actions == actions`."""
        return self.call_format.lead + self.write(actions, self.call_format)

    def in_format(self, call_format: CallFormat) -> "Dialect":
        """The same for a model that writes calls in another way."""
        return replace(self, call_format=call_format)
