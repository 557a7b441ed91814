"""From a downloaded dataset to a prepared folder: execute golds, grade, split by database.

The official dev file becomes `test` and is never trained on or chosen by. `valid`, which selects
checkpoints, is carved out of train by whole databases, so that it too measures unseen schemas.

A turn that cannot be judged is left out and reported, never scored: one whose row or database is
unusable, or whose gold does not run. Its dialogue keeps the other turns in order, with their own
ids, so a gap in the ids shows where a turn was.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import SkippedTurn, staging_folder, write_dataset
from mtsql.data.golds import GoldCounts, check_golds, count_golds, gold_lines
from mtsql.data.readers import (
    FILES,
    RawDialogue,
    RawSource,
    SourceName,
    most_frequent,
    read_source,
)
from mtsql.data.reflect import reflect_sqlite
from mtsql.dialogue import Dialogue, Turn
from mtsql.errors import DataError, some_of
from mtsql.evaluation.em.hardness import hardness
from mtsql.evaluation.golds import Gold, GoldFacts
from mtsql.schema import Schema
from mtsql.sql.engines import require_readable
from mtsql.sql.pool import LocalPool
from mtsql.sql.quoting import quote_name
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus, SqlExecutor

PLACED_KINDS = ("empty_query", "empty_question", "malformed", "unreadable_database")
"""Reasons whose details say where to look: the report shows the first ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareReport:
    """What became of a source's turns."""

    name: str
    out: Path
    num_turns_read: int
    splits: Mapping[str, list[Dialogue]]
    skipped: tuple[SkippedTurn, ...]
    notes: tuple[str, ...]
    golds: GoldCounts
    """Of the turns that are kept."""
    elapsed_s: float

    def lines(self) -> list[str]:
        """One line for each fact, in plain words.

        Example: `skipped 59 turns: missing_database (wta_1 59)`.
        """
        num_kept = sum(_num_turns(dialogues) for dialogues in self.splits.values())
        by_kind: dict[tuple[str, str], list[SkippedTurn]] = {}
        for turn in self.skipped:
            unit = "dialogues" if turn.turn_id is None else "turns"
            by_kind.setdefault((unit, turn.kind), []).append(turn)
        return [
            f"{self.name}: {self.num_turns_read} turns read, {num_kept} kept",
            *(
                f"skipped {len(skipped)} {unit}: {kind} "
                f"({_most_common(Counter(turn.db_id or '?' for turn in skipped))})"
                f"{_places(kind, skipped)}"
                for (unit, kind), skipped in sorted(by_kind.items())
            ),
            *(
                f"{split}: {len(dialogues)} dialogues, {_num_turns(dialogues)} turns, "
                f"{len({dialogue.db_id for dialogue in dialogues})} databases"
                for split, dialogues in self.splits.items()
            ),
            *self.notes,
            *gold_lines(self.golds),
            f"written to {self.out} in {self.elapsed_s:.1f} s",
        ]


def _num_turns(dialogues: Sequence[Dialogue | RawDialogue]) -> int:
    return sum(len(dialogue.turns) for dialogue in dialogues)


def _most_common(counts: Counter[str], limit: int = 5) -> str:
    shown = [f"{db_id} {count}" for db_id, count in counts.most_common(limit)]
    return ", ".join(shown + ([f"{len(counts) - limit} more"] if len(counts) > limit else []))


def _places(kind: str, skipped: Sequence[SkippedTurn]) -> str:
    """Where the first rows of a kind are, or why the first databases cannot be opened."""
    if kind not in PLACED_KINDS:
        return ""
    reasons = dict.fromkeys(turn.reason for turn in skipped)
    return f": {some_of([reason.removeprefix(f'{kind}: ') for reason in reasons], num=3)}"


def prepare(
    source_name: SourceName,
    *,
    source: Path,
    out: Path,
    seed: int = 1,
    valid_share: float = 0.08,
    strict: bool = False,
    limits: QueryLimits | None = None,
) -> PrepareReport:
    """Prepare the dataset in the folder `source` and write it to `out`.

    Args:
        seed: decides which databases are `valid`; the same for all sources that share them.
        valid_share: largest share of train's turns that `valid` may take, above 0 and below 1.
        strict: end at the first turn that cannot be used, instead of leaving it out.
        limits: of the run that is to use the data; a gold that does not run under them is left out.
            Default: those of a recipe that says nothing.

    Raises:
        DataError: the source is absent or malformed, no turn is left, or `out` is something else;
            with `strict`, the first turn that cannot be used.
    """
    if not 0 < valid_share < 1:
        raise DataError(f"valid_share is {valid_share}: choose a share above 0 and below 1")
    started_s = time.monotonic()
    with staging_folder(out) as staging:
        raw = read_source(source_name, source)
        schemas, unreadable = _schemas(raw)
        if strict:
            require_all(source, _unusable_rows(raw, schemas, unreadable))
        run_limits = limits if limits is not None else SqlConfig().limits()
        facts, empty = asyncio.run(_run_locally(raw, schemas, run_limits))
        failures = {
            gold: reason for gold, one in facts.items() if (reason := one.failure or one.fault)
        }
        skipped: list[SkippedTurn] = []
        kept = {
            split: [
                usable
                for dialogue in dialogues
                if (usable := _usable_part(dialogue, failures, schemas, unreadable, skipped)).turns
            ]
            for split, dialogues in raw.dialogues.items()
        }
        if strict:
            require_all(source, skipped)
        if not kept["train"]:
            reasons = [turn.reason for turn in skipped]
            why = most_frequent(reasons) if reasons else "it holds none"
            raise DataError(f"{source}: no turn of train can be used; {why}; mend the source")
        train, valid = carve_valid(kept["train"], seed=seed, share=valid_share)
        splits = {"train": train, "valid": valid, "test": kept.get("dev", [])}
        used = {dialogue.db_id for dialogues in splits.values() for dialogue in dialogues}
        write_dataset(
            staging,
            name=source_name,
            seed=seed,
            splits=splits,
            databases={db_id: raw.databases[db_id] for db_id in used},
            schemas=[schemas[db_id] for db_id in sorted(used)],
            skipped=skipped,
        )
    return PrepareReport(
        name=source_name,
        out=out,
        num_turns_read=sum(_num_turns(dialogues) for dialogues in raw.dialogues.values()),
        splits=splits,
        skipped=tuple(skipped),
        notes=(*raw.notes, *_left_out(schemas, used), *_notes(raw, splits, empty)),
        golds=_count(splits, facts),
        elapsed_s=time.monotonic() - started_s,
    )


def require_all(source: Path, skipped: Sequence[SkippedTurn]) -> None:
    """Raises DataError for the first turn that is left out."""
    if skipped:
        first = skipped[0]
        raise DataError(
            f"{source}: {first.turn_id or first.dialogue_id} (database {first.db_id!r}) cannot be "
            f"used: {first.reason}; mend it, or leave out --strict"
        )


def _schemas(raw: RawSource) -> tuple[dict[str, Schema], dict[str, str]]:
    """The schemas of the databases in use, and why others cannot be opened, by db_id.

    A schema is that of tables.json, which exact match follows, or is read out of the database where
    there is no entry.
    """
    schemas: dict[str, Schema] = {}
    unreadable: dict[str, str] = {}
    for db_id in sorted({one.db_id for part in raw.dialogues.values() for one in part}):
        path = raw.databases.get(db_id)
        if path is None:
            continue
        try:
            require_readable(path)
            schemas[db_id] = raw.schemas.get(db_id) or reflect_sqlite(db_id, path)
        except DataError as error:
            unreadable[db_id] = str(error)
    return schemas, unreadable


def _unusable_rows(
    raw: RawSource, schemas: Mapping[str, Schema], unreadable: Mapping[str, str]
) -> list[SkippedTurn]:
    """What is left out before a single gold has run."""
    skipped: list[SkippedTurn] = []
    for dialogues in raw.dialogues.values():
        for dialogue in dialogues:
            _usable_part(dialogue, {}, schemas, unreadable, skipped)
    return skipped


def _count(splits: Mapping[str, Sequence[Dialogue]], facts: Mapping[Gold, GoldFacts]) -> GoldCounts:
    kept = (dialogue for dialogues in splits.values() for dialogue in dialogues)
    return count_golds(((one.db_id, turn) for one in kept for turn in one.turns), facts)


async def _run_locally(
    raw: RawSource, schemas: Mapping[str, Schema], limits: QueryLimits
) -> tuple[dict[Gold, GoldFacts], list[str]]:
    golds = [
        (dialogue.db_id, turn.gold_sql)
        for dialogues in raw.dialogues.values()
        for dialogue in dialogues
        if dialogue.db_id in schemas
        for turn in dialogue.turns
        if not turn.unusable
    ]
    async with LocalPool({db_id: raw.databases[db_id] for db_id in schemas}) as pool:
        facts = await check_golds(golds, pool, schemas, limits=limits)
        return facts, await empty_databases(schemas, pool)


async def empty_databases(schemas: Mapping[str, Schema], executor: SqlExecutor) -> list[str]:
    """The databases without a single row, where nearly all queries give the same empty result."""
    requests: list[QueryRequest] = []
    for db_id, schema in schemas.items():
        # tables.json lists some of SQLite's own tables, which fill by themselves.
        names = [table.name for table in schema.tables if not table.name.startswith("sqlite_")]
        counts = " + ".join(
            ["0", *(f"EXISTS (SELECT 1 FROM {quote_name(name)})" for name in names)]
        )
        requests.append(QueryRequest(db_id=db_id, sql=f"SELECT {counts}"))
    results = await executor.execute_many(requests)
    # A table that tables.json has and the database has not is an error: no verdict, no note.
    return sorted(
        request.db_id
        for request, result in zip(requests, results, strict=True)
        if result.status is QueryStatus.OK and result.rows == ((0,),)
    )


def _usable_part(
    raw: RawDialogue,
    failures: Mapping[Gold, str],
    schemas: Mapping[str, Schema],
    unreadable: Mapping[str, str],
    skipped: list[SkippedTurn],
) -> Dialogue:
    """The dialogue with the turns that can be judged; the others are added to `skipped`."""
    turns: list[Turn] = []
    if not raw.turns:
        reason = raw.unusable or "no_turns: the dialogue is empty"
        skipped.append(_skipped(raw, None, reason))
    for turn in raw.turns:
        schema = schemas.get(raw.db_id)
        if turn.unusable:
            skipped.append(_skipped(raw, turn.turn_id, turn.unusable))
        elif schema is None:
            reason = f"missing_database: no file {raw.db_id}.sqlite"
            if raw.db_id in unreadable:
                reason = f"unreadable_database: {unreadable[raw.db_id]}"
            skipped.append(_skipped(raw, turn.turn_id, reason))
        elif reason := failures.get((raw.db_id, turn.gold_sql)):
            skipped.append(_skipped(raw, turn.turn_id, reason))
        else:
            turns.append(
                Turn(
                    turn_id=turn.turn_id,
                    question=turn.question,
                    gold_sql=turn.gold_sql,
                    hardness=hardness(turn.gold_sql, schema),
                    tags=turn.tags,
                )
            )
    return Dialogue(dialogue_id=raw.dialogue_id, db_id=raw.db_id, turns=tuple(turns))


def _skipped(raw: RawDialogue, turn_id: str | None, reason: str) -> SkippedTurn:
    return SkippedTurn(dialogue_id=raw.dialogue_id, turn_id=turn_id, db_id=raw.db_id, reason=reason)


def carve_valid(
    dialogues: Sequence[Dialogue], *, seed: int, share: float
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Split into (train, valid) by whole databases; valid takes at most `share` of the turns.

    Databases are walked in the order of a hash of seed and name, so that a database falls the same
    way in any dataset, and one is taken whenever it still fits. With two databases or
    more valid gets at least one, the smallest; with one it is empty.
    """
    turns_of: Counter[str] = Counter()
    for dialogue in dialogues:
        turns_of[dialogue.db_id] += len(dialogue.turns)
    budget = share * turns_of.total()
    chosen: set[str] = set()
    for db_id in sorted(turns_of, key=lambda db_id: _place(seed, db_id)):
        if turns_of[db_id] <= budget:
            chosen.add(db_id)
            budget -= turns_of[db_id]
    if not chosen and len(turns_of) > 1:
        chosen = {min(turns_of, key=lambda db_id: (turns_of[db_id], _place(seed, db_id)))}
    train = [dialogue for dialogue in dialogues if dialogue.db_id not in chosen]
    valid = [dialogue for dialogue in dialogues if dialogue.db_id in chosen]
    return train, valid


def _place(seed: int, db_id: str) -> str:
    return hashlib.sha256(f"{seed}/{db_id}".encode()).hexdigest()


def _left_out(schemas: Mapping[str, Schema], used: Collection[str]) -> list[str]:
    """Of databases that are described by no tables.json: what their prompts do not show."""
    return [
        f"{db_id}: not shown in prompts: {one}"
        for db_id in sorted(used)
        for one in schemas[db_id].left_out
    ]


def _notes(raw: RawSource, splits: Mapping[str, list[Dialogue]], empty: Sequence[str]) -> list[str]:
    """What a reader of the report should know besides the counts."""
    notes: list[str] = []
    if "dev" not in raw.dialogues:
        notes.append(f"test is empty: the source has no {FILES[raw.name]['dev']}")
    if not splits["valid"]:
        notes.append("valid is empty: train has one database only")
    train_ids = {dialogue.db_id for dialogue in splits["train"] + splits["valid"]}
    shared = sorted(train_ids & {dialogue.db_id for dialogue in splits["test"]})
    on_empty = Counter(
        dialogue.db_id
        for dialogues in splits.values()
        for dialogue in dialogues
        for _ in dialogue.turns
        if dialogue.db_id in empty
    )
    if on_empty:
        notes.append(
            f"{on_empty.total()} kept turns are on databases without rows, where a wrong query "
            f"often matches: {_most_common(on_empty)}"
        )
    if shared:
        notes.append(f"databases both in test and in train or valid: {', '.join(shared)}")
    return notes
