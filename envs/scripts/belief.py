"""What a script gets wrong, and how it finds out: by looking, as the agent does."""

from collections.abc import Collection, Iterator, Sequence
from random import Random
from typing import Any

from mtsql.config.learning import ScriptConfig
from mtsql.dialogue import TurnSpec
from mtsql.mistakes.joins import missing_join
from mtsql.mistakes.kinds import Mistake
from mtsql.mistakes.values import unstored_value
from mtsql.query.edits import (
    condition_keys,
    dropped_condition,
    flip_case,
    guessed_columns,
    wrong_column,
)
from mtsql.query.names import names_of
from mtsql.query.scopes import ColumnKey
from mtsql.query.texts import text_conditions

Observation = dict[str, Any]

_BY_ERROR = frozenset({Mistake.WRONG_COLUMN, Mistake.MISSING_JOIN})
_BY_EMPTINESS = frozenset({Mistake.WRONG_CASE, Mistake.EMPTY_RESULT})


class Belief:
    """The query as the script believes it to be: gold with mistakes, until it sees them.

    Values in the wrong case go with all others; of a wrong column and a missing join there is one
    at most, and so of a forgotten condition and a value that is stored nowhere.

    Example, `city` is guessed in the wrong case and a column is wrong:
        say()    SELECT color FROM shop WHERE city = 'Rome'    its error is seen and corrected
        say()    SELECT name FROM shop WHERE city = 'Rome'     its emptiness is seen and corrected
        say()    SELECT name FROM shop WHERE city = 'ROME'     all was noticed, nothing is standing
    """

    def __init__(
        self, spec: TurnSpec, scripts: ScriptConfig, rng: Random, hinted: Collection[str] = ()
    ) -> None:
        """
        Args:
            hinted: stored values that the prompt shows.
        """
        self._question = spec.turn.question
        self._gold = spec.turn.gold_sql
        self._names = names_of(spec.schema)
        self._said = "\n".join([self._question, *_told(spec), *hinted])
        self._wrong_case: set[ColumnKey] = {
            column
            for column in misleading_columns(spec, hinted)
            if rng.random() < scripts.wrong_case
        }
        self._forgetful: str | None = None
        if rng.random() < scripts.dropped_condition and spec.history:
            earlier = condition_keys(spec.history[-1].sql)
            self._forgetful = dropped_condition(self._gold, rng, among=earlier)
        self._unstored = None
        # Nothing is drawn for a share of 0: what other shares lead to does not depend on it.
        if self._forgetful is None and scripts.empty_result and rng.random() < scripts.empty_result:
            self._unstored = unstored_value(
                self._gold, spec.schema, rng, said=self._said, avoid=self._wrong_case
            )
        self._broken: tuple[Mistake, str] | None = None
        if rng.random() < scripts.wrong_column:
            self._break(Mistake.WRONG_COLUMN, wrong_column(self._sql(), spec.schema, rng))
        if self._broken is None and scripts.missing_join and rng.random() < scripts.missing_join:
            self._break(Mistake.MISSING_JOIN, missing_join(self._sql(), spec.schema, rng))
        self.made: set[Mistake] = set()
        self.noticed: set[Mistake] = set()
        self.standing: frozenset[Mistake] = frozenset()
        """The mistakes in what was said last."""

    def say(self) -> str:
        """The query for the next proposal."""
        self.standing = frozenset(self._mistakes())
        self.made |= self.standing
        return self._broken[1] if self._broken is not None else self._sql()

    def see_result(self, seen: Observation) -> None:
        self.noticed |= self.standing & _shown(seen)

    def mend_result(self, seen: Observation) -> bool:
        """Give up what a failing result shows to be wrong; False: nothing that it shows."""
        if "error" in seen:
            is_known, self._broken = self._broken is not None, None
            return is_known
        is_known = bool(self._wrong_case)
        # The reply shows what the column stores, so the second attempt is not a guess.
        self._wrong_case = set[ColumnKey]()
        if self._unstored is not None and self._can_tell(self._unstored.meant, seen):
            is_known, self._unstored = True, None
        return is_known

    def see_memory(self, comparison: Observation) -> bool:
        """Whether it shows that a condition is forgotten."""
        is_lost = self._forgetful is not None and _drops_condition(comparison)
        if is_lost:
            self.noticed |= self.standing & {Mistake.DROPPED_CONDITION}
        return is_lost

    def mend_memory(self) -> None:
        self._forgetful = None
        self._broken = None

    def _break(self, kind: Mistake, sql: str | None) -> None:
        if sql is not None:
            self._broken = kind, sql

    def _sql(self) -> str:
        """Without the mistakes that break it."""
        return flip_case(self._base(), self._wrong_case, question=self._question, names=self._names)

    def _base(self) -> str:
        if self._unstored is not None:
            return self._unstored.sql
        return self._forgetful or self._gold

    def _mistakes(self) -> Iterator[Mistake]:
        if self._broken is not None:
            yield self._broken[0]
        if self._sql() != self._base():
            yield Mistake.WRONG_CASE
        if self._unstored is not None:
            yield Mistake.EMPTY_RESULT
        if self._forgetful is not None:
            yield Mistake.DROPPED_CONDITION

    def _can_tell(self, meant: str, seen: Observation) -> bool:
        """It stands in the dialogue, or the reply shows that it is stored."""
        stored: dict[str, list[Any]] = seen.get("stored", {})
        shown = [str(value) for values in stored.values() for value in values]
        said = self._said.lower()
        return meant.lower() in said or meant in said.replace(",", "") or meant in shown


def misleading_columns(spec: TurnSpec, hinted: Collection[str] = ()) -> list[ColumnKey]:
    """Columns whose text values the agent is likely to write in the wrong case.

    No earlier SQL and no hint shows one of their values, and the question does not spell it as the
    database does.
    """
    names = names_of(spec.schema)
    known = {
        condition.column
        for past in spec.history
        for condition in text_conditions(past.sql, names)
        if condition.looks_at_case
    }
    spelt = {
        condition.column
        for condition in text_conditions(spec.turn.gold_sql, names)
        if condition.looks_at_case
        and (condition.value in spec.turn.question or condition.value in hinted)
    }
    return guessed_columns(spec.turn.gold_sql, known=known | spelt, names=names)


def looks_wrong(seen: Observation) -> bool:
    """An error, or a result that is empty, all NULL or a single zero."""
    return "error" in seen or "note" in seen


def _shown(seen: Observation) -> frozenset[Mistake]:
    """The kinds that lead to such a result."""
    if "error" in seen:
        return _BY_ERROR
    return _BY_EMPTINESS if "note" in seen else frozenset()


def _told(spec: TurnSpec) -> Sequence[str]:
    return [text for past in spec.history for text in (past.question, past.sql)]


def _drops_condition(comparison: Observation) -> bool:
    return any(element.startswith("where ") for element in comparison.get("dropped", ()))
