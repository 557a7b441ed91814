"""What `mtsql score` reads: pairs of gold and prediction, databases and schemas."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, ValidationError

from mtsql.data.dataset import one_line
from mtsql.data.readers import read_schemas
from mtsql.data.reflect import reflect_sqlite
from mtsql.errors import ConfigError, DataError
from mtsql.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePair:
    """One gold and its prediction, in its place in a dialogue."""

    id: str | int
    db_id: str
    gold: str
    pred: str
    dialogue: str
    turn: int
    """From 0."""
    source: str = ""


class _Row(BaseModel, frozen=True, extra="forbid"):
    id: str | int
    db_id: str
    gold: str
    pred: str | None
    dialogue: str | int | None = None
    turn: int | None = None
    source: str = ""


def read_texts(gold: Path, pred: Path) -> list[ScorePair]:
    """The official layout: one query a line, gold with a tab and its database, a blank line between
    dialogues. Ids are DIALOGUE/TURN, from 0.

    Raises:
        DataError: a file is missing or malformed, or the two do not fit.
    """
    golds, preds = _dialogues(gold), _dialogues(pred)
    if len(golds) != len(preds):
        raise DataError(
            f"{pred}: holds {len(preds)} dialogues, but {gold} holds {len(golds)}; "
            "a blank line stands between two dialogues in both"
        )
    pairs: list[ScorePair] = []
    for number, (gold_lines, pred_lines) in enumerate(zip(golds, preds, strict=True)):
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
                    id=f"{number}/{turn}",
                    db_id=fields[1],
                    gold=fields[0],
                    pred=answer.split("\t")[0],
                    dialogue=str(number),
                    turn=turn,
                )
            )
    return pairs


def _dialogues(path: Path) -> list[list[tuple[int, str]]]:
    """Blocks of (line number, line) between blank lines."""
    lines = [(n, line.strip()) for n, line in enumerate(_text(path).splitlines(), start=1)]
    blocks = [list(group) for is_full, group in groupby(lines, lambda x: bool(x[1])) if is_full]
    if not blocks:
        raise DataError(f"{path}: holds no query; expected one a line")
    return blocks


def read_rows(path: Path) -> list[ScorePair]:
    """Lines of JSON; a pair without a dialogue is one by itself.

    Turns of a dialogue stand in the order of their `turn`, or of their lines.

    Raises:
        DataError: the file is missing, a line is something else, or an id comes twice.
    """
    rows: list[_Row] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            try:
                rows.append(_Row.model_validate_json(line))
            except ValidationError as error:
                raise DataError(f"{path}, line {number}: {one_line(error)}") from error
    if not rows:
        raise DataError(f"{path}: holds no pair; expected lines of {{id, db_id, gold, pred}}")
    [(name, count)] = Counter(str(row.id) for row in rows).most_common(1)
    if count > 1:
        raise DataError(f"{path}: the id {name!r} comes {count} times; give each pair its own")
    members: dict[str, list[_Row]] = {}
    for row in rows:
        members.setdefault(_dialogue_of(row), []).append(row)
    turns: dict[str, int] = {}
    for group in members.values():
        if all(row.turn is not None for row in group):
            group.sort(key=lambda row: row.turn or 0)
        turns |= {str(row.id): turn for turn, row in enumerate(group)}
    return [
        ScorePair(
            id=row.id,
            db_id=row.db_id,
            gold=row.gold,
            pred=row.pred or "",
            dialogue=_dialogue_of(row),
            turn=turns[str(row.id)],
            source=row.source,
        )
        for row in rows
    ]


def _dialogue_of(row: _Row) -> str:
    return f"id {row.id}" if row.dialogue is None else f"{row.source}/{row.dialogue}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
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
