"""The `mtsql_r1` dialect: the wire format of MTSQL-R1's published checkpoints.

Two tools, `exec_sql` and `memory_retrieve`, each with the SQL as `code`; verdicts and the final SQL
stand in tags. A message judges the observation directly before it, then acts:

    <think>The list is empty, so the case must be wrong.</think>
    <exec_verify>no_pass</exec_verify>
    <tool_call>
    {"name": "exec_sql", "arguments": {"code": "SELECT name FROM shop WHERE city = 'Paris'"}}
    </tool_call>

reads verify(execution, fail), propose(sql), execute(). The last message of a turn holds
`<answer_sql>SELECT ...</answer_sql>` and reads propose(sql), answer(). As every message names its
SQL, the environment takes a proposal with other SQL for a correction and one with the same SQL for
none.

Source: MTSQL-R1 (arXiv 2510.12831) and its code, taichengguo/MTSQL-R1.
"""

import re
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from mtsql.protocol.call_formats import HERMES, Call, CallFormat, scan
from mtsql.protocol.dialect import Dialect
from mtsql.protocol.records import (
    ActionName,
    Answer,
    ParseFailure,
    Reading,
    ToolCall,
    Verdict,
    VerifyTarget,
)
from mtsql.protocol.sql_text import bare_sql, first_statement, holds_statement, is_query
from mtsql.protocol.wire import NamedCall, explain, plain_call, tool, tools_by_name

EXEC_SQL, MEMORY_RETRIEVE = "exec_sql", "memory_retrieve"
VERDICT_TAGS: dict[VerifyTarget, str] = {"execution": "exec_verify", "memory": "memory_verify"}
_TARGETS: dict[str, VerifyTarget] = {tag: target for target, tag in VERDICT_TAGS.items()}
_WORDS: dict[Verdict, str] = {"pass": "pass", "fail": "no_pass"}

# The word must end the tag's content: a copied `pass/no_pass` is not a verdict.
_VERDICT = re.compile(
    r"<(exec_verify|memory_verify)>[\s\"'*]*(pass|no[ _-]?pass)[ \t\"'*.]*+(?=\s*<|\s*\Z|\s*\n)",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"<answer_sql>(.*?)(?:</answer_sql>|(?=<answer_sql>)|\Z)", re.DOTALL)
_PLACEHOLDER = re.compile(
    r"\W*(?:(?:your|the|final|current)\s+)*(?:sql|code|query|answer)\W*", re.IGNORECASE
)


class _CodeArguments(BaseModel, frozen=True, extra="forbid"):
    code: str


def parse_r1(message: str, call_format: CallFormat = HERMES) -> Reading:
    """The actions of a model's message; only its own words outside the reasoning are read.

    Of several calls the first one counts, and nothing after it: a model that writes the reply
    itself must not be believed. Without a call the last `answer_sql` that holds a query counts.
    Verdicts count where they stand before the call or the answer, the last one of each kind. A
    placeholder is neither an answer nor a verdict.
    """
    pieces = scan(message, call_format)
    if isinstance(pieces, ParseFailure):
        return Reading(actions=(pieces,))
    number = next((n for n, piece in enumerate(pieces) if isinstance(piece, Call)), None)
    before = "\n".join(piece for piece in pieces[:number] if isinstance(piece, str))
    verdicts = _verdicts(before)
    if number is not None:
        call = pieces[number]
        assert isinstance(call, Call)
        acts = _read_call(call.value)
        if isinstance(acts, ParseFailure):
            return Reading(actions=(acts,))
        return Reading(actions=(*verdicts, *acts), ignored=_unread(before, pieces[number + 1 :]))
    answers: list[str] = [bare_sql(text) for text in _ANSWER.findall(before)]
    sql = next((text for text in reversed(answers) if is_query(text)), None)
    if sql is not None:
        proposal = ToolCall(name=ActionName.PROPOSE, sql=first_statement(sql))
        return Reading(actions=(*verdicts, proposal, Answer()))
    if answers:
        return Reading(actions=(ParseFailure(reason="answer_sql holds no query"),))
    if verdicts:
        return Reading(actions=verdicts)
    return Reading(
        actions=(
            ParseFailure(
                reason="no tool call and no answer; call exec_sql or memory_retrieve, or write the"
                " final SQL between answer_sql tags"
            ),
        )
    )


def render_r1(actions: Sequence[ToolCall | Answer], call_format: CallFormat = HERMES) -> str:
    """The canonical message: verdicts, then a call or the answer. A correction is a proposal."""
    lines: list[str] = []
    sql = ""
    for action in actions:
        match action:
            case Answer():
                lines.append(f"<answer_sql>{sql}</answer_sql>")
            case ToolCall(name=ActionName.PROPOSE | ActionName.CORRECT):
                sql = action.sql or ""
            case ToolCall(name=ActionName.EXECUTE):
                lines.append(call_format.render(EXEC_SQL, {"code": sql}))
            case ToolCall(target=target, verdict=verdict):
                assert target is not None, "a verdict is about something"
                tag = VERDICT_TAGS[target]
                lines.append(
                    call_format.render(MEMORY_RETRIEVE, {"code": sql})
                    if verdict is None
                    else f"<{tag}>{_WORDS[verdict]}</{tag}>"
                )
    return "\n".join(lines)


def _verdicts(text: str) -> tuple[ToolCall, ...]:
    """The last verdict of each kind, in the order of the kinds."""
    last: dict[VerifyTarget, Verdict] = {}
    for tag, word in _VERDICT.findall(text):
        last[_TARGETS[tag.lower()]] = "pass" if word.lower() == "pass" else "fail"
    return tuple(
        ToolCall(name=ActionName.VERIFY, target=target, verdict=last[target])
        for target in VERDICT_TAGS
        if target in last
    )


def _read_call(value: object) -> tuple[ToolCall, ...] | ParseFailure:
    if isinstance(value, ParseFailure):
        return value
    try:
        call = NamedCall.model_validate(plain_call(value, _TOOLS))
        if call.name not in (EXEC_SQL, MEMORY_RETRIEVE):
            return ParseFailure(reason="name: Input should be 'exec_sql' or 'memory_retrieve'")
    except ValidationError as error:
        return ParseFailure(reason=explain(error))
    try:
        sql = bare_sql(_CodeArguments.model_validate(call.arguments).code)
    except ValidationError as error:
        return ParseFailure(reason=f"{call.name}: {explain(error)}")
    if not holds_statement(sql) or _PLACEHOLDER.fullmatch(sql):
        return ParseFailure(reason=f"{call.name}: code holds no statement")
    proposal = ToolCall(name=ActionName.PROPOSE, sql=sql)
    if call.name == EXEC_SQL:
        return proposal, ToolCall(name=ActionName.EXECUTE)
    return proposal, ToolCall(name=ActionName.VERIFY, target="memory")


def _unread(before: str, behind: Sequence[str | Call]) -> tuple[str, ...]:
    """Why other parts of a message with a call were not read."""
    after = "\n".join(piece for piece in behind if isinstance(piece, str))
    reasons: list[str] = []
    if any(isinstance(piece, Call) for piece in behind):
        reasons.append("only the first tool call of a message is run")
    if "<answer_sql>" in before + after:
        reasons.append("an answer beside a tool call is not read")
    if _VERDICT.search(after):
        reasons.append("a verdict behind a tool call is not read")
    return tuple(reasons)


_CODE = {"type": "string", "description": "One read-only SQL statement."}

_SCHEMAS = (
    tool(EXEC_SQL, "Run the current SQL and return its result.", ("code",), code=_CODE),
    tool(
        MEMORY_RETRIEVE,
        "Show the dialogue's earlier questions and SQL next to the SQL under check.",
        ("code",),
        code=_CODE,
    ),
)
_TOOLS = tools_by_name(_SCHEMAS)

MTSQL_R1 = Dialect(
    tools=_SCHEMAS,
    read=parse_r1,
    write=render_r1,
    fixed_texts=(
        '<tool_call>\n{"name": "exec_sql", "arguments": {"code": "',
        '<tool_call>\n{"name": "memory_retrieve", "arguments": {"code": "',
        '"}}\n</tool_call>',
        *(f"<{tag}>{word}</{tag}>\n" for tag in VERDICT_TAGS.values() for word in _WORDS.values()),
        "<answer_sql>",
        "</answer_sql>",
    ),
    names_sql=True,
)
