"""The chains of a dialogue's earlier turns."""

from collections.abc import Sequence
from functools import lru_cache

from mtsql.chains.chain import View
from mtsql.chains.reading import ChainError, read_chain
from mtsql.dialogue import PastTurn


@lru_cache(maxsize=4096)
def views_of(sql: str) -> tuple[View, ...]:
    """The views of an earlier turn's query, its own SELECT last; () if it cannot be read."""
    try:
        return read_chain(sql).views
    except ChainError:
        return ()


def earlier_views(history: Sequence[PastTurn]) -> tuple[View, ...]:
    """All views of earlier turns, the latest first, so that the latest of a name is found first."""
    return tuple(view for turn in reversed(history) for view in reversed(views_of(turn.sql)))


def told_views(turn: PastTurn) -> dict[str, str]:
    """The SQL of each view of a turn by name; {} where its query is no chain."""
    views = views_of(turn.sql)
    return {view.name: view.sql for view in views} if len(views) > 1 else {}
