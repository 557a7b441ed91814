"""How much of a split can be answered from memory: what its golds share with those of train."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mtsql.dialogue import Dialogue
from mtsql.query.names import names_of
from mtsql.query.used import SEEN_BANDS, Used, names_in, seen_band, share_seen, used_by
from mtsql.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Different names, and how many of them train has, too."""

    num: int
    num_seen: int

    @property
    def share(self) -> float | None:
        return self.num_seen / self.num if self.num else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSeen:
    """What a split shares with train, each name once.

    Example: train asks about singer (name, age), the split about singer (name, city) in 'Rome'
        gold_tables 1 of 1, gold_columns 1 of 2, gold_texts 0 of 1; 2 of 3 names: half or more
    """

    schema_tables: Seen
    """Of the split's databases; seen in a database of train."""
    schema_columns: Seen
    gold_tables: Seen
    """Used by the split's golds; seen in a gold of train."""
    gold_columns: Seen
    gold_texts: Seen
    """Compared with a column; letter case does not count."""
    turns: Mapping[str, int]
    """Turns by the share of tables and columns of their gold that golds of train use: `none`,
    `below half`, `half or more`, `all`; those whose gold names none are not there."""


def seen_of(
    dialogues: Sequence[Dialogue], train: Sequence[Dialogue], schemas: Mapping[str, Schema]
) -> SplitSeen:
    """Compare a split with train."""
    known, known_names = golds_use(train, schemas), _schemas_have(train, schemas)
    own, own_names = golds_use(dialogues, schemas), _schemas_have(dialogues, schemas)
    shares = [share_seen(one, known) for dialogue in dialogues for one in _used(dialogue, schemas)]
    bands = Counter(seen_band(share) for share in shares if share is not None)
    return SplitSeen(
        schema_tables=_seen(own_names.tables, known_names.tables),
        schema_columns=_seen(own_names.columns, known_names.columns),
        gold_tables=_seen(own.tables, known.tables),
        gold_columns=_seen(own.columns, known.columns),
        gold_texts=_seen(own.texts, known.texts),
        turns={band: bands[band] for band in SEEN_BANDS},
    )


def golds_use(dialogues: Iterable[Dialogue], schemas: Mapping[str, Schema]) -> Used:
    """All that the golds use together; those that cannot be read use nothing."""
    used = [one for dialogue in dialogues for one in _used(dialogue, schemas) if one is not None]
    return _union(used)


def shares_seen(
    dialogues: Iterable[Dialogue], train: Sequence[Dialogue], schemas: Mapping[str, Schema]
) -> dict[tuple[str, int], float | None]:
    """By (dialogue_id, turn's index): the share of its gold's names that golds of train use.

    None where the gold names nothing or cannot be read; {} without a train to compare with.
    """
    if not train:
        return {}
    known = golds_use(train, schemas)
    return {
        (dialogue.dialogue_id, index): share_seen(one, known)
        for dialogue in dialogues
        for index, one in enumerate(_used(dialogue, schemas))
    }


def _used(dialogue: Dialogue, schemas: Mapping[str, Schema]) -> list[Used | None]:
    names = names_of(schemas[dialogue.db_id])
    return [used_by(turn.gold_sql, names) for turn in dialogue.turns]


def _schemas_have(dialogues: Iterable[Dialogue], schemas: Mapping[str, Schema]) -> Used:
    return _union([names_in(schemas[db_id]) for db_id in {one.db_id for one in dialogues}])


def _union(used: Sequence[Used]) -> Used:
    return Used(
        tables=frozenset[str]().union(*(one.tables for one in used)),
        columns=frozenset[str]().union(*(one.columns for one in used)),
        texts=frozenset[str]().union(*(one.texts for one in used)),
    )


def _seen(own: frozenset[str], known: frozenset[str]) -> Seen:
    return Seen(num=len(own), num_seen=len(own & known))
