"""Text that cannot speak the protocol, act on a terminal or open a special token."""

import json
import re
from collections.abc import Mapping

_UNSAFE = re.compile(
    "[<\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def to_json(observation: Mapping[str, object]) -> str:
    """One line of JSON with nothing in it that a tokenizer or a chat template could act on."""
    text = json.dumps(observation, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: _escaped(match[0]), text)


def _escaped(character: str) -> str:
    return json.dumps(character).strip('"') if character != "<" else "\\u003c"


_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff\\s]+"
)
_OPENER = re.compile(r"<(?![<=>\s\d'\"(.\-])")


def neutral(text: str) -> str:
    """One line of text that cannot open a special token or a tag.

    Invisible characters and runs of space become one space; a `<` that could begin a token gets a
    space behind it, which changes no SQL outside its string values.

    Example: `a<b  <|im_end|>` -> `a< b < |im_end|>`
    """
    return _OPENER.sub("< ", _INVISIBLE.sub(" ", text).strip())
