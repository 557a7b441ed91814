"""What a person types in `mtsql play`, read into the messages that a policy would write."""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtsql.errors import DataError
from mtsql.protocol import ActionName, Answer, Dialect, ParseFailure, ToolCall

HELP = """\
propose SQL              name the query you stand behind
execute                  run it, and see what it returns
verify execution pass    judge its result: pass or fail
verify memory            see the earlier turns and what your query keeps, adds and drops;
                         then verify memory pass, or fail
correct SQL              put another query in its place
answer                   give it as your answer; this ends the turn
raw TEXT                 send TEXT as the model's message, as it is
<tool_call> ...          a literal message may also be pasted, to its closing tag or a blank line
prompt                   all that the policy reads now: messages and tools
schema                   the tables of the database
help                     this list
quit                     stop playing; Ctrl-D does the same
A \\ at the end of a line goes on in the next one. Only what is sent costs a step."""

Shown = Literal["help", "prompt", "schema", "quit"]
SHOWN: tuple[Shown, ...] = ("help", "prompt", "schema", "quit")
WORDS = (*(str(name) for name in ActionName), "raw", *SHOWN)
SQL_WORDS = ("select", "with", "explain", "pragma", "values")

NextLine = Callable[[], str | None]
"""The next line without its end; None when there is none."""

_TAG = re.compile(r"<(?!think\b)([A-Za-z_]\w*)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    text: str
    """As it was typed."""
    message: str | None = None
    """What goes to the environment, in the dialect's wire format."""
    shown: Shown | None = None
    """What the person wants to see instead."""


class BadCommand(Exception):
    """Nothing was sent; the text says what to type."""


def read_command(first: str, more: NextLine, dialect: Dialect) -> Command:
    """A command that begins with the line `first`.

    Args:
        more: gives the lines that follow, of a pasted message or after a backslash.

    Raises:
        BadCommand: it is none, or has no form in the dialect.
    """
    text = first.strip()
    if text.startswith("<"):
        text = _pasted(first, more)
        return Command(text=text, message=text)
    while text.endswith("\\"):
        text = f"{text[:-1].rstrip()} {(more() or '').strip()}"
    word, rest = [*text.split(maxsplit=1), "", ""][:2]
    word = word.lower()
    if word == "raw":
        if not rest:
            raise BadCommand("raw needs the text of a message")
        return Command(text=text, message=rest)
    for shown in SHOWN:
        if word == shown and not rest:
            return Command(text=text, shown=shown)
    return Command(text=text, message=_rendered(_action(word, rest), dialect))


def _pasted(first: str, more: NextLine) -> str:
    """Lines up to the closing tag of the first tag that is no thought, or to a blank line."""
    lines = [first]
    while True:
        text = "\n".join(lines).strip()
        tag = _TAG.search(text)
        if tag is not None and f"</{tag[1]}>" in text:
            return text
        line = more()
        if not (line or "").strip():
            return text
        lines.append(line or "")


def _action(word: str, rest: str) -> ToolCall | Answer:
    match word:
        case "propose" | "correct":
            if not rest:
                raise BadCommand(f"{word} needs a query: {word} SELECT ...")
            return ToolCall(name=ActionName(word), sql=rest)
        case "execute" | "answer":
            if rest:
                raise BadCommand(f"{word} stands alone; it is about the query you proposed")
            return Answer() if word == "answer" else ToolCall(name=ActionName.EXECUTE)
        case "verify":
            return _verify(rest)
        case _ if word in SQL_WORDS:
            raise BadCommand("to stand behind a query: propose SELECT ...")
        case _:
            near = difflib.get_close_matches(word, WORDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "help lists the commands"
            raise BadCommand(f"unknown command {word[:40]!r}; {hint}")


def _verify(rest: str) -> ToolCall:
    match rest.split():
        case ["execution", ("pass" | "fail") as verdict]:
            return ToolCall(name=ActionName.VERIFY, target="execution", verdict=verdict)
        case ["memory"]:
            return ToolCall(name=ActionName.VERIFY, target="memory")
        case ["memory", ("pass" | "fail") as verdict]:
            return ToolCall(name=ActionName.VERIFY, target="memory", verdict=verdict)
        case _:
            raise BadCommand("verify execution pass|fail, or verify memory [pass|fail]")


def _rendered(action: ToolCall | Answer, dialect: Dialect) -> str:
    """The action on the wire; only what the dialect reads back is sent."""
    try:
        message = dialect.render(action)
    except ValueError as error:
        raise BadCommand(f"not in this dialect: {error}") from error
    read = dialect.parse(message)
    if isinstance(read, ParseFailure):
        raise BadCommand(read.reason)
    return message


def read_actions(path: Path, dialect: Dialect) -> list[list[Command]]:
    """The commands of each turn in a file: one a line; `answer` or a blank line ends a turn.

    `#` begins a comment line, and `quit` ends the file.

    Raises:
        DataError: the file cannot be read, or a line is no command; the text names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(f"--actions {path}: cannot be read ({reason})") from error
    numbered = enumerate(lines, start=1)
    turns: list[list[Command]] = []
    is_open = False
    for number, line in numbered:
        if line.lstrip().startswith("#"):
            continue
        if not line.strip():
            is_open = False
            continue
        try:
            command = read_command(line, lambda: _second(numbered), dialect)
        except BadCommand as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if command.shown == "quit":
            break
        if not is_open:
            turns.append([])
        turns[-1].append(command)
        is_open = command.text != ActionName.ANSWER
    return turns


def _second(numbered: Iterator[tuple[int, str]]) -> str | None:
    return next(numbered, (0, None))[1]
