"""Figures of a prepared dataset, and the table that shows them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pydantic import TypeAdapter
from rich.table import Table

from mtsql.data.dataset import SPLITS, Dataset
from mtsql.data.golds import GoldCounts, count_golds
from mtsql.data.seen import Seen, SplitSeen, seen_of
from mtsql.dialogue import HARDNESS_BANDS, HARDNESSES, UNREAD, Dialogue, band_of
from mtsql.evaluation.golds import Gold, GoldFacts
from mtsql.query.used import SEEN_BANDS

LATE_TURN = 4
"""Turns with this index or a later one share a line of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitStats:
    """Figures of one split; means are 0 and shares empty where it has no turn."""

    num_dialogues: int
    num_turns: int
    num_databases: int
    turns_per_dialogue: float
    question_chars: float
    """Mean length of a question, in characters."""
    sql_chars: float
    """Mean length of a gold query, in characters."""
    hardness: Mapping[str, float]
    """Share of turns; `unread` is there where Spider's grammar cannot read some golds."""
    turn_index: Mapping[int, int]
    """Turns at each place of their dialogue, from 0; those without usable gold are not there."""
    tags: Mapping[str, int]
    """Turns with each tag, the most frequent first."""
    golds: GoldCounts | None = None
    """Turns whose gold is a poor measure; None: no gold was run."""
    seen: SplitSeen | None = None
    """What it shares with train; None: it is train, or there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStats:
    name: str
    seed: int
    splits: Mapping[str, SplitStats]
    skipped: Mapping[str, int]
    """Turns (and dialogues without any) that were left out, by the kind of the reason."""


def dataset_stats(dataset: Dataset, facts: Mapping[Gold, GoldFacts] | None = None) -> DatasetStats:
    """Count a dataset; nothing is executed.

    Args:
        facts: of its golds; without them they are not counted.
    """
    kinds = Counter(turn.kind for turn in dataset.skipped)
    train = dataset.splits.get("train", ())
    return DatasetStats(
        name=dataset.name,
        seed=dataset.seed,
        splits={
            split: replace(
                split_stats(dialogues, facts),
                seen=seen_of(dialogues, train, dataset.schemas)
                if train and dialogues and split != "train"
                else None,
            )
            for split, dialogues in dataset.splits.items()
        },
        skipped=dict(kinds.most_common()),
    )


def split_stats(
    dialogues: Sequence[Dialogue], facts: Mapping[Gold, GoldFacts] | None = None
) -> SplitStats:
    """Count one split; see `dataset_stats`."""
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    grades = Counter(band_of(turn.hardness) for turn in turns)
    bands = HARDNESS_BANDS if grades[UNREAD] else HARDNESSES
    placed = ((dialogue.db_id, turn) for dialogue in dialogues for turn in dialogue.turns)
    places = Counter(index for dialogue in dialogues for index in range(len(dialogue.turns)))
    tags = Counter(tag for turn in turns for tag in turn.tags)
    return SplitStats(
        num_dialogues=len(dialogues),
        num_turns=len(turns),
        num_databases=len({dialogue.db_id for dialogue in dialogues}),
        turns_per_dialogue=len(turns) / len(dialogues) if dialogues else 0.0,
        question_chars=fmean(len(turn.question) for turn in turns) if turns else 0.0,
        sql_chars=fmean(len(turn.gold_sql) for turn in turns) if turns else 0.0,
        hardness={grade: grades[grade] / len(turns) for grade in bands} if turns else {},
        turn_index=dict(sorted(places.items())),
        tags=dict(tags.most_common()),
        golds=None if facts is None else count_golds(placed, facts),
    )


GOLD_ROWS = {
    "num_fails": "golds that do not run",
    "num_cut": "golds beyond sql.max_rows",
    "num_unread": "golds that EM cannot read",
    "num_wrong": "golds wrong against themselves",
    "num_empty": "golds without rows",
    "num_cut_ties": "golds whose LIMIT cuts a tie",
}


SEEN_ROWS = {
    "schema_tables": "tables seen in train",
    "schema_columns": "columns seen in train",
    "gold_tables": "gold's tables seen in gold",
    "gold_columns": "gold's columns seen in gold",
    "gold_texts": "gold's texts seen in gold",
}


def stats_json(stats: DatasetStats) -> str:
    """The same figures as one JSON object."""
    return TypeAdapter(DatasetStats).dump_json(stats, indent=1).decode()


def stats_table(stats: DatasetStats) -> Table:
    """A table with one column for each split, the usual ones first."""
    names = sorted(stats.splits, key=lambda name: (_usual_place(name), name))
    splits = [stats.splits[name] for name in names]
    skipped = ", ".join(f"{kind} {count}" for kind, count in stats.skipped.items())
    table = Table(
        title=f"{stats.name} (seed {stats.seed})",
        caption=f"left out: {skipped}" if skipped else None,
    )
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    table.add_row("dialogues", *(str(split.num_dialogues) for split in splits))
    table.add_row("turns", *(str(split.num_turns) for split in splits))
    table.add_row("databases", *(str(split.num_databases) for split in splits))
    table.add_row("turns per dialogue", *(f"{split.turns_per_dialogue:.2f}" for split in splits))
    table.add_row("question, characters", *(f"{split.question_chars:.0f}" for split in splits))
    table.add_row("gold SQL, characters", *(f"{split.sql_chars:.0f}" for split in splits))
    table.add_section()
    for grade in (
        HARDNESS_BANDS if any(UNREAD in split.hardness for split in splits) else HARDNESSES
    ):
        shares = (split.hardness.get(grade, 0.0) if split.hardness else None for split in splits)
        table.add_row(grade, *("-" if share is None else f"{share:.1%}" for share in shares))
    table.add_section()
    for index in range(LATE_TURN):
        table.add_row(f"turn {index}", *(str(split.turn_index.get(index, 0)) for split in splits))
    late = (
        sum(count for index, count in split.turn_index.items() if index >= LATE_TURN)
        for split in splits
    )
    table.add_row(f"turn {LATE_TURN} and later", *(str(count) for count in late))
    counts = [split.golds for split in splits]
    if any(counts):
        table.add_section()
        for name, text in GOLD_ROWS.items():
            table.add_row(
                text, *("-" if one is None else str(getattr(one, name)) for one in counts)
            )
    seen = [split.seen for split in splits]
    if any(seen):
        table.add_section()
        for name, text in SEEN_ROWS.items():
            table.add_row(
                text, *("-" if one is None else _seen(getattr(one, name)) for one in seen)
            )
        for band in SEEN_BANDS:
            table.add_row(
                f"turns, {band} seen",
                *("-" if one is None else str(one.turns[band]) for one in seen),
            )
    all_tags = sum((Counter(split.tags) for split in splits), Counter[str]())
    if all_tags:
        table.add_section()
    for tag, _ in all_tags.most_common():
        table.add_row(f"tag {tag}", *(str(split.tags.get(tag, 0)) for split in splits))
    return table


def _seen(found: Seen) -> str:
    """Example: 27% of 73"""
    return "-" if found.share is None else f"{found.share:.0%} of {found.num}"


def _usual_place(name: str) -> int:
    return SPLITS.index(name) if name in SPLITS else len(SPLITS)
