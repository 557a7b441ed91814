"""What `mtsql score` reads: pairs of gold and prediction, databases and schemas.

A pair that cannot be judged (a row of another type, an empty gold, a database that is not there) is
read with the reason and keeps its place, so that its dialogue is unjudged as a whole.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

from pydantic import BaseModel, NonNegativeInt, ValidationError

from mtsql.data.databases import SQLITE_SUFFIXES, database_files, database_of, find_databases
from mtsql.data.readers import most_frequent, read_schemas
from mtsql.data.reflect import reflect_sqlite
from mtsql.errors import ConfigError, DataError, first_mistake
from mtsql.files import read_text
from mtsql.schema import Schema
from mtsql.sql.engines import why_unreadable
from mtsql.sql.unreadable import why_no_file

NO_PLACE = 1_000_000
"""Turns from here on have no number of their own."""
_HALF_PAIR = re.compile("[\ud800-\udfff]")
"""JSON may spell it; no text in UTF-8 holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePair:
    """One gold and its prediction, in its place in a dialogue."""

    id: str | int
    db_id: str
    gold: str
    pred: str
    dialogue: str | None
    """None: the pair is a dialogue by itself."""
    turn: int
    """From 0."""
    source: str = ""
    place: str = ""
    """File and line."""
    unread: tuple[str, ...] = ()
    """Keys of its row that nothing reads."""
    fault: str = ""
    """Why it cannot be judged, as `KIND: DETAIL`."""


class _Row(BaseModel, frozen=True, extra="allow"):
    id: str | int
    db_id: str
    gold: str
    pred: str | None
    dialogue: str | int | None = None
    turn: NonNegativeInt | None = None
    source: str = ""


def read_texts(gold: Path, pred: Path) -> list[ScorePair]:
    """The official layout: one query a line, gold with a tab and its database, a blank line between
    dialogues. Ids are DIALOGUE/TURN, from 0.

    Without a blank line (Spider) each query is a dialogue by itself; ids are 0, 1, ...

    Raises:
        DataError: a file is missing or malformed, or the two do not fit.
    """
    golds, preds = _dialogues(gold), _dialogues(pred)
    with_dialogues = len(golds) > 1
    if not with_dialogues and (blank := _first_blank(pred, len(golds[0]))) is not None:
        raise DataError(
            f"{pred}, line {blank}: is empty, but {gold} holds no dialogues, between which a blank "
            'line could stand; write a query there, or give --jsonl FILE with "pred": null'
        )
    if len(golds) != len(preds):
        raise DataError(
            f"{pred}: holds {len(preds)} dialogues, but {gold} holds {len(golds)}; "
            f"a blank line stands between two dialogues in both{_first_difference(golds, preds)}"
        )
    pairs: list[ScorePair] = []
    for number, (gold_lines, pred_lines) in enumerate(zip(golds, preds, strict=True)):
        if not with_dialogues and len(gold_lines) != len(pred_lines):
            raise DataError(
                f"{pred}: holds {len(pred_lines)} queries, but {gold} holds {len(gold_lines)}; "
                "write one query a line"
            )
        if len(gold_lines) != len(pred_lines):
            raise DataError(
                f"{pred}, line {pred_lines[0][0]}: the dialogue has {len(pred_lines)} turns, but "
                f"{len(gold_lines)} at {gold}, line {gold_lines[0][0]}; write one query a line"
            )
        for turn, ((place, line), (_, answer)) in enumerate(
            zip(gold_lines, pred_lines, strict=True)
        ):
            query, *db_ids = line.split("\t")
            where = f"{gold}, line {place}"
            is_whole = len(db_ids) == 1
            pairs.append(
                ScorePair(
                    id=f"{number}/{turn}" if with_dialogues else str(turn),
                    db_id=db_ids[0] if is_whole else "",
                    gold=query,
                    pred=answer.split("\t")[0],
                    dialogue=str(number) if with_dialogues else None,
                    turn=turn if with_dialogues else 0,
                    place=where,
                    fault=""
                    if is_whole
                    else f"malformed: {where}: expected a query, a tab and a database",
                )
            )
    require_some(pairs)
    return pairs


def _dialogues(path: Path) -> "list[Block]":
    """Blocks of (line number, line) between blank lines."""
    lines = [(n, line.strip()) for n, line in _lines(path)]
    blocks = [list(group) for is_full, group in groupby(lines, lambda x: bool(x[1])) if is_full]
    if not blocks:
        raise DataError(f"{path}: holds no query; expected one a line")
    return blocks


Block = list[tuple[int, str]]
"""A dialogue of a text: line numbers and lines."""


def _first_blank(path: Path, num_queries: int) -> int | None:
    """The first of so many lines that holds nothing."""
    lines = _lines(path)[:num_queries]
    return next((number for number, line in lines if not line.strip()), None)


def _first_difference(golds: Sequence[Block], preds: Sequence[Block]) -> str:
    for gold, pred in zip(golds, preds, strict=False):
        if len(gold) != len(pred):
            return (
                f"; the first that differs begins at line {pred[0][0]} with {len(pred)} turns, and "
                f"at line {gold[0][0]} of gold with {len(gold)}: is a prediction empty?"
            )
    return ""


def kind_of(fault: str) -> str:
    return fault.partition(":")[0]


def require_some(pairs: Sequence[ScorePair]) -> None:
    """Raises DataError, with the most frequent reason, if not a single pair can be judged."""
    faults = [pair.fault for pair in pairs]
    if all(faults):
        raise DataError(f"no pair can be scored; {most_frequent(faults)}")


def require_all(pairs: Sequence[ScorePair]) -> None:
    """Raises DataError for the first pair that cannot be judged, or holds an unknown key."""
    known = list(_Row.model_fields)
    for pair in pairs:
        if pair.fault:
            raise DataError(f"{pair.fault.partition(': ')[2]}; mend it, or leave out --strict")
        if pair.unread:
            near = difflib.get_close_matches(pair.unread[0], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise DataError(f"{pair.place}: unknown key {pair.unread[0]!r}; {hint}")


def read_rows(path: Path) -> list[ScorePair]:
    """Lines of JSON; a pair without a dialogue is one by itself.

    Turns keep the numbers given, which begin with 0 if the file holds a 0 and else with 1; those of
    a dialogue without numbers stand in the order of their lines.

    Raises:
        DataError: the file is missing, all lines are something else, an id or a turn comes twice,
            or only some turns of a dialogue have a number.
    """
    rows = [(number, *_row(path, number, line)) for number, line in _lines(path) if line.strip()]
    if not rows:
        raise DataError(f"{path}: holds no pair; expected lines of {{id, db_id, gold, pred}}")
    [(name, count)] = Counter(str(row.id) for _, row, _ in rows).most_common(1)
    if count > 1:
        raise DataError(f"{path}: the id {name!r} comes {count} times; give each pair its own")
    pairs = [
        ScorePair(
            id=row.id,
            db_id=row.db_id,
            gold=row.gold,
            pred=row.pred or "",
            dialogue=_dialogue_of(row),
            turn=turn,
            source=row.source,
            place=f"{path}, line {number}",
            unread=tuple(row.model_extra or ()),
            fault=fault,
        )
        for (number, row, fault), turn in zip(rows, _turns(path, rows), strict=True)
    ]
    require_some(pairs)
    return pairs


def _row(path: Path, number: int, line: str) -> tuple[_Row, str]:
    """A row, and why it cannot be judged; what is wrong in it is replaced by nothing."""
    place = f"{path}, line {number}"
    try:
        row = _parsed(line)
    except ValidationError as error:
        wrong = {str(mistake["loc"][0]) for mistake in error.errors() if mistake["loc"]}
        fault = f"malformed: {place}: {first_mistake(error)}"
        return _rest_of(line, number, wrong), fault
    halves = [key for key, value in row if key != "pred" and _HALF_PAIR.search(str(value))]
    if halves:
        fault = f"key {halves[0]} holds half of a surrogate pair; write whole characters"
        return _rest_of(line, number, set(halves)), f"malformed: {place}: {fault}"
    if not row.gold.strip():
        return row, f"empty_gold: {place}: key gold holds no query"
    return row, ""


def _rest_of(line: str, number: int, wrong: Set[str]) -> _Row:
    """What a row says without the keys that are wrong, so that it keeps its place."""
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    values = cast(dict[str, object], found) if isinstance(found, dict) else {}
    empty = {"id": f"line {number}", "db_id": "", "gold": "", "pred": None}
    return _Row.model_validate(
        empty | {key: value for key, value in values.items() if key not in wrong}
    )


def _parsed(line: str) -> _Row:
    """Unlike pydantic's own parser, Python's reads "\ud800": a prediction that no engine takes."""
    try:
        return _Row.model_validate_json(line)
    except ValidationError as error:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise error from None
    return _Row.model_validate(found)


def _dialogue_of(row: _Row) -> str | None:
    return None if row.dialogue is None else json.dumps([row.source, str(row.dialogue)])


def _turns(path: Path, rows: Sequence[tuple[int, _Row, str]]) -> list[int]:
    """The turn of each (line number, row, fault), from 0.

    One with a fault, whose number may be what is wrong, stands behind all others of its dialogue
    where there is no place for it.
    """
    first = 0 if any(row.turn == 0 for _, row, _ in rows) else 1
    places: dict[str, dict[int, int]] = {}
    """Line numbers by dialogue and turn."""
    good = [row for _, row, fault in rows if not fault and row.turn is not None]
    taken = {(_dialogue_of(row), row.turn) for row in good}
    with_numbers = {dialogue for dialogue, _ in taken}
    numbered: dict[str, bool] = {}
    turns: list[int] = []
    for number, row, fault in rows:
        dialogue = _dialogue_of(row)
        others = {} if dialogue is None else places.setdefault(dialogue, {})
        has_number = row.turn is not None
        if fault and dialogue is not None:
            turn = len(others)
            if dialogue in with_numbers:
                turn = NO_PLACE + number if row.turn is None else row.turn - first
            if turn in others or (dialogue, row.turn) in taken:
                turn = NO_PLACE + number
            others[turn] = number
            turns.append(turn)
            continue
        if dialogue is not None and numbered.setdefault(dialogue, has_number) != has_number:
            raise DataError(
                f"{path}, line {number}: some turns of dialogue {row.dialogue!r} have a number, "
                "others none; number all of them, or none"
            )
        turn = len(others) if row.turn is None else row.turn - first
        if turn in others:
            raise DataError(
                f"{path}, line {number}: turn {row.turn} of dialogue {row.dialogue!r} stands on "
                f"line {others[turn]} as well"
            )
        others[turn] = number
        turns.append(turn)
    return turns


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers, from 1, cut where the official script cuts them.

    Unlike `str.splitlines` that is nowhere but at a line feed, into which reading turns all line
    ends: a literal may hold U+2028 or a form feed.
    """
    lines = read_text(path).split("\n")
    if not lines[-1]:
        lines.pop()  # behind the last line's end
    return list(enumerate(lines, start=1))


def find_suites(
    root: Path, db_ids: Sequence[str], *, all_variants: bool
) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Database files for each db_id, by names for the pool; DB/DB.sqlite comes first as DB.

    Args:
        all_variants: every .sqlite file of the folder, not only DB/DB.sqlite.

    Returns:
        Those that can be opened, and of the others the reason, as `KIND: DETAIL`.

    Raises:
        DataError: the folder is missing.
    """
    if not root.is_dir():
        raise DataError(
            f"--db-root {root}: {why_no_file(root) if root.exists() else 'no such folder'}"
        )
    databases = find_databases(root, suffixes=SQLITE_SUFFIXES)
    suites: dict[str, dict[str, Path]] = {}
    faults: dict[str, str] = {}
    for db_id in db_ids:
        first = database_of(db_id, databases)
        if first is None:
            faults[db_id] = (
                f"missing_database: --db-root {root}: no database {db_id!r} (as DB/DB.sqlite)"
            )
            continue
        suite = {db_id: first}
        if all_variants and first.parent != root:
            others = (path for path in database_files(first.parent) if path != first)
            suite |= {f"{db_id}/{path.name}": path for path in others}
        # On fewer databases a suite would ask less: one that cannot be opened costs all.
        why = next(
            (f"{path}: {why}" for path in suite.values() if (why := why_unreadable(path))), ""
        )
        if why:
            faults[db_id] = f"unreadable_database: {why}"
        else:
            suites[db_id] = suite
    return suites, faults


def find_schemas(
    tables: Path | None, suites: Mapping[str, Mapping[str, Path]], db_ids: Sequence[str]
) -> tuple[dict[str, Schema], dict[str, str]]:
    """Schemas of tables.json, or of the databases themselves where there is no such file.

    Returns:
        The schemas, and of databases without one the reason, as `KIND: DETAIL`.

    Raises:
        DataError: the file is missing or malformed.
        ConfigError: there is nothing to take schemas from.
    """
    schemas: dict[str, Schema] = {}
    faults: dict[str, str] = {}
    known = None if tables is None else read_schemas(tables)
    if known is None and not suites:
        raise ConfigError("name the schemas with --tables FILE: EM has no other source")
    for db_id in db_ids:
        if known is not None and db_id in known:
            schemas[db_id] = known[db_id]
        elif known is not None:
            faults[db_id] = f"missing_schema: {tables}: no schema of database {db_id!r}"
        elif db_id in suites:
            try:
                schemas[db_id] = reflect_sqlite(db_id, suites[db_id][db_id])
            except DataError as error:
                faults[db_id] = f"unreadable_database: {error}"
    return schemas, faults
