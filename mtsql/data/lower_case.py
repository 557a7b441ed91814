"""Names and keywords in lower case, as a model reads and writes them; no database changes."""

from dataclasses import replace

from mtsql.data.dataset import Dataset
from mtsql.dialogue import Dialogue
from mtsql.query.texts import in_lower_case
from mtsql.schema import ForeignKey, Schema


def in_lower_case_throughout(dataset: Dataset) -> Dataset:
    """The same dialogues with the names of schemas and the words of golds in lower case.

    Left alone is what runs on PostgreSQL, where `"Name"` and `name` are two names.
    """
    schemas = {db_id: _schema(schema) for db_id, schema in dataset.schemas.items()}
    splits = {
        name: tuple(_dialogue(one, schemas[one.db_id]) for one in dialogues)
        for name, dialogues in dataset.splits.items()
    }
    return replace(dataset, schemas=schemas, splits=splits)


def _dialogue(dialogue: Dialogue, schema: Schema) -> Dialogue:
    if not _folds(schema):
        return dialogue
    turns = (
        turn.model_copy(update={"gold_sql": in_lower_case(turn.gold_sql)})
        for turn in dialogue.turns
    )
    return dialogue.model_copy(update={"turns": tuple(turns)})


def _schema(schema: Schema) -> Schema:
    if not _folds(schema):
        return schema
    tables = tuple(
        table.model_copy(
            update={
                "name": _lower(table.name),
                "columns": tuple(
                    column.model_copy(update={"name": _lower(column.name)})
                    for column in table.columns
                ),
            }
        )
        for table in schema.tables
    )
    keys = tuple(
        ForeignKey(**{field: _lower(name) for field, name in key.model_dump().items()})
        for key in schema.foreign_keys
    )
    return schema.model_copy(update={"tables": tables, "foreign_keys": keys})


def _folds(schema: Schema) -> bool:
    return schema.engine in ("sqlite", "duckdb")


def _lower(name: str) -> str:
    """SQLite folds the letters of ASCII only."""
    return name.lower() if name.isascii() else name
