"""The `short_horizon` dialect, for baselines: one message that holds SQL only ends the turn."""

import re
from collections.abc import Sequence

from mtsql.protocol.records import ActionName, Answer, Dialect, ParseFailure, Reading, ToolCall
from mtsql.protocol.sql_text import first_statement, is_query

_FENCED = re.compile(r"```[A-Za-z]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_LABEL = re.compile(r"(?:final\s+)?(?:sql|answer|query)(?:\s+query)?\s*:\s*", re.IGNORECASE)


def render_sql(sql: str) -> str:
    return f"```sql\n{sql}\n```"


def parse_sql(message: str) -> Reading:
    """The query of a model's message, fenced or bare.

    Reasoning up to the last </think> is left out. Of several fenced blocks the last one that holds
    a query counts; without a fence, the whole text must be the query (`SQL:` may stand before it).
    What follows the first semicolon is left out.
    """
    _, _, said = message.rpartition("</think>")
    if "<think>" in said:
        return _failure("the reasoning is not closed with </think>")
    blocks: list[str] = _FENCED.findall(said)
    text = said.strip()
    if not blocks:
        label = _LABEL.match(text)
        blocks = [text[label.end() :] if label else text]
    for block in reversed(blocks):
        sql = first_statement(block.strip())
        if is_query(sql):
            return Reading(actions=(ToolCall(name=ActionName.PROPOSE, sql=sql), Answer()))
    return _failure("no query; write one SQL query and nothing else")


def _failure(reason: str) -> Reading:
    return Reading(actions=(ParseFailure(reason=reason),))


def _render(actions: Sequence[ToolCall | Answer]) -> str:
    proposal, _ = actions
    assert isinstance(proposal, ToolCall)
    return render_sql(proposal.sql or "")


SHORT_HORIZON = Dialect(
    tools=(),
    parse=parse_sql,
    render=_render,
    fixed_texts=("```sql\n", "\n```"),
    reply_role=None,
    max_steps=1,
    names_sql=True,
)
