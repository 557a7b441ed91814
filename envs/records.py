"""What a message leads to, and what is kept of it."""

from collections import Counter
from dataclasses import dataclass

from envs.replies import Reply
from mtsql.chains.chain import Proposal, relation_of
from mtsql.protocol import Action, ActionName, ToolCall
from mtsql.sql.records import QueryStatus, class_of
from mtsql.trajectory.records import Ending, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    observation: str | None
    """None if and only if the turn has ended."""
    ending: Ending | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a message led to."""

    done: tuple[Action, ...]
    """What took effect, at least one; or the one that could not."""
    reply: Reply
    ignored: tuple[str, ...] = ()
    """What did not count, and why."""
    lacks_verdict: bool = False


def step_of(
    message: str,
    taken: Taken,
    observation: str | None,
    *,
    before: Proposal | None,
    proposals: list[Proposal],
) -> Step:
    """The facts of a step.

    Args:
        before: the proposal that was current before the message.
        proposals: all that were made up to now.
    """
    reply, result = taken.reply, taken.reply.result
    *earlier, action = taken.done
    relation = None
    if before is not None and proposals[-1] is not before:
        calls = [one.name for one in taken.done if isinstance(one, ToolCall)]
        is_correction = ActionName.CORRECT in calls
        relation = relation_of(proposals[-1], before, is_correction=is_correction)
    kinds = None
    if reply.differences is not None:
        kinds = Counter(difference.kind for difference in reply.differences)
    return Step(
        message=message,
        action=action,
        observation=observation,
        proposal=len(proposals) - 1 if proposals else None,
        relation=relation,
        result_class=class_of(result) if result else None,
        num_rows=len(result.rows) if result and result.status is QueryStatus.OK else None,
        is_accepted=reply.is_accepted,
        num_kept=kinds["kept"] if kinds is not None else None,
        num_added=kinds["added"] if kinds is not None else None,
        num_dropped=kinds["dropped"] if kinds is not None else None,
        num_changed=kinds["changed"] if kinds is not None else None,
        earlier=tuple(one for one in earlier if isinstance(one, ToolCall)),
        num_ignored=len(taken.ignored),
        lacks_verdict=taken.lacks_verdict,
    )
