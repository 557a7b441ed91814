"""How much of a split train has seen."""

import json

from rich.console import Console

from helpers.shops import SALES_SCHEMA
from mtsql.data.dataset import Dataset
from mtsql.data.seen import Seen, seen_of, shares_seen
from mtsql.data.stats import dataset_stats, stats_json, stats_table
from mtsql.dialogue import Dialogue, Turn
from mtsql.schema import Column, Schema, Table

TOWN = Schema(
    db_id="town",
    tables=(
        Table(
            name="Shop",
            columns=(Column(name="Name", type="text"), Column(name="Street", type="text")),
        ),
        Table(name="mayor", columns=(Column(name="age", type="number"),)),
    ),
)
SCHEMAS = {"shops": SALES_SCHEMA, "town": TOWN}


def dialogue(name, db_id, *golds):
    return Dialogue(
        dialogue_id=name,
        db_id=db_id,
        turns=tuple(
            Turn(turn_id=f"{name}/{index}", question="q", gold_sql=gold, hardness="easy")
            for index, gold in enumerate(golds)
        ),
    )


TRAIN = [
    dialogue("a", "shops", "SELECT name FROM shop WHERE city = 'Rome'", "SELECT price FROM sale")
]
TEST = [
    dialogue(
        "b",
        "town",
        "SELECT Name FROM Shop WHERE Street = 'ROME'",  # shop, name of 3: half or more
        "SELECT Street FROM Shop WHERE Street = 'x'",  # shop of 2: half or more
        "SELECT age FROM mayor",  # none of 2
        "SELECT Name FROM Shop",  # all
        "SELECT 1",
        "not a query",
    )
]


def test_what_a_split_shares_with_train():
    found = seen_of(TEST, TRAIN, SCHEMAS)
    # The databases have shop in common, and of name, street and age the first.
    assert (found.schema_tables, found.schema_columns) == (
        Seen(num=2, num_seen=1),
        Seen(num=3, num_seen=1),
    )
    assert (found.gold_tables, found.gold_columns, found.gold_texts) == (
        Seen(num=2, num_seen=1),
        Seen(num=3, num_seen=1),
        Seen(num=2, num_seen=1),
    )
    assert found.turns == {"none": 1, "below half": 0, "half or more": 2, "all": 1}


def test_the_share_of_each_turn():
    shares = shares_seen(TEST, TRAIN, SCHEMAS)
    assert shares == {
        ("b", 0): 2 / 3,
        ("b", 1): 1 / 2,
        ("b", 2): 0.0,
        ("b", 3): 1.0,
        ("b", 4): None,
        ("b", 5): None,
    }
    assert shares_seen(TEST, [], SCHEMAS) == {}


def test_the_figures_show_it(tmp_path):
    dataset = Dataset(
        folder=tmp_path,
        name="small",
        seed=1,
        splits={"train": tuple(TRAIN), "test": tuple(TEST)},
        schemas=SCHEMAS,
        databases={},
    )
    stats = dataset_stats(dataset)
    assert stats.splits["train"].seen is None
    written = json.loads(stats_json(stats))["splits"]["test"]["seen"]
    assert written["gold_columns"] == {"num": 3, "num_seen": 1}
    console = Console(width=120, record=True, file=(tmp_path / "table.txt").open("w"))
    console.print(stats_table(stats))
    console.file.close()
    cells = [
        [cell.strip() for cell in line.split("\u2502")[1:-1]]
        for line in console.export_text().splitlines()
    ]
    rows = {row[0]: row[1:] for row in cells if row}
    assert rows["gold's tables seen in gold"] == ["-", "50% of 2"]
    assert rows["turns, none seen"] == ["-", "1"]
    alone = Dataset(
        folder=tmp_path,
        name="alone",
        seed=1,
        splits={"test": tuple(TEST)},
        schemas=SCHEMAS,
        databases={},
    )
    assert dataset_stats(alone).splits["test"].seen is None
