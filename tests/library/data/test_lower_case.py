"""Names and golds in lower case answer as they did."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from mtsql.data.dataset import Dataset
from mtsql.data.lower_case import in_lower_case_throughout
from mtsql.dialogue import Dialogue, Turn
from mtsql.query.texts import in_lower_case
from mtsql.schema import Column, EngineName, ForeignKey, Schema, Table


@pytest.mark.parametrize(
    ("sql", "lower"),
    [
        ("SELECT T1.Name FROM Shop AS T1", "select t1.name from shop as t1"),
        ("SELECT 'Rome', \"Rome\", [Rome], `Rome`", "select 'Rome', \"Rome\", [Rome], `Rome`"),
        ("SELECT 'It''s A' -- Why\n, X /* No */", "select 'It''s A' -- Why\n, x /* No */"),
        ("SELECT X'AB', 1E3, Straße, ID", "select X'AB', 1e3, Straße, id"),
        # What cannot be read stays.
        ("SELECT 'Rome", "SELECT 'Rome"),
        ("", ""),
    ],
)
def test_words_become_lower_case_and_quotes_stay(sql: str, lower: str) -> None:
    assert in_lower_case(sql) == lower
    assert in_lower_case(lower) == lower


def dataset(engine: EngineName) -> Dataset:
    shop = Table(name="Shop", columns=(Column(name="ID", type="number", is_primary=True),))
    sale = Table(name="Sale", columns=(Column(name="Shop_ID", type="number"),))
    key = ForeignKey(table="Sale", column="Shop_ID", ref_table="Shop", ref_column="ID")
    schema = Schema(db_id="Shops", tables=(shop, sale), foreign_keys=(key,), engine=engine)
    turn = Turn(turn_id="A/0", question="Which ID?", gold_sql="SELECT ID FROM Shop", hardness=None)
    dialogue = Dialogue(dialogue_id="A", db_id="Shops", turns=(turn,))
    return Dataset(
        folder=Path("data"),
        name="small",
        seed=1,
        splits={"train": (dialogue,)},
        schemas={"Shops": schema},
        databases={},
    )


def test_schemas_and_golds_change_together() -> None:
    changed = in_lower_case_throughout(dataset("sqlite"))
    schema = changed.schemas["Shops"]
    assert [table.name for table in schema.tables] == ["shop", "sale"]
    assert schema.tables[0].columns == (Column(name="id", type="number", is_primary=True),)
    assert schema.foreign_keys[0].ref_table == "shop"
    assert schema.foreign_keys[0].column == "shop_id"
    # Ids and questions stay.
    assert schema.db_id == "Shops"
    [turn] = changed.splits["train"][0].turns
    assert (turn.turn_id, turn.question) == ("A/0", "Which ID?")
    assert turn.gold_sql == "select id from shop"


def test_postgresql_tells_the_cases_apart() -> None:
    assert in_lower_case_throughout(dataset("postgresql")) == dataset("postgresql")


def test_real_golds_answer_as_before(shared_data: Path) -> None:
    # Every seventh gold of dev, on its database.
    entries = json.loads((shared_data / "sparc" / "dev.json").read_text("utf-8"))
    databases = {path.stem: path for path in shared_data.glob("database/*/*.sqlite")}
    golds = [
        (databases[entry["database_id"]], turn["query"])
        for entry in entries
        if entry["database_id"] in databases
        for turn in entry["interaction"]
    ]
    num_run = 0
    for path, sql in golds[::7]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.text_factory = bytes
            try:
                rows = connection.execute(sql).fetchall()
            except sqlite3.Error:
                continue
            assert Counter(connection.execute(in_lower_case(sql)).fetchall()) == Counter(rows), sql
            num_run += 1
    assert num_run > 150
