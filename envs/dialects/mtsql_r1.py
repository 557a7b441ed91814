"""The observations of the `mtsql_r1` dialect in words, from `prompts/mtsql_r1_replies.txt`.

Content and order follow MTSQL-R1: recap, checklist, demand for a verdict, what to do next. Unlike
there, the text depends on the state: memory is asked for once, and only while a message is left for
it; the last message is announced; results show their header and row count and are cut at rows and
cells. Tags stand in the text with `...` between them only, so that a copy of it is not a verdict or
an answer, and data cannot bring tags.
"""

import json
import re
from functools import lru_cache
from string import Template
from typing import Any

from envs.dialects.base import Rules, lacks_asked_verdict, resolve_named, stray_verdict
from envs.prompts import prompt_file
from envs.replies import Reply, TextFacts
from mtsql.dialogue import PastTurn
from mtsql.protocol import MTSQL_R1 as MTSQL_R1_WIRE
from mtsql.query.clauses import clauses
from mtsql.query.names import Names
from mtsql.shown.harmless import neutral, to_json
from mtsql.shown.memory import clause_texts


def reply_text(reply: Reply, facts: TextFacts, names: Names) -> str:
    """What the agent reads; parts are lines or paragraphs of the file, in the file's order.

    Args:
        names: of the schema, to take the earlier turns' statements apart.
    """
    parts = [_body(reply, facts, names)]
    if facts.ignored:
        parts.append(_part("ignored", ignored=neutral("; ".join(facts.ignored))))
    parts.append(_part(_next(reply, facts), num_tokens=str(facts.room.tokens)))
    parts.append(_part("left", num_steps=str(facts.room.steps)))
    return "\n".join(parts)


_DATA = re.compile(r"^(?:Result|The SQL compared with question \d+): (\{.*\})$", re.MULTILINE)
_LEFT = re.compile(r"^Messages left: (\d+)\.$", re.MULTILINE)


def read_reply(text: str) -> dict[str, Any]:
    """The data in a reply, for scripted policies: its comparison, else its result; `steps_left`.

    Data stands in single lines after a label, so no other line begins as these do. Under the
    prompt `compact` the whole reply is data.
    """
    if text.startswith("{"):
        return json.loads(text)
    data: list[str] = _DATA.findall(text)
    seen: dict[str, Any] = json.loads(data[-1]) if data else {"ok": True}
    if left := _LEFT.search(text):
        seen["steps_left"] = int(left[1])
    return seen


def _body(reply: Reply, facts: TextFacts, names: Names) -> str:
    recap = {
        "question": neutral(facts.question),
        "sql": neutral(facts.sql),
        "result": "not run" if facts.result is None else to_json(facts.result),
    }
    match reply.kind:
        case "execution":
            return _part("execution", **recap)
        case "memory" if not facts.turns:
            return _part("no_history")
        case "memory":
            return _part("memory", **recap, turns=_turns(reply, facts, names))
        case "problem":
            return _part("problem", problem=neutral(str(reply.observation["message"])))
        case _:
            return _part("noted")


def _next(reply: Reply, facts: TextFacts) -> str:
    """The section that says what to do next."""
    is_judged_next = reply.kind == "execution" or (reply.kind == "memory" and bool(facts.turns))
    if facts.room.steps == 1:
        return "last"
    if facts.is_tight:
        return "tight"
    if facts.must_see_memory and (is_judged_next or reply.kind == "ok"):
        return "repair_or_remember" if is_judged_next else "remember"
    return "repair_or_answer" if is_judged_next else "go_on"


def _turns(reply: Reply, facts: TextFacts, names: Names) -> str:
    blocks = [
        _turn(number, turn, result, names)
        for number, (turn, result) in enumerate(facts.turns, start=1)
    ]
    compared = {key: value for key, value in reply.observation.items() if key != "history"}
    numbers = [
        number
        for number, (turn, _) in enumerate(facts.turns, start=1)
        if turn is reply.compared_with
    ]
    if numbers and compared:
        blocks.append(f"The SQL compared with question {numbers[0]}: {to_json(compared)}")
    return "\n".join(blocks)


def _turn(number: int, turn: PastTurn, result: dict[str, object] | None, names: Names) -> str:
    lines = [f"{number}. Question: {neutral(turn.question)}"]
    lines.append(f"   SQL: {neutral(turn.sql) or '(no answer)'}")
    if (parts := clauses(turn.sql, names)) is not None:
        lines.append(f"   Clauses: {neutral('; '.join(clause_texts(parts)))}")
    if result is not None:
        lines.append(f"   Result: {to_json(result)}")
    return "\n".join(lines)


def _part(name: str, **values: str) -> str:
    return _sections()[name].substitute(values)


@lru_cache
def _sections() -> dict[str, Template]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in prompt_file("mtsql_r1_replies").splitlines():
        if line.startswith("[") and line.endswith("]"):
            lines = found.setdefault(line[1:-1], [])
        else:
            lines.append(line)
    return {name: Template("\n".join(lines).strip()) for name, lines in found.items()}


MTSQL_R1 = Rules(
    wire=MTSQL_R1_WIRE,
    resolve=resolve_named,
    stray=stray_verdict,
    lacks_verdict=lacks_asked_verdict,
    word=reply_text,
    read=read_reply,
)
