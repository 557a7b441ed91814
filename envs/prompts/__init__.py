"""The first messages of a turn, from the text files of this folder.

A file is a template; a line `---` parts the system message from the user message. Names: schema,
history, question, max_steps.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Literal

from mtsql.memory import PastTurn
from mtsql.prompt import compact_schema, full_schema, neutral
from mtsql.schema import Schema

PromptName = Literal["compact", "full"]


def prompt_version(name: PromptName) -> str:
    """A short name of the file's exact content, for logs: 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(_text(name).encode()).hexdigest()[:12]


def prompt_messages(
    name: PromptName,
    *,
    schema: Schema,
    history: Sequence[PastTurn],
    question: str,
    max_steps: int,
) -> list[dict[str, str]]:
    """The messages before the agent's first one; `compact` is a single user message."""
    *system, user = _templates(name)
    names = {
        "schema": compact_schema(schema) if name == "compact" else full_schema(schema),
        "history": _history(name, history),
        "question": neutral(question),
        "max_steps": str(max_steps),
    }
    roles = [*("system" for _ in system), "user"]
    parts = [template.substitute(names) for template in (*system, user)]
    return [{"role": role, "content": text} for role, text in zip(roles, parts, strict=True)]


def _history(name: PromptName, history: Sequence[PastTurn]) -> str:
    turns = [(neutral(past.question), neutral(past.sql)) for past in history]
    if name == "compact":
        return "".join(f"q: {question} a: {sql}\n" for question, sql in turns)
    if not turns:
        return ""
    lines = [f"Q: {question}\nSQL: {sql or '(no answer)'}\n" for question, sql in turns]
    return f"Earlier questions of this dialogue:\n{''.join(lines)}\n"


@lru_cache
def _text(name: PromptName) -> str:
    return resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


@lru_cache
def _templates(name: PromptName) -> tuple[Template, ...]:
    return tuple(Template(part.strip()) for part in _text(name).split("\n---\n"))
