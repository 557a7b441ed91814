"""Predictions with their values replaced by gold's (the official option plug_value).

What counts as a value follows the official evaluator: strings in single or double quotes, and words
that look like numbers. The query is rebuilt from its words in lower case, one blank apart.
"""

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache

from mtsql.evaluation.ex.text import first_statement

SLOT = "VALUERARE"
"""Stands for a value; the official word, because a query may hold it by itself."""
_STARS = re.compile(r"[tT][123]\.\*")
_ALIAS_DOT = re.compile(r"(T\d+\.)\s")
_FRACTION = re.compile(r"[-+]?\d*\.\d+")
_DIGITS = re.compile(r"[^tT]\d+")
_ALIAS = re.compile(r"[Tt]\d+\.")


def plugged(gold_sql: str, pred_sql: str) -> tuple[int, Iterator[str]]:
    """How many ways there are to fill the prediction's slots, and the queries that come of it.

    Example: gold `a = 'x' AND b > 3`, prediction `SELECT a FROM t WHERE b > 9` has one slot and two
    values: `select a from t where b > 'x'` and `select a from t where b > 3`.
    """
    _, values = _words_and_values(gold_sql)
    words, _ = _words_and_values(pred_sql)
    places = [place for place, word in enumerate(words) if word == SLOT.lower()]

    def fill() -> Iterator[str]:
        filled = list(words)
        for chosen in itertools.product(values, repeat=len(places)):
            for place, value in zip(places, chosen, strict=True):
                filled[place] = value
            yield " ".join(filled)

    return len(values) ** len(places), fill()


@lru_cache(maxsize=4096)
def _words_and_values(sql: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The query's words, with slots for values, and its different values."""
    sql = sql.strip().replace(";", "").replace("\t", "")
    spaced = " ".join(word for kind, word in first_statement(sql) if kind != "space")
    spaced = _ALIAS_DOT.sub(r"\1", _STARS.sub("*", spaced))
    values = [word for kind, word in first_statement(spaced) if kind in ("string", "symbol")]
    for value in values:
        spaced = spaced.replace(value, SLOT)
    words = spaced.split()
    for pattern in (_FRACTION, _DIGITS):
        numbers = {number.strip() for number in pattern.findall(" ".join(words))}
        values += [word for word in words if word in numbers]
        words = [SLOT if word in numbers else word for word in words]
    return tuple(part for word in words for part in _parts(word)), tuple(dict.fromkeys(values))


def _parts(word: str) -> list[str]:
    """`T1.name` in three parts; any other word as it is."""
    word = word.lower()
    return word.replace(".", " . ").split() if _ALIAS.search(word) else [word]
