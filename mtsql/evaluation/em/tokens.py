"""Spider's words: where its reader, and NLTK's word tokenizer below it, cut a query."""

import re

_SPLITTERS = "()\\[\\]{}<>*;@#$%&?!«»“”„‘’\u2012-\u2015`"  # noqa: RUF001 - they split words too
_TOKEN = re.compile(
    rf"""
      [:,](?!\d) | `+ | [{_SPLITTERS}] | -- | \.{{2,}}
    | \.(?=[\])}}>»”’ ]*\s*$)                    # a full stop that ends the text
    | (?: "[^"]*" | [:,](?=\d) | -(?!-) | \.(?!\.|[\])}}>»”’ ]*\s*$) | [^\s":,.\-{_SPLITTERS}] )+
    """,  # noqa: RUF001
    re.VERBOSE,
)
_LITERAL = re.compile(r'"[^"]*"')
_CONTRACTED = re.compile(
    r"""
      "[^"]*"
    | \b (?P<first> can(?=not\b) | gim(?=me\b) | gon(?=na\b) | got(?=ta\b) | lem(?=me\b)
                   | wan(?=na(?:\s|$)) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""NLTK cuts these words in two."""


class NotInSubset(Exception):
    """The text is outside Spider's subset; the message says why."""


def tokenize(sql: str) -> list[str]:
    """Lower-case words and signs; a string keeps its case and is wrapped in double quotes.

    Example: `WHERE T1.Name = 'Bo' AND a > = 3` gives where t1.name = "Bo" and a >= 3

    Words are cut where NLTK's word tokenizer cuts them, hence `a=3` and `1,2` are single words.

    Raises:
        NotInSubset: the number of quotes is odd.
    """
    text = sql.replace("'", '"')
    if text.count('"') % 2:
        raise NotInSubset("a quote does not end")
    if _CONTRACTED.search(text):
        text = _CONTRACTED.sub(_cut, text)
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word == "=" and tokens and tokens[-1] in ("!", ">", "<"):
            tokens[-1] += "="
        elif '"' not in word:
            tokens.append(word.lower())
        elif _LITERAL.fullmatch(word):
            tokens.append(word)
        else:  # a string glued to something is neither a string nor a name
            tokens.append(_LITERAL.sub(f"__literal_{match.start()}__", word).lower())
    return tokens


def _cut(match: re.Match[str]) -> str:
    return f" {match['first']} " if match["first"] else match[0]
