"""A policy that speaks `actions`, played in another dialect, message by message.

What a message holds beside its one call stays where it stands; a message that is no call of
`actions` (copied text, several calls) goes as it is.

    cocte      a proposal is the chain's next view, a correction another last one
    mtsql_r1   a proposal and a verdict wait for the message that runs, looks or answers: that is
               where this dialect has them, a verdict beside the answer too
"""

import re
from collections.abc import Iterator
from typing import Any

from hostile.hacks import Play
from mtsql.config.environment import DialectName
from mtsql.protocol import DIALECTS, ActionName, Answer, ParseFailure, ToolCall, parse_action

RUN = ToolCall(name=ActionName.EXECUTE)
_CALL = re.compile(r"<tool_call>.*</tool_call>", re.DOTALL)


def translated(play: Play, dialect: DialectName) -> Play:
    """The same policy in another dialect; it sees the replies that the dialect gives."""
    match dialect:
        case "cocte":
            return _one_to_one(play, _Chained())
        case "mtsql_r1":
            return _gathered(play)
        case _:
            return play


class _Chained:
    """Names the views."""

    def __init__(self) -> None:
        self._num_views = 0

    def __call__(self, action: ToolCall | Answer) -> ToolCall | Answer:
        if not isinstance(action, ToolCall):
            return action
        if action.name is not ActionName.PROPOSE:
            return action
        self._num_views += 1
        return ToolCall(name=action.name, sql=action.sql, view=f"view_{self._num_views}")


def _one_to_one(play: Play, change: _Chained) -> Play:
    message = next(play)
    while True:
        action = parse_action(message)
        if not isinstance(action, ParseFailure):
            call = DIALECTS["cocte"].render((change(action),))
            message = _CALL.sub(lambda _, call=call: call, message)
        seen = yield message
        try:
            message = play.send(seen)
        except StopIteration:
            return


def _gathered(play: Play) -> Play:
    """Proposals and verdicts are kept until something is asked of the environment."""
    render = DIALECTS["mtsql_r1"].render
    sql = ""
    is_waiting = False
    verdicts: list[ToolCall] = []
    seen: dict[str, Any] = {"ok": True}

    def gathered(action: ToolCall | Answer) -> str:
        proposal = [ToolCall(name=ActionName.PROPOSE, sql=sql)] if sql else []
        message = render((*verdicts, *proposal, action))
        verdicts.clear()
        return message

    for message in _fed(play, lambda: seen):  # noqa: B023 -- the latest is meant
        action = parse_action(message)
        match action:
            case ParseFailure():
                seen = yield message
            case ToolCall(sql=str(proposed)):
                if is_waiting:
                    # Nothing was asked of it, and each proposal is part of a message that asks.
                    seen = yield gathered(RUN)
                sql, is_waiting = proposed, True
                seen = {"ok": True} | {key: seen[key] for key in ("steps_left",) if key in seen}
            case ToolCall(verdict=None, name=ActionName.VERIFY, target="execution"):
                seen = yield "I verify."
            case ToolCall(verdict=str()):
                if verdicts:
                    # A second verdict: the first one is all of its message.
                    seen = yield render((verdicts.pop(),))
                verdicts.append(action)
            case _ if not sql:
                seen = yield message
            case _:
                asked, is_waiting = gathered(action), False
                seen = yield _CALL.sub(lambda _, asked=asked: asked, message)
    if verdicts or is_waiting:
        yield gathered(RUN)


def _fed(play: Play, seen: Any) -> Iterator[str]:
    """The policy's messages, each sent what was seen last."""
    try:
        message = next(play)
        while True:
            yield message
            message = play.send(seen())
    except StopIteration:
        return
