"""What `mtsql score` reads: pairs of gold and prediction, databases and schemas."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, NonNegativeInt, ValidationError

from mtsql.data.readers import read_schemas
from mtsql.data.reflect import reflect_sqlite
from mtsql.errors import ConfigError, DataError, first_mistake
from mtsql.schema import Schema

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


class _Row(BaseModel, frozen=True, extra="forbid"):
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
    if len(golds) != len(preds):
        raise DataError(
            f"{pred}: holds {len(preds)} dialogues, but {gold} holds {len(golds)}; "
            "a blank line stands between two dialogues in both"
        )
    with_dialogues = len(golds) > 1
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
            fields = line.split("\t")
            if len(fields) != 2:
                raise DataError(f"{gold}, line {place}: expected a query, a tab and a database")
            pairs.append(
                ScorePair(
                    id=f"{number}/{turn}" if with_dialogues else str(turn),
                    db_id=fields[1],
                    gold=fields[0],
                    pred=answer.split("\t")[0],
                    dialogue=str(number) if with_dialogues else None,
                    turn=turn if with_dialogues else 0,
                )
            )
    return pairs


def _dialogues(path: Path) -> list[list[tuple[int, str]]]:
    """Blocks of (line number, line) between blank lines."""
    lines = [(n, line.strip()) for n, line in _lines(path)]
    blocks = [list(group) for is_full, group in groupby(lines, lambda x: bool(x[1])) if is_full]
    if not blocks:
        raise DataError(f"{path}: holds no query; expected one a line")
    return blocks


def read_rows(path: Path) -> list[ScorePair]:
    """Lines of JSON; a pair without a dialogue is one by itself.

    Turns keep the numbers given, which begin with 0 if the file holds a 0 and else with 1; those of
    a dialogue without numbers stand in the order of their lines.

    Raises:
        DataError: the file is missing, a line is something else, an id or a turn comes twice, or
            only some turns of a dialogue have a number.
    """
    rows = [(number, _row(path, number, line)) for number, line in _lines(path) if line.strip()]
    if not rows:
        raise DataError(f"{path}: holds no pair; expected lines of {{id, db_id, gold, pred}}")
    [(name, count)] = Counter(str(row.id) for _, row in rows).most_common(1)
    if count > 1:
        raise DataError(f"{path}: the id {name!r} comes {count} times; give each pair its own")
    return [
        ScorePair(
            id=row.id,
            db_id=row.db_id,
            gold=row.gold,
            pred=row.pred or "",
            dialogue=_dialogue_of(row),
            turn=turn,
            source=row.source,
        )
        for (_, row), turn in zip(rows, _turns(path, rows), strict=True)
    ]


def _row(path: Path, number: int, line: str) -> _Row:
    try:
        row = _parsed(line)
    except ValidationError as error:
        raise DataError(f"{path}, line {number}: {first_mistake(error)}") from error
    for key, value in row:
        if key != "pred" and _HALF_PAIR.search(str(value)):
            raise DataError(
                f"{path}, line {number}: key {key} holds half of a surrogate pair; "
                "write whole characters"
            )
    return row


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


def _turns(path: Path, rows: Sequence[tuple[int, _Row]]) -> list[int]:
    """The turn of each (line number, row), from 0."""
    first = 0 if any(row.turn == 0 for _, row in rows) else 1
    places: dict[str, dict[int, int]] = {}
    """Line numbers by dialogue and turn."""
    numbered: dict[str, bool] = {}
    turns: list[int] = []
    for number, row in rows:
        dialogue = _dialogue_of(row)
        others = {} if dialogue is None else places.setdefault(dialogue, {})
        has_number = row.turn is not None
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
    return list(enumerate(_text(path).split("\n"), start=1))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: is not UTF-8 text") from error


def find_suites(
    root: Path, db_ids: Sequence[str], *, all_variants: bool
) -> dict[str, dict[str, Path]]:
    """Database files for each db_id, by names for the pool; DB/DB.sqlite comes first as DB.

    Args:
        all_variants: every .sqlite file of the folder, not only DB/DB.sqlite.

    Raises:
        DataError: the folder or a database is missing.
    """
    if not root.is_dir():
        raise DataError(f"--db-root {root}: no such folder")
    folders = {path.name: path for path in root.iterdir() if path.is_dir()}
    suites: dict[str, dict[str, Path]] = {}
    for db_id in db_ids:
        folder = folders.get(db_id)
        files = {path.name: path for path in folder.glob("*.sqlite")} if folder else {}
        first = files.pop(f"{db_id}.sqlite", None)
        if first is None:
            raise DataError(f"--db-root {root}: no database {db_id!r} (as DB/DB.sqlite)")
        suites[db_id] = {db_id: first}
        if all_variants:
            suites[db_id] |= {f"{db_id}/{name}": files[name] for name in sorted(files)}
    return suites


def find_schemas(
    tables: Path | None, suites: Mapping[str, Mapping[str, Path]], db_ids: Sequence[str]
) -> dict[str, Schema]:
    """Schemas of tables.json, or of the databases themselves where there is no such file.

    Raises:
        DataError: the file is missing or malformed, or lacks a database.
        ConfigError: there is nothing to take schemas from.
    """
    if tables is None:
        if not suites:
            raise ConfigError("name the schemas with --tables FILE: EM has no other source")
        return {db_id: reflect_sqlite(db_id, suites[db_id][db_id]) for db_id in db_ids}
    known = read_schemas(tables)
    for db_id in db_ids:
        if db_id not in known:
            raise DataError(f"{tables}: no schema of database {db_id!r}")
    return {db_id: known[db_id] for db_id in db_ids}
