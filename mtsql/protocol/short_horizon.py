"""The `short_horizon` dialect, for baselines: one message that holds SQL only ends the turn."""

import re
from collections.abc import Sequence

from mtsql.protocol.call_formats import CallFormat
from mtsql.protocol.dialect import Dialect
from mtsql.protocol.records import ActionName, Answer, ParseFailure, Reading, ToolCall
from mtsql.protocol.sql_text import fenced_blocks, first_statement, is_query, query_in

_LABEL = re.compile(
    r"[\s*_#>]*(?:final\s+)?(?:sql|answer|query)(?:\s+query)?[\s*_]*:[\s*_]*", re.IGNORECASE
)
_FENCE_LINE = re.compile(r"^[^\S\n]*(?:`{3,}|~{3,})[^\n]*$", re.MULTILINE)
"""One that is left when no block holds a query: it closes what nothing opened."""


def render_sql(sql: str) -> str:
    return f"```sql\n{sql}\n```"


def parse_sql(message: str) -> Reading:
    """The query of a model's message, fenced or bare.

    Reasoning up to the last </think> is left out. Of several fenced blocks the last one that holds
    a query counts; without such a block the text itself must be the query, or end with it behind
    prose. What follows the first semicolon is left out.
    """
    _, _, said = message.rpartition("</think>")
    if "<think>" in said:
        return _failure("the reasoning is not closed with </think>")
    for block in reversed(fenced_blocks(said)):
        sql = first_statement(block)
        if not is_query(sql):
            sql = query_in(block) or ""
        if sql:
            return _proposal(sql)
    text = _FENCE_LINE.sub("", said).strip()
    label = _LABEL.match(text)
    sql = query_in(text[label.end() :] if label else text)
    if sql is not None:
        return _proposal(sql)
    return _failure("no query; write one SQL query and nothing else, or one in a ```sql block")


def _proposal(sql: str) -> Reading:
    return Reading(actions=(ToolCall(name=ActionName.PROPOSE, sql=sql), Answer()))


def _failure(reason: str) -> Reading:
    return Reading(actions=(ParseFailure(reason=reason),))


def _read(message: str, _: CallFormat) -> Reading:
    return parse_sql(message)


def _write(actions: Sequence[ToolCall | Answer], _: CallFormat) -> str:
    proposal = actions[0]
    assert isinstance(proposal, ToolCall)
    return render_sql(proposal.sql or "")


SHORT_HORIZON = Dialect(
    tools=(),
    read=_read,
    write=_write,
    fixed_texts=("```sql\n", "\n```"),
    reply_role=None,
    max_steps=1,
    names_sql=True,
)
