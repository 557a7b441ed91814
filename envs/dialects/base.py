"""What differs between dialects in a turn, as data; `mtsql.protocol` writes and reads messages."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.replies import Reply, ReplyKind, TextFacts
from mtsql.chains.chain import Proposal, Query, View
from mtsql.protocol import Action, ActionName, Dialect, ParseFailure, ToolCall
from mtsql.query.names import Names
from mtsql.query.same import same_statement


class ProposalError(ValueError):
    """The call makes no proposal; the agent reads why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """What an action meets."""

    proposal: Proposal | None
    is_run: bool
    """The proposal was executed."""
    is_last: bool
    """No message follows this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a proposal may read besides the current one."""

    tables: Collection[str]
    earlier: Sequence[View] = ()
    """Views of earlier turns, the latest turn first; each may read those before it in its turn."""


def query_of(call: ToolCall, current: Proposal | None, known: Known) -> Proposal:
    """The SQL as it was written."""
    return Query(call.sql or "")


def as_it_is(action: Action, current: Current) -> Sequence[Action]:
    return (action,)


def never_stray(action: Action, asked: ReplyKind) -> str:
    return ""


def never_asked(done: Sequence[Action], asked: ReplyKind, has_history: bool) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a turn is played in one dialect; the defaults are those of `actions`."""

    wire: Dialect
    propose: Callable[[ToolCall, Proposal | None, Known], Proposal] = query_of
    """(propose or correct, the current proposal, what it may read) -> the new proposal.

    Raises:
        ProposalError: it cannot stand.
    """
    resolve: Callable[[Action, Current], Sequence[Action]] = as_it_is
    """What an action means in this state."""
    stray: Callable[[Action, ReplyKind], str] = never_stray
    """Why an action does not count after a reply of that kind; empty if it does."""
    lacks_verdict: Callable[[Sequence[Action], ReplyKind, bool], bool] = never_asked
    """(what was done, the kind of the reply before, there is history) -> a verdict was due."""
    word: Callable[[Reply, TextFacts, Names], str] | None = None
    """The words of a reply; None: replies are JSON, as they are under the prompt `compact`."""
    read: Callable[[str], dict[str, Any]] = json.loads
    """The data of a reply, for scripted policies."""
    shows_chains: bool = False
    """Memory shows an earlier query view by view, and a proposal may read its views."""
    view: str | None = None
    """The name that a script gives a query that it proposes as one view; None: proposals have no
    names."""


# Dialects whose messages name their SQL (`Dialect.names_sql`).


def resolve_named(action: Action, current: Current) -> Sequence[Action]:
    """Proposing the current SQL again does nothing, other SQL is a correction, and a look at memory
    shows the proposal's result as well, so it runs what was not run.
    """
    if not isinstance(action, ToolCall):
        return (action,)
    if action.name is ActionName.PROPOSE and current.proposal is not None:
        if same_statement(action.sql or "", current.proposal.sql):
            return ()
        return (replace(action, name=ActionName.CORRECT),)
    is_look = action.target == "memory" and action.verdict is None
    if is_look and not current.is_run and not current.is_last:
        return ToolCall(name=ActionName.EXECUTE), action
    return (action,)


def stray_verdict(action: Action, asked: ReplyKind) -> str:
    """A verdict belongs to the observation directly before it."""
    if not isinstance(action, ToolCall) or action.verdict is None or action.target == asked:
        return ""
    return f"a verdict on the {action.target} without its observation directly before it"


def lacks_asked_verdict(done: Sequence[Action], asked: ReplyKind, has_history: bool) -> bool:
    """The reply before asked for a verdict, and the message can be read and holds none."""
    if asked not in ("execution", "memory") or (asked == "memory" and not has_history):
        return False
    return not any(
        isinstance(one, ParseFailure)
        or (isinstance(one, ToolCall) and one.target == asked and one.verdict is not None)
        for one in done
    )
