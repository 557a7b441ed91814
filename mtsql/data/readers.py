"""SParC, CoSQL and Spider files, in the official layout or reduced to the keys that are used.

Two normalisations are made, and no other:
- SQL: comparison operators written apart (`> =`, `< =`, `! =`) are joined outside quotes, as the
  official evaluators do, and a closing semicolon goes. Case and spacing stay.
- Questions: runs of white space become one space. A CoSQL utterance holds a clarification as
  `question | system's question | user's reply`; it stays one question with all parts in order,
  joined by " | ", empty parts left out, and the turn is tagged `clarification`.

A turn or an entry that cannot be used (an empty query, a key of another type) is read as such, with
the reason, so that one bad row costs no other.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError

from mtsql.data.databases import SQLITE_SUFFIXES, database_of
from mtsql.data.databases import find_databases as databases_below
from mtsql.data.spider_tables import SpiderTables, schema_from_spider
from mtsql.errors import DataError, first_mistake, some_of
from mtsql.files import read_text
from mtsql.schema import Schema

SourceName = Literal["sparc", "cosql", "spider"]
SourceSplit = Literal["train", "dev"]

FILES: Mapping[SourceName, Mapping[SourceSplit, str]] = {
    "sparc": {"train": "train.json", "dev": "dev.json"},
    "cosql": {
        "train": "sql_state_tracking/cosql_train.json",
        "dev": "sql_state_tracking/cosql_dev.json",
    },
    "spider": {"train": "train_spider.json", "dev": "dev.json"},
}
"""Where each source keeps its dialogues, below the folder that its zip unpacks to."""

CLARIFICATION = "clarification"
"""Tag of a CoSQL turn whose question holds an exchange with the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTurn:
    """A turn as read: normalised, not yet executed or graded."""

    turn_id: str
    question: str
    gold_sql: str
    tags: tuple[str, ...] = ()
    unusable: str = ""
    """Why it cannot be used, as `KIND: DETAIL`; question and SQL may then be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDialogue:
    dialogue_id: str
    db_id: str
    turns: tuple[RawTurn, ...]
    unusable: str = ""
    """Why nothing of it can be used, as `KIND: DETAIL`; it then has no turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSource:
    """A source's folder as read."""

    name: SourceName
    dialogues: Mapping[SourceSplit, tuple[RawDialogue, ...]]
    """Only the files that are there; train always is."""
    schemas: Mapping[str, Schema]
    """Of tables.json, by db_id; empty without that file."""
    databases: Mapping[str, Path]
    """The SQLite files that are there, by db_id."""
    notes: tuple[str, ...] = ()
    """What of the files was read otherwise than they may lead one to think."""


# The official files hold more keys (toks, parsed sql, final); they are read over. A null is empty.
class _Interaction(BaseModel, frozen=True, extra="ignore"):
    utterance: str | None
    query: str | None


class _DialogueEntry(BaseModel, frozen=True, extra="ignore"):
    database_id: str
    interaction: list[object]


class _PairEntry(BaseModel, frozen=True, extra="ignore"):
    db_id: str


class _Pair(BaseModel, frozen=True, extra="ignore"):
    question: str | None
    query: str | None


Entry = TypeVar("Entry", bound=BaseModel)

_QUOTED_OR_APART = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | (?P<first>[<>!])\s+=""", re.VERBOSE
)


def join_operators(sql: str) -> str:
    """Join `> =`, `< =` and `! =` outside quoted text.

    Example: `a > = 1 AND b = '> ='` becomes `a >= 1 AND b = '> ='`.
    """

    def joined(match: re.Match[str]) -> str:
        return f"{match['first']}=" if match["first"] else match[0]

    return _QUOTED_OR_APART.sub(joined, sql)


def normalise_sql(sql: str) -> str:
    """Operators joined, outer white space and closing semicolons removed."""
    return join_operators(sql).strip().rstrip("; \t\n\r")


def normalise_question(question: str) -> str:
    """Runs of white space become one space."""
    return " ".join(question.split())


def normalise_exchange(utterance: str) -> str:
    """A CoSQL utterance as one question: its parts in order, joined by " | ".

    Example: `Which  one? |  Do you mean A? | | Yes` becomes `Which one? | Do you mean A? | Yes`.
    """
    parts = (normalise_question(part) for part in utterance.split("|"))
    return " | ".join(part for part in parts if part)


def read_source(name: SourceName, source: Path) -> RawSource:
    """Read what the folder `source` holds of a dataset: train, dev if there, schemas, databases.

    Databases are looked for in `source/database` and in `source/../database`, as
    DB/DB.sqlite; tables.json in `source`.

    Raises:
        DataError: no train file, a file of another layout, or no database at all; the text names
            the file, the entry, the key and the fix.
    """
    files = FILES[name]
    if not (source / files["train"]).is_file():
        inside = [path for path in _folders(source) if (path / files["train"]).is_file()]
        near = f"; did you mean --source {inside[0]}?" if inside else ""
        raise DataError(
            f"{source / files['train']}: no such file; --source is the folder of {name} "
            f"that holds {files['train']}, tables.json and database/{near}"
        )
    dialogues: dict[SourceSplit, tuple[RawDialogue, ...]] = {
        split: read_dialogues(name, split, source / file)
        for split, file in files.items()
        if (source / file).is_file()
    }
    tables = source / "tables.json"
    schemas, notes = _read_schemas(tables) if tables.is_file() else ({}, [])
    found = find_databases(source)
    named = {dialogue.db_id for part in dialogues.values() for dialogue in part}
    alike = {db_id: path for db_id in named if (path := database_of(db_id, found)) is not None}
    return RawSource(
        name=name,
        dialogues=dialogues,
        schemas=schemas,
        databases=found | alike,
        notes=tuple(notes),
    )


def _folders(source: Path) -> list[Path]:
    return [path for path in sorted(source.iterdir()) if path.is_dir()] if source.is_dir() else []


def read_dialogues(name: SourceName, split: SourceSplit, path: Path) -> tuple[RawDialogue, ...]:
    """One file of a source; ids hold the place in the file, `sparc-dev-0012` and its turn `/2`.

    Raises:
        DataError: it holds no list of entries, or not a single turn that can be used.
    """
    is_pairs = name == "spider"
    layout = (
        "a list of {db_id, question, query}"
        if is_pairs
        else "a list of {database_id, interaction: [{utterance, query}]}"
    )
    read = _read_pair if is_pairs else _read_dialogue
    items = _read_list(path, layout=layout)
    dialogues = [
        read(name, f"{name}-{split}-{number:04d}", item, f"{path.name}, entry {number}")
        for number, item in enumerate(items)
    ]
    unusable = [dialogue.unusable for dialogue in dialogues if dialogue.unusable]
    unusable += [turn.unusable for dialogue in dialogues for turn in dialogue.turns]
    if unusable and all(unusable):
        raise DataError(
            f"{path}: nothing in it can be used; {most_frequent(unusable)}; expected {layout}"
        )
    return tuple(dialogues)


def most_frequent(reasons: Sequence[str]) -> str:
    """The kind that most `KIND: DETAIL` have, their number, and the first of them."""
    [(kind, count)] = Counter(reason.split(":", 1)[0] for reason in reasons).most_common(1)
    first = next(reason for reason in reasons if reason.split(":", 1)[0] == kind)
    return f"{count} of {len(reasons)} are {kind}, first{first.removeprefix(kind)}"


def _read_dialogue(name: SourceName, dialogue_id: str, item: object, place: str) -> RawDialogue:
    try:
        entry = _DialogueEntry.model_validate(item)
    except ValidationError as error:
        return _unusable_dialogue(dialogue_id, item, "database_id", _malformed(place, error))
    turns: list[RawTurn] = []
    for index, one in enumerate(entry.interaction):
        turn_id = f"{dialogue_id}/{index}"
        where = f"interaction.{index}"
        try:
            turn = _Interaction.model_validate(one)
        except ValidationError as error:
            turns.append(_unusable_turn(turn_id, _malformed(place, error, where)))
        else:
            texts = (turn.utterance, turn.query)
            turns.append(_turn(name, turn_id, *texts, f"{place}, key {where}.", "utterance"))
    return RawDialogue(dialogue_id=dialogue_id, db_id=entry.database_id, turns=tuple(turns))


def _read_pair(name: SourceName, dialogue_id: str, item: object, place: str) -> RawDialogue:
    try:
        db_id = _PairEntry.model_validate(item).db_id
    except ValidationError as error:
        return _unusable_dialogue(dialogue_id, item, "db_id", _malformed(place, error))
    turn_id = f"{dialogue_id}/0"
    try:
        pair = _Pair.model_validate(item)
    except ValidationError as error:
        turn = _unusable_turn(turn_id, _malformed(place, error))
    else:
        turn = _turn(name, turn_id, pair.question, pair.query, f"{place}, key ", "question")
    return RawDialogue(dialogue_id=dialogue_id, db_id=db_id, turns=(turn,))


def _turn(
    name: SourceName,
    turn_id: str,
    question: str | None,
    query: str | None,
    place: str,
    question_key: str,
) -> RawTurn:
    normalise = normalise_exchange if name == "cosql" else normalise_question
    question, gold_sql = normalise(question or ""), normalise_sql(query or "")
    if not gold_sql:
        return _unusable_turn(turn_id, f"empty_query: {place}query")
    if not question:
        return _unusable_turn(turn_id, f"empty_question: {place}{question_key}")
    is_exchange = name == "cosql" and " | " in question
    tags = (CLARIFICATION,) if is_exchange else ()
    return RawTurn(turn_id=turn_id, question=question, gold_sql=gold_sql, tags=tags)


def _unusable_turn(turn_id: str, reason: str) -> RawTurn:
    return RawTurn(turn_id=turn_id, question="", gold_sql="", unusable=reason)


def _unusable_dialogue(dialogue_id: str, item: object, key: str, reason: str) -> RawDialogue:
    """With the database's name where there is one: reports count by it."""
    db_id = cast(dict[str, object], item).get(key) if isinstance(item, dict) else None
    named = db_id if isinstance(db_id, str) else ""
    return RawDialogue(dialogue_id=dialogue_id, db_id=named, turns=(), unusable=reason)


def _malformed(place: str, error: ValidationError, inside: str = "") -> str:
    return f"malformed: {place}: {first_mistake(error, inside=inside)}"


def read_schemas(path: Path) -> dict[str, Schema]:
    """The schemas of a tables.json file, by db_id; entries that cannot be used are left out.

    Raises:
        DataError: it holds no list of entries, or none that can be used.
    """
    return _read_schemas(path)[0]


def _read_schemas(path: Path) -> tuple[dict[str, Schema], list[str]]:
    """The schemas, and notes on what was left out."""
    layout = "Spider's tables.json: a list of {db_id, table_names_original, ...}"
    schemas: dict[str, Schema] = {}
    unusable: list[str] = []
    twice: list[str] = []
    for number, item in enumerate(_read_list(path, layout=layout)):
        try:
            schema = schema_from_spider(SpiderTables.model_validate(item))
        except ValidationError as error:
            unusable.append(f"entry {number}: {first_mistake(error)}")
        except DataError as error:
            unusable.append(str(error))
        else:
            if schemas.get(schema.db_id, schema) != schema:
                twice.append(schema.db_id)
            schemas[schema.db_id] = schema
    if not schemas:
        raise DataError(f"{path}: {unusable[0]}; expected {layout}")
    notes: list[str] = []
    if unusable:
        notes.append(
            f"{path.name}: {len(unusable)} entries cannot be used, and their schemas are read from "
            f"the databases: {some_of(unusable)}"
        )
    if twice:
        notes.append(
            f"{path.name}: several entries differ for one database, and the last counts: "
            f"{some_of(twice)}"
        )
    return schemas, notes


def find_databases(source: Path) -> dict[str, Path]:
    """SQLite files by db_id, of `source/database` and, where absent there, `source/../database`.

    Folders are listed and names looked up, so that a db_id never becomes part of a path.
    """
    source = source.resolve()
    found: dict[str, Path] = {}
    for folder in (source.parent / "database", source / "database"):
        if folder.is_dir():
            found |= databases_below(folder, suffixes=SQLITE_SUFFIXES)
    if not found:
        raise DataError(
            f"{source / 'database'}: no databases; put the dataset's database folder there or "
            f"beside it, as {source.parent / 'database'}, with files DB/DB.sqlite"
        )
    return found


def _read_list(path: Path, *, layout: str) -> list[object]:
    fix = f"expected {layout}"
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"{error}; {fix}") from error
    try:
        loaded: object = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error}); {fix}; fetch the file again") from error
    if not isinstance(loaded, list) or not loaded:
        raise DataError(f"{path}: holds no list of entries; {fix}")
    return cast(list[object], loaded)
