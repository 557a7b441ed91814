"""The rules: each says in what a gold departs from the obvious reading of its question.

A rule looks at the question, at the questions before it, and at the other golds of the dialogue: a
part that all of them share, or that the question words, is no departure.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mtsql.audit.reading import Asked, Comparison, asked, is_named, numbers_in, quoted_in
from mtsql.dialogue import Dialogue
from mtsql.query.names import Names
from mtsql.query.reading import tokens_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """A turn as the rules see it."""

    question: str
    said: str
    """The questions up to this one."""
    gold: Asked
    text: str
    """Of the gold."""
    others: tuple[Asked, ...]
    """The other golds of the dialogue."""


Departure = tuple[str, str]
"""A kind, and what departs in words."""


def departures(dialogue: Dialogue, index: int, names: Names) -> list[Departure]:
    """What the rules say of one turn, a kind at most once for each rule."""
    turn = dialogue.turns[index]
    gold = asked(turn.gold_sql, names)
    if gold is None:
        return []
    others = [asked(one.gold_sql, names) for one in dialogue.turns]
    turned = Turned(
        question=turn.question,
        said=" . ".join(one.question for one in dialogue.turns[: index + 1]),
        gold=gold,
        text=turn.gold_sql,
        others=tuple(one for place, one in enumerate(others) if place != index and one is not None),
    )
    return [found for rule in RULES for found in rule(turned)]


def _said(pattern: str, text: str) -> bool:
    return re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE) is not None


def value_unnamed(turn: Turned) -> Iterator[Departure]:
    """A condition's value that neither the dialogue names nor another of its golds holds."""
    held = {value for other in turn.others for value in other.values}
    for one in turn.gold.comparisons:
        value = one.value.strip("%")
        if one.value not in held and not is_named(value, turn.said):
            yield "value", f"no question names {one.value!r} ({one.subject} {one.operator})"
            return


def value_unused(turn: Turned) -> Iterator[Departure]:
    """A quoted text or a number of the question that no part of its gold has."""
    used = " ".join((*turn.gold.values, *map(str, turn.gold.limits))).lower()
    text = turn.text.lower()
    for quoted in quoted_in(turn.question):
        words = re.findall(r"\w+", quoted.lower())
        if words and not any(word[:4] in text for word in words):
            yield "condition", f"no condition uses {quoted!r}"
            return
    numbers = set(re.findall(r"(?<![\w.])\d+(?![\w.]*\w)", turn.question))
    given = set(re.findall(r"\d+", used))
    near = {str(int(one) + step) for one in given if len(one) < 18 for step in (-1, 1)}
    if missing := sorted(one for one in numbers - given - near if one not in text):
        yield "condition", f"no condition uses {missing[0]}"


CUES = {
    "avg": r"averages?|mean|avg",
    "max": r"max\w*|high\w*|large|larger|greatest|most|old\w*|biggest|top|latest|longest|tallest"
    r"|best|last|recent\w*|peak|heaviest|newest|\w+est",
    "min": r"min\w*|low\w*|small\w*|least|young\w*|fewest|earliest|shortest|worst|first|cheapest"
    r"|\w+est",
    "sum": r"totals?|sum\w*|overall|altogether|combined|amount|how (?:many|much)|number|all",
}


def aggregate(turn: Turned) -> Iterator[Departure]:
    """An aggregate without a word for it, or a word for one that is not there."""
    gold = turn.gold.aggregates
    others = {name for other in turn.others for name in other.aggregates}
    for name in ("avg", "max", "min", "sum"):
        if gold[name] and name not in others and not _said(CUES[name], turn.said):
            yield "aggregate", f"nothing asks for {name}"
            return
    strict = {
        "avg": r"average|mean|avg",
        "max": r"maximum|max",
        "min": r"minimum|min",
    }
    for name, pattern in strict.items():
        is_there = gold[name] or (name != "avg" and (turn.gold.orders or turn.gold.limits))
        has_another = any(gold[other] for other in ("avg", "max", "min", "sum"))
        is_column = name in turn.text.lower()
        if has_another and not is_there and not is_column and _said(pattern, turn.question):
            yield "aggregate", f"the question asks for {name}"
            return


_MORE = (
    r"more than|greater than|larger than|higher than|bigger than|over|above|older than|after"
    r"|higher|exceed\w*|longer than|heavier than|taller than|later than|at least|or more|or higher"
)
_LESS = (
    r"less than|lower|fewer than|smaller than|under|below|younger than|before|shorter than"
    r"|earlier than|at most|or less|cheaper than|no more than|or fewer|lighter than"
)


def comparison(turn: Turned) -> Iterator[Departure]:
    """> where the question says less, < where it says more, or not as in the golds beside it."""
    ups = [one for one in turn.gold.comparisons if one.operator in (">", ">=")]
    downs = [one for one in turn.gold.comparisons if one.operator in ("<", "<=")]
    more, less = _said(_MORE, turn.said), _said(_LESS, turn.said)
    if ups and not downs and less and not more:
        yield "comparison", f"the question says less, gold has {_shown(ups[0])}"
    elif downs and not ups and more and not less:
        yield "comparison", f"the question says more, gold has {_shown(downs[0])}"
    else:
        for one in (*ups, *downs):
            beside = {
                other.operator[0]
                for gold in turn.others
                for other in gold.comparisons
                if (other.subject, other.value) == (one.subject, one.value)
            }
            now_more, now_less = _said(_MORE, turn.question), _said(_LESS, turn.question)
            is_worded = now_more if one.operator[0] == ">" else now_less
            is_other = _said(r"between|range|others?|rest|except|not|how about", turn.question)
            if beside and one.operator[0] not in beside and not (is_worded or is_other):
                yield "comparison", f"the golds beside it compare otherwise: {_shown(one)}"
                return


def _shown(one: Comparison) -> str:
    return f"{one.subject} {one.operator} {one.value}"


_DOWN = (
    r"desc\w*|most|highest|largest|oldest|longest|greatest|biggest|maximum|decreasing|decrease|best|top"
    r"|tallest|heaviest|high to low|recent|latest|newest|popular"
)
_UP = (
    r"asc\w*|least|lowest|smallest|youngest|shortest|fewest|minimum|increasing|increase|alphabet\w*"
    r"|lexicograph\w*|earliest|cheapest|low to high|worst"
)
_TIMES = re.compile(r"date|year|birth|dob|time|rank|age\b|founded|opening", re.IGNORECASE)


def order(turn: Turned) -> Iterator[Departure]:
    """The other direction than the question says, or than the golds beside it have."""
    if len(turn.gold.orders) != 1:
        return
    [(subject, descends)] = turn.gold.orders
    down, up = _said(_DOWN, turn.question), _said(_UP, turn.question)
    if _said(r"revers\w*|opposite|bottom|last|list popular", turn.question):
        return
    if not _TIMES.search(subject):
        if descends and up and not down:
            yield "order", f"the question says ascending, gold descends by {subject}"
            return
        if not descends and down and not up:
            yield "order", f"the question says descending, gold ascends by {subject}"
            return
    beside = {way for gold in turn.others for name, way in gold.orders if name == subject}
    is_worded = down or up or _said(r"order\w*|sort\w*|rank\w*|from|by|how many", turn.question)
    if beside and descends not in beside and not is_worded:
        yield "order", f"the golds beside it order {subject} the other way"


_ONE = r"\w+est|most|least|max\w*|min\w*|top|first|last|best|worst|one|recent|fewest|common|popular"


def limit(turn: Turned) -> Iterator[Departure]:
    """LIMIT with a number that nobody names, or none where the question asks for the top 3."""
    held = {number for other in turn.others for number in other.limits}
    for number in turn.gold.limits:
        if number in held:
            continue
        if number > 1 and str(number) not in numbers_in(turn.said):
            yield "limit", f"no question names {number}"
            return
    wanted = re.search(r"\b(?:top|first) (\w+)\b", turn.question, re.IGNORECASE)
    named = numbers_in(wanted[1]) if wanted and turn.gold.orders else set[str]()
    if wanted and named and not {str(one) for one in turn.gold.limits} & named:
        yield "limit", f"the question asks for the {wanted[0]}"


_DIFFERENT = r"distinct|different|unique|various|unduplicated|duplicates?"


def distinct(turn: Turned) -> Iterator[Departure]:
    """No DISTINCT where the question says different, and nothing else that leaves out copies."""
    is_plain = not _said("group|union|intersect|except", turn.text)
    if is_plain and not turn.gold.is_distinct and _said(_DIFFERENT, turn.question):
        yield "distinct", "the question says different, gold has no DISTINCT"


def alias_unused(turn: Turned) -> Iterator[Departure]:
    """A joined table that nothing but one condition of its own join names."""
    tokens = tokens_of(turn.text)
    if tokens is None:
        return
    words = [token.text.lower() for token in tokens]
    if words.count("select") != 1:
        return
    for place, word in enumerate(words[:-1]):
        if word == "as" and words[place - 2] in ("join", "from"):
            alias = words[place + 1]
            uses = sum(words[at] == alias and words[at + 1] == "." for at in range(len(words) - 1))
            is_whole = all(
                words[at + 2 : at + 3] == ["."] for at, one in enumerate(words) if one == "="
            )
            if uses == 0 and "join" in words and is_whole:
                yield "join", f"no part of the query uses {words[place - 1]}"
                return


Rule = Callable[[Turned], Iterator[Departure]]
RULES: Sequence[Rule] = (
    value_unnamed,
    value_unused,
    aggregate,
    comparison,
    order,
    limit,
    distinct,
    alias_unused,
)
