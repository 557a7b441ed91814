r"""JSON as models really write it.

Strict JSON is read by the standard library. What that refuses is read here, where its meaning is
certain: trailing commas, raw line breaks and tabs in strings, single quotes and typographic ones
around strings, keys without quotes, `True`, `False` and `None`, backslashes before a character that
needs none, and double quotes inside a string that are not escaped.

    {'sql': 'SELECT "name" FROM shop',}               a dictionary of Python
    {"sql": "SELECT 1 WHERE city = \'Oslo\'"}         \' is a quote
    {"sql": "SELECT 1 WHERE n LIKE '%\_%'"}           any other backslash stays
    {"sql": "SELECT "name" FROM shop"}                the string ends where the object goes on
"""

import json
import re
from dataclasses import dataclass
from typing import Final

_DECODER: Final = json.JSONDecoder(strict=False)
_MAX_DEPTH = 30
_PLAIN = re.compile(r"""[^\\"'\u2018\u2019\u201c\u201d]+""")
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_][\w-]*")
_NUMBER = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?(?:[eE][-+]?\d{1,3})?(?![\w.])")
_CLOSING = {
    '"': ('"',),
    "'": ("'",),
    "\u201c": ("\u201d", "\u201c"),
    "\u2018": ("\u2019", "\u2018"),
}
"""By opening quote, what ends the string; three of them in a row are ended by three."""
_WORDS: dict[str, object] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", "'": "'"}
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{4}")
# What may follow a string that ends: a colon, the end of the object or list, or the next key.
_GOES_ON = re.compile(
    r"""\s*(?:[:}\]]|,\s*[}\]]|,\s*["'\u201c\u2018]?[A-Za-z_]\w*["'\u201d\u2019]?\s*:|\Z)"""
)
_CALL_GOES_ON = re.compile(r"\s*(?:\)|,\s*(?:\)|[A-Za-z_]\w*\s*=))")
_FUNCTION = re.compile(r"((?:[A-Za-z_]\w*\s*\.\s*)*[A-Za-z_]\w*)\s*\(")


class UnreadableJson(ValueError):
    """No value can be read with certainty.

    Args:
        position: of the first character that does not fit.
        reason: what would fit there.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"{reason} at character {position}")
        self.position = position
        self.reason = reason


def read_json(text: str, start: int = 0, *, stop: int | None = None) -> tuple[object, int]:
    """The value that begins at `start`, and where the text goes on after it.

    Args:
        stop: where the value must have ended; None: at the end of the text. A strict value, and one
            whose strings are closed as usual, may go beyond it: it may hold the closing tag.

    Raises:
        UnreadableJson: no value, or its meaning is not certain.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        pass
    try:
        return _Reader(text).read(start)
    except UnreadableJson as error:
        body = text[:stop]
        try:
            return _Reader(body, goes_on=_GOES_ON, may_end_early=stop is not None).read(start)
        except UnreadableJson:
            raise error from None


def read_python_call(text: str, start: int = 0) -> tuple[str, dict[str, object], int]:
    """A call as Python writes it: its name, its keyword arguments, and where the text goes on.

    Example: `propose(sql="SELECT 1")`

    Raises:
        UnreadableJson: not a call, a positional argument, or a value that is not a literal.
    """
    try:
        return _Reader(text).read_call(start)
    except UnreadableJson as error:
        try:
            return _Reader(text, goes_on=_CALL_GOES_ON).read_call(start)
        except UnreadableJson:
            raise error from None


@dataclass(slots=True)
class _Reader:
    """A recursive descent over one text, in time linear in its length."""

    text: str
    goes_on: re.Pattern[str] | None = None
    """A quote ends a string only if this follows it; None: every quote does."""
    may_end_early: bool = False
    """Brackets still open at the end of the text are closed there."""
    position: int = 0

    def read(self, start: int) -> tuple[object, int]:
        self.position = start
        value = self._value(0)
        return value, self.position

    def read_call(self, start: int) -> tuple[str, dict[str, object], int]:
        self.position = start
        self._next()
        function = _FUNCTION.match(self.text, self.position)
        if function is None:
            raise self._fail("no call")
        self.position = function.end()
        arguments: dict[str, object] = {}
        while not self._ends(")"):
            key = self._key()
            if self._next() != "=":
                raise self._fail(f"no = behind {key[:20]!r}")
            self.position += 1
            arguments[key] = self._value(0)
            if not self._separated(")"):
                break
        return "".join(function[1].split()), arguments, self.position

    def _next(self) -> str:
        """The next character that is not a space; empty at the end."""
        self.position = _SPACE.match(self.text, self.position).end()  # pyright: ignore[reportOptionalMemberAccess] - it matches nothing too
        return self.text[self.position : self.position + 1]

    def _fail(self, reason: str) -> UnreadableJson:
        return UnreadableJson(self.position, reason)

    def _value(self, depth: int) -> object:
        if depth > _MAX_DEPTH:
            raise self._fail("too many brackets")
        first = self._next()
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._list(depth)
        if first in _CLOSING:
            return self._string()
        if word := _WORD.match(self.text, self.position):
            if word[0] in _WORDS:
                self.position = word.end()
                return _WORDS[word[0]]
            raise self._fail("a value without quotes")
        if number := _NUMBER.match(self.text, self.position):
            self.position = number.end()
            return _DECODER.decode(number[0])
        raise self._fail("no value")

    def _object(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        self.position += 1
        while not self._ends("}"):
            key = self._key()
            if self._next() != ":":
                raise self._fail(f"no colon behind {key[:20]!r}")
            self.position += 1
            found[key] = self._value(depth + 1)
            if not self._separated("}"):
                break
        return found

    def _list(self, depth: int) -> list[object]:
        found: list[object] = []
        self.position += 1
        while not self._ends("]"):
            found.append(self._value(depth + 1))
            if not self._separated("]"):
                break
        return found

    def _key(self) -> str:
        if self._next() in _CLOSING:
            return self._string()
        if word := _WORD.match(self.text, self.position):
            self.position = word.end()
            return word[0]
        raise self._fail("no key")

    def _ends(self, bracket: str) -> bool:
        """Steps over the bracket, if it is the next character."""
        if self._next() != bracket:
            return False
        self.position += 1
        return True

    def _separated(self, bracket: str) -> bool:
        """True where another member may follow; False after the closing bracket."""
        found = self._next()
        if found == ",":
            self.position += 1
            return True
        if found == bracket:
            self.position += 1
            return False
        if not found and self.may_end_early:
            return False
        raise self._fail(f"no comma and no {bracket}")

    def _string(self) -> str:
        text, start = self.text, self.position
        closing = _CLOSING[text[start]]
        if text.startswith(text[start] * 3, start):
            closing = (text[start] * 3,)
        position = start + len(closing[0])
        parts: list[str] = []
        while position < len(text):
            if text[position] == "\\":
                part, position = self._escaped(position)
                parts.append(part)
            elif text.startswith(closing, position) and self._closes(position + len(closing[0])):
                self.position = position + len(closing[0])
                return "".join(parts)
            else:
                plain = _PLAIN.match(text, position)
                end = plain.end() if plain else position + 1
                parts.append(text[position:end])
                position = end
        raise UnreadableJson(start, "a string that does not end")

    def _closes(self, end: int) -> bool:
        return self.goes_on is None or self.goes_on.match(self.text, end) is not None

    def _escaped(self, position: int) -> tuple[str, int]:
        """What a backslash and its character mean, and where the text goes on."""
        text = self.text
        character = text[position + 1 : position + 2]
        if character == "u" and (digits := _HEXADECIMAL.match(text, position + 2)):
            # Two halves of one character stand side by side.
            pair = text[position : position + 12]
            for length in (12, 6):
                try:
                    value = json.loads(f'"{pair[:length]}"')
                except ValueError:
                    continue
                if len(value) == 1:
                    return value, position + length
            return chr(int(digits[0], 16)), position + 6
        if character in _CLOSING or character in "\u201d\u2019":
            return character, position + 1 + len(character)
        if character == "\n":
            return "\n", position + 2
        return _ESCAPES.get(character, "\\" + character), position + 1 + len(character)
