"""What of a source cannot be used is left out of the prepared data, counted and named."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mtsql.data.dataset import load_dataset
from mtsql.data.prepare import prepare
from mtsql.errors import DataError
from recipes.main import main

GOOD = {"utterance": "How old?", "query": "SELECT age FROM pet"}


def make_database(folder: Path, db_id: str) -> Path:
    path = folder / "database" / db_id / f"{db_id}.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE pet (age INTEGER); INSERT INTO pet VALUES (3), (4);")
    return path


def write_source(folder: Path, *entries: object) -> Path:
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder


def dialogue(db_id: str, *turns: object) -> dict[str, object]:
    return {"database_id": db_id, "interaction": turns}


def test_rows_and_databases_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    source = write_source(
        tmp_path / "sparc",
        dialogue("pets", GOOD, GOOD | {"query": ""}, GOOD | {"utterance": None}, GOOD),
        dialogue("empty", GOOD, GOOD),
        dialogue("duck", GOOD),
        dialogue("gone", GOOD),
        {"interaction": [GOOD]},
        dialogue("cars", GOOD | {"query": 5}, GOOD),
    )
    make_database(source, "pets")
    make_database(source, "cars")
    make_database(source, "empty").write_bytes(b"")
    make_database(source, "duck").write_bytes(bytes(8) + b"DUCK" + bytes(90))
    make_database(source, "unused").write_bytes(b"")  # no dialogue is about it
    report = prepare("sparc", source=source, out=tmp_path / "out")
    dataset = load_dataset(tmp_path / "out")
    kept = [turn.turn_id for part in dataset.splits.values() for one in part for turn in one.turns]
    assert sorted(kept) == [
        "sparc-train-0000/0",
        "sparc-train-0000/3",
        "sparc-train-0005/1",
    ]
    assert set(dataset.databases) == {"pets", "cars"}
    assert [(turn.turn_id, turn.kind) for turn in dataset.skipped] == [
        ("sparc-train-0000/1", "empty_query"),
        ("sparc-train-0000/2", "empty_question"),
        ("sparc-train-0001/0", "unreadable_database"),
        ("sparc-train-0001/1", "unreadable_database"),
        ("sparc-train-0002/0", "unreadable_database"),
        ("sparc-train-0003/0", "missing_database"),
        (None, "malformed"),
        ("sparc-train-0005/0", "malformed"),
    ]
    database = source / "database"
    assert report.lines()[:7] == [
        "sparc: 10 turns read, 3 kept",
        "skipped 1 dialogues: malformed (? 1): train.json, entry 4: key 'database_id': "
        "Field required",
        "skipped 1 turns: empty_query (pets 1): train.json, entry 0, key interaction.1.query",
        "skipped 1 turns: empty_question (pets 1): train.json, entry 0, key "
        "interaction.2.utterance",
        "skipped 1 turns: malformed (cars 1): train.json, entry 5: key 'interaction.0.query': "
        "Input should be a valid string (given: 5)",
        "skipped 1 turns: missing_database (gone 1)",
        "skipped 3 turns: unreadable_database (empty 2, duck 1): "
        f"{database}/empty/empty.sqlite: cannot be read as an SQLite database: it is empty "
        f"(0 bytes): fetch or copy it again, {database}/duck/duck.sqlite: cannot be read as an "
        "SQLite database: it is a DuckDB database: let its name end in .duckdb, or give it as "
        "duckdb:///PATH",
    ]


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (GOOD | {"query": None}, "empty_query: train.json, entry 1, key interaction.1.query"),
        (GOOD | {"query": "SELECT wings FROM pet"}, "gold_error: no_such_column"),
        ({"query": "SELECT 1"}, "malformed: train.json, entry 1: key 'interaction.1.utterance'"),
    ],
)
def test_strict_ends_at_the_first_turn_that_cannot_be_used(
    turn: object, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_source(tmp_path / "sparc", dialogue("pets", GOOD), dialogue("pets", GOOD, turn))
    make_database(source, "pets")
    words = ["data", "prepare", "sparc", "--source", str(source), "--out", str(tmp_path / "out")]
    assert main([*words, "--strict"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "sparc-train-0001/1 (database 'pets') cannot be used: " in line
    assert reason in line
    assert not (tmp_path / "out").exists()
    assert main(words) == 0


def test_a_source_of_which_nothing_can_be_used_names_the_most_frequent_reason(
    tmp_path: Path,
) -> None:
    source = write_source(
        tmp_path / "sparc",
        dialogue("gone", GOOD),
        dialogue("empty", GOOD, GOOD),
    )
    make_database(source, "empty").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        prepare("sparc", source=source, out=tmp_path / "out")
    assert "no turn of train can be used; 2 of 3 are unreadable_database, first: " in str(
        caught.value
    )
    assert "it is empty (0 bytes)" in str(caught.value)
