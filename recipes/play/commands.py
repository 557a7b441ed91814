"""What a person types in `mtsql play`, read into the messages that a policy would write."""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mtsql.errors import DataError
from mtsql.protocol import COCTE, Action, ActionName, Answer, Dialect, ParseFailure, ToolCall

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
A \\ at the end of a line goes on in the next one. Only what is sent costs a step.
In the dialect cocte, propose NAME SQL names the view. In mtsql_r1 and short_horizon a message
names its SQL: a query and verdicts are sent with the next execute, verify memory or answer."""

Shown = Literal["help", "prompt", "schema", "quit"]
SHOWN: tuple[Shown, ...] = ("help", "prompt", "schema", "quit")
WORDS = (*(str(name) for name in ActionName), "raw", *SHOWN)
SQL_WORDS = ("select", "with", "explain", "pragma", "values")

NextLine = Callable[[], str | None]
"""The next line without its end; None at the end of the input."""

_TAG = re.compile(r"<(?!think\b)([A-Za-z_]\w*)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    text: str
    """As it was typed."""
    message: str | None = None
    """What goes to the environment, in the dialect's wire format."""
    shown: Shown | None = None
    """What the person wants to see instead. Neither: it is sent with the next message."""
    is_added: bool = False
    """Nobody typed it: the answer at the end of a turn in a file."""


class BadCommand(Exception):
    """Nothing was sent; the text says what to type."""


class Speech:
    """Puts the actions of one turn on the wire, one message for each or for several.

    Example, `mtsql_r1`: propose SELECT 2 and verify execution fail give no message, then execute
    gives <exec_verify>no_pass</exec_verify> and exec_sql(SELECT 2).
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._verdicts: list[ToolCall | Answer] = []
        self._sql: str | None = None
        self._num_views = 0

    def message(self, action: ToolCall | Answer) -> str | None:
        """The message that the action completes; None if it waits for another.

        Raises:
            BadCommand: the dialect has no such action.
        """
        if not self._dialect.names_sql:
            return self._rendered((self._with_view(action),))
        if isinstance(action, ToolCall) and action.sql is not None:
            self._rendered((replace(action, name=ActionName.PROPOSE), Answer()))
            self._sql = action.sql
            return None
        if isinstance(action, ToolCall) and action.verdict is not None:
            self._verdicts.append(action)
            return None
        if self._sql is None:
            raise BadCommand("propose a query first; in this dialect each message names it")
        proposal = ToolCall(name=ActionName.PROPOSE, sql=self._sql)
        message = self._rendered((*self._verdicts, proposal, action))
        self._verdicts.clear()
        return message

    def _with_view(self, action: ToolCall | Answer) -> ToolCall | Answer:
        if self._dialect is not COCTE or isinstance(action, Answer):
            return action
        if action.name is not ActionName.PROPOSE:
            return action
        first, _, rest = (action.sql or "").partition(" ")
        self._num_views += 1
        if first.lower() in SQL_WORDS or not rest:
            return replace(action, view=f"view_{self._num_views}")
        return replace(action, view=first, sql=rest.strip())

    def _rendered(self, actions: Sequence[ToolCall | Answer]) -> str:
        """The message of the actions; only what the dialect reads back is sent."""
        message = self._dialect.render(actions)
        read = self._dialect.parse(message).actions
        for one in read:
            if isinstance(one, ParseFailure):
                raise BadCommand(one.reason)
        if [_kind(one) for one in read] != [_kind(one) for one in actions]:
            raise BadCommand(f"this dialect has no {_kind(actions[-1])}")
        return message


def _kind(action: Action) -> str:
    """The action without its SQL, which a dialect may trim."""
    if not isinstance(action, ToolCall):
        return "answer"
    return " ".join(word for word in (action.name, action.target, action.verdict) if word)


def read_command(first: str, more: NextLine, speech: Speech) -> Command:
    """A command that begins with the line `first`.

    Args:
        more: gives the lines that follow, of a pasted message or after a backslash.

    Raises:
        BadCommand: not a command, or one that the dialect cannot say.
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
    return Command(text=text, message=speech.message(_action(word, rest)))


def _pasted(first: str, more: NextLine) -> str:
    """Lines up to the closing tag of the first tag that is not a thought, or to a blank line."""
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


def read_actions(path: Path, dialect: Dialect) -> list[list[Command]]:
    """The commands of each turn in a file: one a line; `answer` or a blank line ends a turn.

    `#` begins a comment line, and `quit` ends the file. A turn that ends without an answer gets it
    added, if there is something to answer with.

    Raises:
        DataError: the file cannot be read, or a line is not a command; the text names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(f"--actions {path}: cannot be read ({reason})") from error
    numbered = enumerate([*lines, ""], start=1)
    turns: list[list[Command]] = []
    speech: Speech | None = None
    """Of the turn that is open."""
    for number, line in numbered:
        if line.lstrip().startswith("#"):
            continue
        if not line.strip():
            if speech is not None:
                turns[-1] += _added_answer(speech)
                speech = None
            continue
        if speech is None:
            speech = Speech(dialect)
            turns.append([])
        try:
            command = read_command(line, lambda: _second(numbered), speech)
        except BadCommand as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if command.shown == "quit":
            break
        turns[-1].append(command)
        if command.text == ActionName.ANSWER:
            speech = None
    return [turn for turn in turns if turn]


def _added_answer(speech: Speech) -> list[Command]:
    try:
        message = speech.message(Answer())
    except BadCommand:
        return []
    return [Command(text=str(ActionName.ANSWER), message=message, is_added=True)]


def _second(numbered: Iterator[tuple[int, str]]) -> str | None:
    return next(numbered, (0, None))[1]
