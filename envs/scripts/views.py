"""A query as a chain of views, as a script builds and mends it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from mtsql.chains.chain import Chain, View
from mtsql.chains.decompose import Style, chain_in_style, chains_by_style
from mtsql.chains.reading import ChainError
from mtsql.config.learning import ScriptConfig
from mtsql.mistakes.kinds import Mistake
from mtsql.mistakes.views import fan_out_join, lost_filter
from mtsql.protocol import ActionName, ToolCall
from mtsql.query.reading import tokens_of
from mtsql.schema import Schema

Observation = dict[str, Any]


class ViewPlan:
    """The views that a script is to propose, one after the other, and its slips in them.

    Of a query that it believes in later it knows which view differs first; that one is corrected,
    and those after it are proposed anew. A slip is a mistake in one view that its digest shows.

    Example, the condition is lost in the second view:
        joined_rows  SELECT city, price FROM shop JOIN sale ...   -> 5 rows
        kept_rows    SELECT city FROM joined_rows                 -> 5 rows, as before: corrected
        kept_rows    SELECT city FROM joined_rows WHERE price > 5
        result       SELECT city, count(*) FROM kept_rows GROUP BY city
    """

    def __init__(
        self, gold_sql: str, schema: Schema, scripts: ScriptConfig, rng: Random, only_view: str
    ) -> None:
        """
        Args:
            gold_sql: says in which styles the query can be taken apart.
            only_view: the name of a query that is proposed as one view.
        """
        self._schema = schema
        self._rng = rng
        self._only_view = only_view
        self._style: Style | None = None
        if scripts.several_views and rng.random() < scripts.several_views:
            with suppress(ChainError):
                self._style = rng.choice(list(chains_by_style(gold_sql, schema)))
        self._views: tuple[View, ...] = ()
        self._place = -1
        """Of the view that was proposed last."""
        self._num_rows: dict[str, int] = {}
        """Of the views that were looked at, by name."""
        self._wanted = [
            kind
            for kind, share in (
                (Mistake.FAN_OUT, scripts.fan_out),
                (Mistake.LOST_FILTER, scripts.lost_filter),
            )
            # Nothing is drawn for a share of 0: what other shares lead to does not depend on it.
            if share and rng.random() < share
        ]
        self._slip: tuple[int, Mistake, str] | None = None
        self.made: set[Mistake] = set()
        self.noticed: set[Mistake] = set()

    @property
    def standing(self) -> frozenset[Mistake]:
        """The slip in what was proposed, if it is still there."""
        return frozenset({self._slip[1]} if self._slip and self._slip[0] <= self._place else ())

    @property
    def is_done(self) -> bool:
        return self._place == len(self._views) - 1

    def begin(self, sql: str) -> None:
        """Plan the query that the script believes in."""
        self._views = self._taken_apart(sql)
        options = [
            (place, kind, wrong)
            for kind in self._wanted
            for place, view in enumerate(self._views[:-1])
            if (wrong := self._wrong(kind, view.sql)) is not None
        ]
        self._slip = self._rng.choice(options) if options else None

    def next_call(self) -> ToolCall:
        """Propose the next view."""
        self._place += 1
        self.made |= self.standing
        view = self._views[self._place]
        return ToolCall(name=ActionName.PROPOSE, view=view.name, sql=self._said(self._place))

    def see(self, seen: Observation) -> bool:
        """Whether the digest of the view that was proposed last shows the slip in it."""
        view = self._views[self._place]
        if "num_rows" in seen:
            self._num_rows[view.name] = seen["num_rows"]
        if self._slip is None or self._slip[0] != self._place:
            return False
        _, kind, sql = self._slip
        if kind is Mistake.FAN_OUT:
            is_shown = "fan_out" in seen.get("warnings", {})
        else:
            before = [name for name in self._num_rows if name in _words(sql)]
            is_shown = any(self._num_rows[name] == seen.get("num_rows") for name in before)
        if is_shown:
            self.noticed.add(kind)
        return is_shown

    def mend_slip(self) -> ToolCall:
        """Correct the view that was proposed last."""
        self._slip = None
        return ToolCall(name=ActionName.CORRECT, sql=self._said(self._place))

    def mend(self, sql: str) -> ToolCall | None:
        """Correct the first view that differs in the query that is believed in now; None: none of
        those that were proposed does.
        """
        first, self._views = _aligned(self._taken_apart(sql), self._views)
        if first > self._place:
            return None
        view = None if first == self._place else self._views[first].name
        self._place = first
        if self._slip is not None and self._slip[0] >= first:
            self._slip = None
        return ToolCall(name=ActionName.CORRECT, view=view, sql=self._said(first))

    def _said(self, place: int) -> str:
        if self._slip is not None and self._slip[0] == place:
            return self._slip[2]
        return self._views[place].sql

    def _taken_apart(self, sql: str) -> tuple[View, ...]:
        one = (View(name=self._only_view, sql=sql),)
        if self._style is None:
            return one
        try:
            views = chain_in_style(sql, self._schema, self._style).views
        except ChainError:
            return one
        tables = {table.name.lower() for table in self._schema.tables}
        *before, last = views
        while last.name.lower() in tables:
            last = replace(last, name=f"{last.name}_rows")
        return (*before, last)

    def _wrong(self, kind: Mistake, sql: str) -> str | None:
        if kind is Mistake.FAN_OUT:
            return fan_out_join(sql, self._schema, self._rng)
        names = {view.name for view in self._views}
        return lost_filter(sql) if names & _words(sql) else None


def _aligned(views: Sequence[View], old: Sequence[View]) -> tuple[int, tuple[View, ...]]:
    """The first place where they differ, behind the last view if nowhere; and the views with the
    old name there.

    Where another view needs that name, the rest of the chain goes into this one view.
    """
    if views == old:
        return len(old), tuple(old)
    same = 0
    while same < min(len(views), len(old)) - 1 and views[same] == old[same]:
        same += 1
    here, name = views[same], old[same].name
    if name == here.name:
        return same, tuple(views)
    rest = views[same:]
    if any(view.name == name for view in views):
        return same, (*views[:same], View(name=name, sql=Chain(tuple(rest)).sql))
    names = {here.name: name}
    renamed = (replace(view, sql=_renamed(view.sql, names)) for view in rest[1:])
    return same, (*views[:same], replace(here, name=name), *renamed)


def _words(sql: str) -> set[str]:
    return {token.text for token in tokens_of(sql) or ()}


def _renamed(sql: str, names: Mapping[str, str]) -> str:
    """The query with other names of views, which are chosen to be no other names of it."""
    for token in reversed(tokens_of(sql) or ()):
        if token.text in names and sql[token.start : token.end + 1] == token.text:
            sql = sql[: token.start] + names[token.text] + sql[token.end + 1 :]
    return sql
