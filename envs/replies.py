"""What an action leads to, before a dialect words it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mtsql.chains.chain import Chain, Proposal
from mtsql.chains.history import told_views
from mtsql.dialogue import PastTurn
from mtsql.query.clauses import clauses
from mtsql.query.compare import Difference, compare
from mtsql.query.names import Names
from mtsql.shown.harmless import to_json
from mtsql.shown.memory import observe_memory, relevant_turns
from mtsql.sql.records import QueryResult

JSON_TEXTS = (
    '{"ok": true}',
    '{"columns": ["',
    '"], "rows": [["',
    '"], "rows": [[',
    '"], "rows": [], "num_rows": 0',
    '"]], "num_rows": ',
    ']], "num_rows": ',
    '{"error": "',
    '", "message": "',
    ', "more": true',
    ', "steps_left": ',
    '{"history": [{"q": "',
    '", "a": "',
    '"}], "kept": ["',
    '"], "added": ["',
    '"], "dropped": ["',
    '{"history": [], "note": "no_history"}',
)
"""What is constant in replies that are JSON, for tokenizers that keep it whole.

Each holds a quote right before or after a key, and data in a reply have a backslash before every
quote: only the reply itself can hold such a text.
"""

ReplyKind = Literal["ok", "problem", "execution", "memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`observation` is what the agent reads as JSON; the other fields are facts for the Step."""

    observation: dict[str, object]
    kind: ReplyKind = "ok"
    is_accepted: bool = True
    result: QueryResult | None = None
    differences: tuple[Difference, ...] | None = None
    compared_with: PastTurn | None = None
    """The earlier turn that `differences` are about."""


OK = Reply(observation={"ok": True})
NOT_RUN = Reply(observation={}, is_accepted=False)


def problem(kind: str, message: str) -> Reply:
    """The message changed nothing; `kind` is malformed or order."""
    return Reply(observation={"error": kind, "message": message}, kind="problem", is_accepted=False)


def proposed(before: Proposal | None, after: Proposal) -> Reply:
    """What became of the chain: views of earlier turns that came in, and views that are gone."""
    if not isinstance(after, Chain):
        return OK
    *others, _ = (view.name for view in after.views)
    old = [view.name for view in before.views] if isinstance(before, Chain) else []
    taken = [name for name in others if name not in old]
    gone = [name for name in old if name not in {view.name for view in after.views}]
    told: dict[str, object] = {"ok": True}
    if taken:
        told["taken"] = taken
    if gone:
        told["dropped"] = gone
    return Reply(observation=told)


def memory_reply(
    sql: str,
    history: Sequence[PastTurn],
    names: Names,
    *,
    is_asked: bool,
    shows_chains: bool = False,
) -> Reply:
    """The dialogue's memory, compared with the proposal.

    Args:
        shows_chains: an earlier query that is a chain is told view by view, too.
        is_asked: the call asked for it; a verdict that has not seen it shows it and is not taken.
    """
    turns = relevant_turns(sql, history, names)
    before = clauses(turns[0].sql, names) if turns else None
    after = clauses(sql, names)
    differences = compare(before, after) if before is not None and after is not None else None
    return Reply(
        observation=observe_memory(
            turns, differences, [told_views(turn) for turn in turns] if shows_chains else ()
        ),
        kind="memory",
        is_accepted=is_asked,
        differences=differences,
        compared_with=turns[0] if turns else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLeft:
    """What the agent may still say."""

    steps: int
    """Messages; never 0 where there is a reply."""
    tokens: int | None = None
    """Of all messages and replies together; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFacts:
    """What a worded reply tells in addition to the reply."""

    question: str
    sql: str
    """The current proposal; empty without one."""
    result: dict[str, object] | None
    """The current proposal's result as JSON; None if it was never run."""
    turns: Sequence[tuple[PastTurn, dict[str, object] | None]] = ()
    """The dialogue's earlier turns, oldest first, with previews of their results."""
    room: RoomLeft
    is_tight: bool
    """Too few tokens are left for two more messages."""
    must_see_memory: bool
    """There is history and the agent has not looked at it yet."""
    ignored: Sequence[str] = ()


def json_reply(reply: Reply, ignored: Sequence[str], room: RoomLeft) -> str:
    """The reply as one JSON object."""
    # The last message is announced, so that no action is lost to the limit by surprise.
    warning = {"steps_left": room.steps} if room.steps <= 2 else {}
    noted = {"ignored": list(ignored)} if ignored else {}
    return to_json(reply.observation | noted | warning)
