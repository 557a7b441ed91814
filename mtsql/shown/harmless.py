"""Text that cannot speak the protocol, act on a terminal, open a special token or hide anything.

`HIDDEN` is one set of characters for all uses: control, zero-width, direction and tag characters,
variation selectors, line separators, lone surrogates and the specials. What becomes of them:

    to_json    observations    an escape, so that the text stays JSON for the same data; `<` too
    neutral    prompts         a space, as of a run of spaces; a `<` gets one after it, and three
                               backticks one between
    visible    terminals       an escape, as Python writes it
"""

import json
import re
from collections.abc import Mapping

HIDDEN = (
    "\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff"
)
"""The inside of a character class."""
_BRACKETED = (
    r"\[(?=/?(?:INST|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|AVAILABLE_TOOLS|SYSTEM_PROMPT|ARGS|CALL_ID"
    r"|THINK|PREFIX|MIDDLE|SUFFIX|IMG|IMG_BREAK|IMG_END|AUDIO|gMASK|sMASK|MASK|CLS|SEP|PAD|UNK)\])"
)
"""Opens a special token of Mistral or GLM, which stands in square brackets."""
_UNSAFE = re.compile(f"[<{HIDDEN}]|{_BRACKETED}")
_BLANK = re.compile(f"[{HIDDEN}\\s]+")
_HIDDEN = re.compile(f"[{HIDDEN}]")
_OPENER = re.compile(rf"<(?![<=>\s\d'\"(.\-])|``(?=`)|{_BRACKETED}")


def to_json(observation: Mapping[str, object]) -> str:
    """One line of JSON with nothing in it that a tokenizer or a chat template could act on."""
    text = json.dumps(observation, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: _escaped(match[0]), text)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if character in "<[" else json.dumps(character).strip('"')


def neutral(text: str) -> str:
    """One line of text that cannot open a special token or a tag.

    Hidden characters and runs of space become one space; a `<` or `[` that could begin a token, or
    backticks that could begin a code block, get a space between, which changes no SQL outside its
    string values.

    Example: `a<b  <|im_end|>` -> `a< b < |im_end|>`
    """
    return _OPENER.sub(r"\g<0> ", _BLANK.sub(" ", text).strip())


def neutral_name(text: str) -> str:
    """The same for a name in quotes, of which every space counts."""
    return _OPENER.sub(r"\g<0> ", _HIDDEN.sub(" ", text))


def begins_a_tag(text: str) -> bool:
    """Whether it holds an opening that no text which is shown holds."""
    return _OPENER.search(text) is not None


def visible(text: str, *, keep: str = "") -> str:
    """Every character to be seen, those in `keep` as they are: ESC is `\\x1b`, a tab `\\t`."""
    return _HIDDEN.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)
