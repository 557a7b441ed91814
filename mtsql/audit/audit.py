"""All findings about a dataset's golds: facts that running them tells, and departures by rule."""

import asyncio
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress

from mtsql.audit.planting import PLANTS, plant
from mtsql.audit.reading import asked
from mtsql.audit.rules import departures
from mtsql.config.reward import RewardConfig
from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import Dataset
from mtsql.data.golds import check_golds
from mtsql.dialogue import Dialogue
from mtsql.evaluation.golds import Gold, GoldFacts
from mtsql.query.names import names_of
from mtsql.rewards.golds import rules_of
from mtsql.sql.pool import LocalPool

FACTS = ("fails", "unread", "wrong", "empty", "cuts_tie")
"""Kinds that running a gold tells; all but `fails` are no label error by themselves."""
DEPARTURES = ("value", "condition", "aggregate", "comparison", "order", "limit", "distinct", "join")
"""Kinds of what departs from the question."""
ERRORS = ("fails", *DEPARTURES)
"""Kinds that say that a label is wrong."""
MAX_SHARE = 0.003
"""A rule that departs from more of the golds than this tells habits of the labels, not errors: in a
dataset of MIN_TURNS or more it is left out, and named."""
MIN_TURNS = 1000


class Finding(BaseModel, frozen=True, use_attribute_docstrings=True):
    """One line of `--out`; a file of such lines is one that `data.exclude` reads."""

    dialogue_id: str
    turn: int
    """From 0, as the last part of the turn's id."""
    split: str
    kind: str
    detail: str
    question: str
    gold: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What planted errors show. Shares are 0..1; None: nothing to count."""

    num_planted: int
    precision: Mapping[str, float | None]
    """By kind of finding, of the whole set with the planted golds in place: turns with a planted
    error among the turns that have a finding of the kind."""
    recall: Mapping[str, float | None]
    """By kind of planted error: those with a finding of any kind in ERRORS."""
    overall_precision: float | None
    """Of all kinds in ERRORS together, in the whole set."""
    balanced_precision: float | None
    """Likewise, of the planted turns and as many untouched ones."""
    overall_recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    num_turns: int
    findings: tuple[Finding, ...]
    muted: Mapping[str, int]
    """Kinds that are left out because of MAX_SHARE, and how often they would be found."""
    measured: Measured

    def as_json(self) -> str:
        counts = Counter(one.kind for one in self.findings)
        measured = self.measured
        fields = {
            "num_turns": self.num_turns,
            "findings": {kind: counts[kind] for kind in (*FACTS, *DEPARTURES)},
            "precision": dict(measured.precision),
            "recall": dict(measured.recall),
            "num_planted": measured.num_planted,
            "overall_precision": measured.overall_precision,
            "balanced_precision": measured.balanced_precision,
            "overall_recall": measured.overall_recall,
            "muted": dict(self.muted),
        }
        return json.dumps(fields, indent=1)


@dataclass(frozen=True, slots=True)
class _Place:
    split: str
    dialogue: Dialogue
    index: int

    @property
    def gold(self) -> Gold:
        return self.dialogue.db_id, self.dialogue.turns[self.index].gold_sql


def audit(
    dataset: Dataset, sql: SqlConfig, reward: RewardConfig, *, num_planted: int, seed: int
) -> Audit:
    """Look at every gold, and measure the rules on errors that are planted in copies of some.

    Args:
        sql, reward: of the run that is to use the dataset.
        num_planted: errors to plant, at most one in a dialogue and in a third of the turns.
    """
    return asyncio.run(_Auditor(dataset, sql, reward).run(num_planted, seed))


class _Auditor:
    def __init__(self, dataset: Dataset, sql: SqlConfig, reward: RewardConfig) -> None:
        self._dataset = dataset
        self._sql = sql
        self._reward = reward
        self._names = {db_id: names_of(schema) for db_id, schema in dataset.schemas.items()}
        self._places = [
            _Place(split, dialogue, index)
            for split, dialogues in dataset.splits.items()
            for dialogue in dialogues
            for index in range(len(dialogue.turns))
        ]
        self._texts = self._known_texts()

    async def run(self, num_planted: int, seed: int) -> Audit:
        async with LocalPool(self._dataset.databases, **self._sql.pool()) as pool:
            limits, rules = self._sql.limits(), rules_of(self._reward)

            async def facts_of(golds: Sequence[Gold]) -> dict[Gold, GoldFacts]:
                schemas = self._dataset.schemas
                return await check_golds(golds, pool, schemas, limits=limits, rules=rules)

            facts = await facts_of([place.gold for place in self._places])
            found = [self._look(place, facts) for place in self._bar(self._places)]
            counts = Counter(kind for kinds in found for kind in {kind for kind, _ in kinds})
            muted = {
                kind: counts[kind]
                for kind in DEPARTURES
                if len(found) >= MIN_TURNS and counts[kind] > MAX_SHARE * len(found)
            }
            planted = self._plant(num_planted, Random(seed))
            planted_facts = await facts_of([place.gold for _, _, place in planted])
        looked = [
            (number, kind, {kind for kind, _ in self._look(place, planted_facts)} - muted.keys())
            for number, kind, place in planted
        ]
        kept = [[one for one in kinds if one[0] not in muted] for kinds in found]
        return Audit(
            num_turns=len(found),
            findings=tuple(
                _finding(place, kind, detail)
                for place, kinds in zip(self._places, kept, strict=True)
                for kind, detail in kinds
            ),
            muted=muted,
            measured=_measured([{kind for kind, _ in kinds} for kinds in kept], looked),
        )

    def _bar(self, places: Sequence[_Place]) -> Iterator[_Place]:
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            yield from progress.track(places, description="reading questions")

    def _look(self, place: _Place, facts: Mapping[Gold, GoldFacts]) -> list[tuple[str, str]]:
        """(kind, detail), each kind once."""
        dialogue, index = place.dialogue, place.index
        one = facts[place.gold]
        found: list[tuple[str, str]] = []
        if one.failure:
            found.append(("fails", one.failure))
        if one.is_unread:
            found.append(("unread", "outside Spider's subset"))
        if one.is_wrong:
            found.append(("wrong", "does not match itself"))
        if one.is_empty:
            found.append(("empty", "gives no row"))
        if one.cuts_tie:
            found.append(("cuts_tie", "its LIMIT cuts a tie"))
        found += departures(dialogue, index, self._names[dialogue.db_id])
        if one.is_empty and (spelt := self._spelt_otherwise(place)):
            found.append(("value", spelt))
        if dropped := self._forgotten(place):
            found.append(("condition", dropped))
        return list({kind: (kind, detail) for kind, detail in reversed(found)}.values())[::-1]

    def _known_texts(self) -> dict[str, dict[str, Counter[str]]]:
        """The texts that golds compare with, by database and without case, in their spellings."""
        known: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for place in self._places:
            db_id, sql = place.gold
            gold = asked(sql, self._names[db_id])
            for value in gold.values if gold is not None else ():
                if re.search(r"[^\W\d_]{2}", value):
                    known[db_id][value.lower()][value] += 1
        return known

    def _spelt_otherwise(self, place: _Place) -> str:
        """Of a gold without rows: a text that other golds write in another case."""
        db_id, sql = place.gold
        gold = asked(sql, self._names[db_id])
        for value in sorted(gold.values) if gold is not None else ():
            spellings = self._texts[db_id].get(value.lower(), Counter[str]())
            usual = [text for text, _ in spellings.most_common() if text != value]
            if usual and spellings[usual[0]] >= spellings[value]:
                return f"other golds write {usual[0]!r}, this one {value!r}"
        return ""

    def _forgotten(self, place: _Place) -> str:
        """A text that the question names as a whole, known from other golds and not in this one."""
        db_id, sql = place.gold
        question, gold = place.dialogue.turns[place.index].question, sql.lower()
        names = self._names[db_id]
        for value, spellings in self._texts[db_id].items():
            text = spellings.most_common(1)[0][0]
            if len(value) < 4 or text == value or spellings.total() < 2 or value in gold:
                continue
            # In the question's own capitals: a common word is no value.
            if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", question) is None:
                continue
            is_name = value in names.columns or value in names.tables_by_column
            parts = [word for word in re.findall(r"\w+", value) if len(word) > 3]
            if not is_name and not question.startswith(text) and not any(p in gold for p in parts):
                return f"no condition uses {text!r}"
        return ""

    def _plant(self, num: int, rng: Random) -> list[tuple[int, str, _Place]]:
        """(number of the place, kind, the place with an error), in equal shares if they can."""
        num = min(num, len(self._places) // 3)
        numbers = rng.sample(range(len(self._places)), len(self._places))
        counts: Counter[str] = Counter(dict.fromkeys(PLANTS, 0))
        taken: set[str] = set()
        planted: list[tuple[int, str, _Place]] = []
        for number in numbers:
            if len(planted) == num:
                break
            place = self._places[number]
            turn = place.dialogue.turns[place.index]
            if place.dialogue.dialogue_id in taken:
                continue
            schema = self._dataset.schemas[place.dialogue.db_id]
            for kind, _ in sorted(counts.items(), key=lambda item: item[1]):
                sql = plant(kind, turn.gold_sql, turn.question, schema, rng)
                if sql is not None:
                    turns = list(place.dialogue.turns)
                    turns[place.index] = turn.model_copy(update={"gold_sql": sql})
                    dialogue = place.dialogue.model_copy(update={"turns": tuple(turns)})
                    planted.append((number, kind, _Place(place.split, dialogue, place.index)))
                    counts[kind] += 1
                    taken.add(dialogue.dialogue_id)
                    break
        return planted


def _finding(place: _Place, kind: str, detail: str) -> Finding:
    turn = place.dialogue.turns[place.index]
    return Finding(
        dialogue_id=place.dialogue.dialogue_id,
        turn=int(turn.turn_id.rsplit("/", 1)[-1]),
        split=place.split,
        kind=kind,
        detail=detail,
        question=turn.question,
        gold=turn.gold_sql,
    )


def _measured(
    untouched: Sequence[set[str]], planted: Sequence[tuple[int, str, set[str]]]
) -> Measured:
    """
    Args:
        untouched: kinds found at each place.
        planted: (number of the place, kind of the error, kinds found there now).
    """
    errors = set(ERRORS)
    replaced = {number for number, _, _ in planted}
    rest = [kinds for number, kinds in enumerate(untouched) if number not in replaced]
    hits = [bool(kinds & errors) for _, _, kinds in planted]
    false_alarms = sum(bool(kinds & errors) for kinds in rest)
    balanced = false_alarms * len(planted) / len(rest) if rest else 0.0

    def precision(kind: str) -> float | None:
        right = sum(kind in kinds for _, _, kinds in planted)
        return _share(right, right + sum(kind in kinds for kinds in rest))

    return Measured(
        num_planted=len(planted),
        precision={kind: precision(kind) for kind in (*FACTS, *DEPARTURES)},
        recall={
            kind: _share(
                sum(hit for (_, one, _), hit in zip(planted, hits, strict=True) if one == kind),
                sum(one == kind for _, one, _ in planted),
            )
            for kind in PLANTS
        },
        overall_precision=_share(sum(hits), sum(hits) + false_alarms),
        balanced_precision=_share(sum(hits), sum(hits) + balanced),
        overall_recall=_share(sum(hits), len(hits)),
    )


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
