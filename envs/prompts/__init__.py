"""The first messages of a turn, from the text files of this folder.

A file is a template; a line `---` parts the system message from the user message. Names: schema,
history, question, max_steps. `compact.txt` serves every dialect, because it tells no task;
`full.txt` tells the task of the `actions` dialect, and each other dialect has a file of
its name. `m_schema` is the task with another rendering of the schema.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from string import Template

from mtsql.config.environment import DialectName, PromptName
from mtsql.dialogue import PastTurn
from mtsql.protocol import DIALECTS, ActionName, Answer, ToolCall
from mtsql.schema import Schema
from mtsql.shown.harmless import neutral
from mtsql.shown.schema import compact_schema, full_schema

_REPLIES = {"mtsql_r1": "mtsql_r1_replies"}
"""Files that word a dialect's observations, which are part of what the policy is asked."""

_HINTS: Mapping[PromptName, str] = {
    "compact": "values",
    "full": "Stored values it names",
    "m_schema": "Stored values it names",
}


def prompt_version(name: PromptName, dialect: DialectName = "actions") -> str:
    """A short name of the files' exact content, for logs: 12 hexadecimal digits of a SHA-256."""
    text = prompt_file(_file(name, dialect))
    if name != "compact" and dialect in _REPLIES:
        text += prompt_file(_REPLIES[dialect])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def prompt_messages(
    name: PromptName,
    *,
    schema: Schema | str,
    history: Sequence[PastTurn],
    question: str,
    max_steps: int,
    dialect: DialectName = "actions",
    hints: Sequence[str] = (),
) -> list[dict[str, str]]:
    """The messages before the agent's first one; `compact` is a single user message.

    Only in `short_horizon` is `compact` the conversation so far: earlier answers are messages as
    the agent writes them, so that each turn's prompt begins with all of the turn before it, and
    what computes one need not compute the other again.

    Args:
        schema: its text, or a schema that is shown whole, without example values.
        hints: one line for each question of the dialogue, this one last: the stored values that it
            names, or nothing. A line stands after its question, so that the prompts of all
            questions after one history begin alike. Only the conversation shows earlier ones.
    """
    asked = neutral(question)
    if hints and hints[-1]:
        asked += f"\n{_HINTS[name]}: {hints[-1]}"
    if name == "compact" and dialect == "short_horizon" and history:
        *earlier, last = history
        answer = ToolCall(name=ActionName.PROPOSE, sql=neutral(last.sql)), Answer()
        return [
            *prompt_messages(
                name,
                schema=schema,
                history=earlier,
                question=last.question,
                max_steps=max_steps,
                dialect=dialect,
                hints=hints[:-1],
            ),
            {"role": "assistant", "content": DIALECTS[dialect].render(answer)},
            {"role": "user", "content": f"q: {asked}"},
        ]
    *system, user = _templates(_file(name, dialect))
    if isinstance(schema, Schema):
        schema = compact_schema(schema) if name == "compact" else full_schema(schema)
    names = {
        "schema": schema,
        "history": _history(name, history),
        "question": asked,
        "max_steps": str(max_steps),
    }
    roles = [*("system" for _ in system), "user"]
    parts = [template.substitute(names) for template in (*system, user)]
    return [{"role": role, "content": text} for role, text in zip(roles, parts, strict=True)]


@lru_cache
def prompt_file(name: str) -> str:
    """The text of one file of this folder, its name without `.txt`."""
    return resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


def _file(name: PromptName, dialect: DialectName) -> str:
    if name == "compact":
        return "compact"
    return "full" if dialect == "actions" else dialect


def _history(name: PromptName, history: Sequence[PastTurn]) -> str:
    turns = [(neutral(past.question), neutral(past.sql)) for past in history]
    if name == "compact":
        return "".join(f"q: {question} a: {sql}\n" for question, sql in turns)
    if not turns:
        return ""
    lines = [f"Q: {question}\nSQL: {sql or '(no answer)'}\n" for question, sql in turns]
    return f"Earlier questions of this dialogue:\n{''.join(lines)}\n"


@lru_cache
def _templates(file: str) -> tuple[Template, ...]:
    return tuple(Template(part.strip()) for part in prompt_file(file).split("\n---\n"))
