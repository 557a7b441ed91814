"""SParC, CoSQL and Spider files, in the official layout or reduced to the keys that are used.

Two normalisations are made, and no other:
- SQL: comparison operators written apart (`> =`, `< =`, `! =`) are joined outside quotes, as the
  official evaluators do, and a closing semicolon goes. Case and spacing stay.
- Questions: runs of white space become one space. A CoSQL utterance holds a clarification as
  `question | system's question | user's reply`; it stays one question with all parts in order,
  joined by " | ", empty parts left out, and the turn is tagged `clarification`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast

from pydantic import BaseModel, StringConstraints, ValidationError

from mtsql.data.spider_tables import SpiderTables, schema_from_spider
from mtsql.errors import DataError, first_mistake
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDialogue:
    dialogue_id: str
    db_id: str
    turns: tuple[RawTurn, ...]


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


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


# The official files hold more keys (toks, parsed sql, final); they are read over.
class _Interaction(BaseModel, frozen=True, extra="ignore"):
    utterance: Text
    query: Text


class _DialogueEntry(BaseModel, frozen=True, extra="ignore"):
    database_id: str
    interaction: list[_Interaction]


class _PairEntry(BaseModel, frozen=True, extra="ignore"):
    db_id: str
    question: Text
    query: Text


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
        DataError: no train file, a malformed file, or no database at all; the text names the file,
            the entry, the key and the fix.
    """
    files = FILES[name]
    if not (source / files["train"]).is_file():
        raise DataError(
            f"{source / files['train']}: no such file; --source is the folder of {name} "
            f"that holds {files['train']}, tables.json and database/"
        )
    dialogues: dict[SourceSplit, tuple[RawDialogue, ...]] = {
        split: read_dialogues(name, split, source / file)
        for split, file in files.items()
        if (source / file).is_file()
    }
    tables = source / "tables.json"
    return RawSource(
        name=name,
        dialogues=dialogues,
        schemas=read_schemas(tables) if tables.is_file() else {},
        databases=find_databases(source),
    )


def read_dialogues(name: SourceName, split: SourceSplit, path: Path) -> tuple[RawDialogue, ...]:
    """One file of a source; ids hold the place in the file, `sparc-dev-0012` and its turn `/2`."""
    if name == "spider":
        pairs = _read_entries(path, _PairEntry, layout="a list of {db_id, question, query}")
        rows = [(pair.db_id, [(pair.question, pair.query)]) for pair in pairs]
    else:
        layout = "a list of {database_id, interaction: [{utterance, query}]}"
        entries = _read_entries(path, _DialogueEntry, layout=layout)
        rows = [
            (entry.database_id, [(turn.utterance, turn.query) for turn in entry.interaction])
            for entry in entries
        ]
    return tuple(
        _dialogue(name, f"{name}-{split}-{number:04d}", db_id, turns)
        for number, (db_id, turns) in enumerate(rows)
    )


def _dialogue(
    name: SourceName, dialogue_id: str, db_id: str, turns: list[tuple[str, str]]
) -> RawDialogue:
    normalise = normalise_exchange if name == "cosql" else normalise_question
    raw_turns: list[RawTurn] = []
    for index, (utterance, query) in enumerate(turns):
        question = normalise(utterance)
        is_exchange = name == "cosql" and " | " in question
        raw_turns.append(
            RawTurn(
                turn_id=f"{dialogue_id}/{index}",
                question=question,
                gold_sql=normalise_sql(query),
                tags=(CLARIFICATION,) if is_exchange else (),
            )
        )
    return RawDialogue(dialogue_id=dialogue_id, db_id=db_id, turns=tuple(raw_turns))


def read_schemas(path: Path) -> dict[str, Schema]:
    """The schemas of a tables.json file, by db_id."""
    layout = "Spider's tables.json: a list of {db_id, table_names_original, ...}"
    entries = _read_entries(path, SpiderTables, layout=layout)
    try:
        schemas = [schema_from_spider(entry) for entry in entries]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return {schema.db_id: schema for schema in schemas}


def find_databases(source: Path) -> dict[str, Path]:
    """SQLite files by db_id, of `source/database` and, where absent there, `source/../database`.

    Folders are listed and names looked up, so that a db_id never becomes part of a path.
    """
    source = source.resolve()
    found: dict[str, Path] = {}
    for folder in (source.parent / "database", source / "database"):
        for path in sorted(folder.glob("*/*.sqlite")):
            if path.stem == path.parent.name:
                found[path.stem] = path
    if not found:
        raise DataError(
            f"{source / 'database'}: no databases; put the dataset's database folder there or "
            f"beside it, as {source.parent / 'database'}, with files DB/DB.sqlite"
        )
    return found


def _read_entries(path: Path, kind: type[Entry], *, layout: str) -> list[Entry]:
    fix = f"expected {layout}"
    try:
        loaded: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {fix}") from error
    except ValueError as error:  # not UTF-8, or no JSON
        raise DataError(f"{path}: no JSON ({error}); {fix}; fetch the file again") from error
    if not isinstance(loaded, list) or not loaded:
        raise DataError(f"{path}: holds no list of entries; {fix}")
    entries: list[Entry] = []
    for number, item in enumerate(cast(list[object], loaded)):
        try:
            entries.append(kind.model_validate(item))
        except ValidationError as error:
            raise DataError(f"{path}, entry {number}: {first_mistake(error)}; {fix}") from error
    return entries
