"""What a gold asks and what a question names, as far as rules compare the two."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import SqlglotError

from mtsql.query.names import Names
from mtsql.query.reading import SQLITE, parse_query
from mtsql.query.texts import Texts

AGGREGATES: dict[type[exp.Expr], str] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
}
MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.Like: "like",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """`subject operator value`, the value a literal."""

    subject: str
    """In lower case, without its table's alias."""
    operator: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parts of a gold that a question usually words."""

    comparisons: tuple[Comparison, ...]
    aggregates: Counter[str]
    """Of the outputs of all SELECTs, and of HAVING and ORDER BY."""
    orders: tuple[tuple[str, bool], ...]
    """(what it orders by, whether it descends) of each ORDER BY item."""
    limits: tuple[int, ...]
    is_distinct: bool

    @property
    def values(self) -> frozenset[str]:
        return frozenset(one.value for one in self.comparisons)


@lru_cache(maxsize=16384)
def asked(sql: str, names: Names) -> Asked | None:
    """None where the text is no query that can be read."""
    tree = parse_query(sql)
    if tree is None:
        return None
    try:
        return Asked(
            comparisons=tuple(_comparisons(tree, Texts(tree, sql, names))),
            aggregates=Counter(
                word for kind, word in AGGREGATES.items() for _ in tree.find_all(kind)
            ),
            orders=tuple(
                (_subject(item.this), bool(item.args.get("desc")))
                for item in tree.find_all(exp.Ordered)
            ),
            limits=tuple(
                int(limit.expression.name)
                for limit in tree.find_all(exp.Limit)
                if limit.expression.name.isdigit()
            ),
            is_distinct=tree.find(exp.Distinct) is not None,
        )
    except (SqlglotError, RecursionError):
        return None


def _comparisons(tree: exp.Expr, texts: Texts) -> list[Comparison]:
    found: list[Comparison] = []
    for kind, operator in _OPERATORS.items():
        for node in tree.find_all(kind):
            for subject, value, sign in (
                (node.this, node.expression, operator),
                (node.expression, node.this, MIRRORED.get(operator, operator)),
            ):
                text = _text(value, texts)
                if text is not None:
                    found.append(Comparison(_subject(subject), sign, text))
                    break
    for node in tree.find_all(exp.Between):
        for key, sign in (("low", ">="), ("high", "<=")):
            text = _text(node.args[key], texts)
            if text is not None:
                found.append(Comparison(_subject(node.this), sign, text))
    return found


def _text(node: exp.Expr, texts: Texts) -> str | None:
    """Of a literal, a negative number or a text in double quotes."""
    if isinstance(node, exp.Neg):
        node = node.this
    if isinstance(node, exp.Literal):
        return node.name
    if texts.is_text(node):
        return node.name
    return None


def _subject(node: exp.Expr) -> str:
    if isinstance(node, exp.Column):
        return node.name.lower()
    return re.sub(r"\b\w+\.", "", node.sql(dialect=SQLITE, comments=False).lower())


NUMBER_WORDS = {
    word: str(number)
    for number, words in enumerate(
        (
            "zero none no",
            "one once single first a an any only ever",
            "two twice second couple both double pair",
            "three thrice third",
            "four fourth",
            "five fifth",
            "six sixth",
            "seven seventh",
            "eight eighth",
            "nine ninth",
            "ten tenth",
            "eleven",
            "twelve dozen",
        )
    )
    for word in words.split()
}
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def numbers_in(text: str) -> set[str]:
    """Numbers as digits, also those that stand as words.

    Example: the 3 oldest of two shops, above 1,000
        1000, 2, 3
    """
    found = {match[0].replace(",", "") for match in _NUMBER.finditer(text)}
    return found | {
        NUMBER_WORDS[word] for word in _WORD.findall(text.lower()) if word in NUMBER_WORDS
    }


def is_named(value: str, text: str) -> bool:
    """Whether a text names a value: a number in digits or words, or a word that begins alike.

    Codes of one or two letters, 0 and 1 often stand for what is worded otherwise: they count as
    named.

    Example: "United States" is named by `in the USA and other states`, 'F' by anything.
    """
    number = value.replace(",", "")
    if _is_number(number):
        return float(number) in (0.0, 1.0) or any(
            abs(float(one) - float(number)) <= 1 for one in numbers_in(text) if _is_number(one)
        )
    words = [word for word in _WORD.findall(value.lower()) if len(word) > 2 or word.isdigit()]
    if not words:
        return True
    said = _WORD.findall(text.lower())
    return any(
        other.startswith(word[:4]) or (len(other) > 3 and word.startswith(other[:4]))
        for word in words
        for other in said
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


def quoted_in(text: str) -> list[str]:
    """What stands in quotes, which may be of the typographic kind."""
    marks = "\"'\u2018\u2019\u201c\u201d`"
    return [
        one.strip()
        for one in re.findall(rf"(?:(?<=\s)|^)[{marks}]+([^{marks}]+)[{marks}]+(?!\w)", text)
        if one.strip()
    ]
