"""Findings about golds: each rule on a gold that departs and on one that does not; the measure."""

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mtsql.audit.audit import Audit, audit
from mtsql.audit.planting import PLANTS, plant
from mtsql.audit.reading import is_named, numbers_in
from mtsql.audit.rules import departures
from mtsql.config.reward import RewardConfig
from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import load_dataset, write_dataset
from mtsql.data.exclusions import read_exclusions
from mtsql.dialogue import Dialogue, Turn
from mtsql.query.names import names_of
from mtsql.schema import Column, Schema, Table
from recipes.main import main

SCHEMA = Schema(
    db_id="shop",
    tables=(
        Table(
            name="shop",
            columns=(
                Column(name="name", type="text"),
                Column(name="city", type="text"),
                Column(name="price", type="number"),
            ),
        ),
    ),
)
BASE = "SELECT name FROM shop"


def dialogue(*turns: tuple[str, str], number: int = 0) -> Dialogue:
    dialogue_id = f"x-train-{number:04d}"
    return Dialogue(
        dialogue_id=dialogue_id,
        db_id="shop",
        turns=tuple(
            Turn(turn_id=f"{dialogue_id}/{index}", question=question, gold_sql=sql, hardness="easy")
            for index, (question, sql) in enumerate(turns)
        ),
    )


def kinds(*turns: tuple[str, str], index: int = -1) -> set[str]:
    whole = dialogue(*turns)
    place = index % len(whole.turns)
    return {kind for kind, _ in departures(whole, place, names_of(SCHEMA))}


@pytest.mark.parametrize(
    ("kind", "question", "wrong", "right"),
    [
        ("value", "Shops in Oslo?", f"{BASE} WHERE city = 'Rome'", f"{BASE} WHERE city = 'Oslo'"),
        ("value", "Shops above 5?", f"{BASE} WHERE price > 17", f"{BASE} WHERE price > 5"),
        ("condition", 'Which are in "Oslo"?', BASE, f"{BASE} WHERE city = 'Oslo'"),
        ("condition", "Which cost 70?", BASE, f"{BASE} WHERE price = 70"),
        ("aggregate", "The average price?", "SELECT min(price) FROM shop",
         "SELECT avg(price) FROM shop"),
        ("aggregate", "Prices?", "SELECT avg(price) FROM shop", "SELECT price FROM shop"),
        ("comparison", "Those with more than 5?", f"{BASE} WHERE price < 5",
         f"{BASE} WHERE price > 5"),
        ("comparison", "Less than 5?", f"{BASE} WHERE price >= 5", f"{BASE} WHERE price < 5"),
        ("order", "In descending order of price", f"{BASE} ORDER BY price",
         f"{BASE} ORDER BY price DESC"),
        ("order", "Which has the lowest price?", f"{BASE} ORDER BY price DESC LIMIT 1",
         f"{BASE} ORDER BY price LIMIT 1"),
        ("limit", "The top 3 by price", f"{BASE} ORDER BY price DESC LIMIT 5",
         f"{BASE} ORDER BY price DESC LIMIT 3"),
        ("limit", "The top three by price", f"{BASE} ORDER BY price DESC",
         f"{BASE} ORDER BY price DESC LIMIT 3"),
        ("distinct", "What are the different cities?", "SELECT city FROM shop",
         "SELECT DISTINCT city FROM shop"),
        ("join", "Names?", "SELECT T1.name FROM shop AS T1 JOIN shop AS T2 ON T1.name = T1.city",
         "SELECT T1.name FROM shop AS T1 JOIN shop AS T2 ON T1.name = T2.city"),
    ],
)  # fmt: skip
def test_each_rule_knows_a_departure(kind: str, question: str, wrong: str, right: str) -> None:
    assert kind in kinds((question, wrong))
    assert kinds((question, right)) == set()


def test_what_the_dialogue_says_is_no_departure() -> None:
    oslo = f"{BASE} WHERE city = 'Oslo'"
    assert kinds(("Shops in Oslo?", oslo), ("Their prices?", oslo)) == set()
    # the golds around it agree on the way they compare
    dear, cheap = f"{BASE} WHERE price > 5", f"{BASE} WHERE price < 5"
    assert "comparison" in kinds(("Above 5?", dear), ("Show names", cheap), ("Show all", dear),
                                 index=1)  # fmt: skip
    assert kinds(("?", "no SQL (")) == set()


def test_values_are_named_by_digits_words_and_beginnings() -> None:
    assert numbers_in("the 3 oldest of two, above 1,000") == {"3", "2", "1000"}
    assert is_named("United States", "those in the state of unity")
    assert is_named("4", "more than three")  # >= 4
    assert is_named("F", "women")
    assert not is_named("Rome", "shops in Oslo")
    assert not is_named("12", "more than three")


def test_planted_errors_change_the_text() -> None:
    sql = (
        "SELECT DISTINCT name, max(price) FROM shop WHERE city = 'Oslo' AND price > 5 "
        "GROUP BY name ORDER BY price DESC LIMIT 3"
    )
    for kind in set(PLANTS) - {"missing_join"}:
        found = plant(kind, sql, "shops in Oslo above 5", SCHEMA, random.Random(1))
        assert found is not None, kind
        assert found != sql
    assert plant("limit", BASE, "", SCHEMA, random.Random(1)) is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty dialogues without an error, and one with three."""
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection:
        connection.executescript(
            "CREATE TABLE shop (name TEXT, city TEXT, price INTEGER);"
            "INSERT INTO shop VALUES ('Ada', 'Oslo', 9), ('Bob', 'Oslo', 9), ('Cy', 'Rome', 50);"
        )
    good = [
        dialogue(
            ("Which shops are in Oslo?", f"{BASE} WHERE city = 'Oslo'"),
            ("Which of them cost more than 5?", f"{BASE} WHERE city = 'Oslo' AND price > 5"),
            number=number,
        )
        for number in range(30)
    ]
    bad = dialogue(
        ("Which shops are in Oslo?", f"{BASE} WHERE city = 'Rome'"),
        ("Which is the dearest?", f"{BASE} ORDER BY price < 10 DESC LIMIT 1"),
        ("Which cost less than 1?", f"{BASE} WHERE price < 1"),
        number=30,
    )
    write_dataset(
        tmp_path / "data",
        name="hand",
        seed=1,
        splits={"train": [*good, bad]},
        databases={"shop": tmp_path / "shop.sqlite"},
        schemas=[SCHEMA],
        skipped=[],
    )
    return tmp_path / "data"


def test_findings_and_their_precision(folder: Path) -> None:
    found: Audit = audit(load_dataset(folder), SqlConfig(), RewardConfig(), num_planted=15, seed=1)
    assert found.num_turns == 63
    by_kind = {(one.kind, one.dialogue_id, one.turn) for one in found.findings}
    assert ("value", "x-train-0030", 0) in by_kind
    assert ("cuts_tie", "x-train-0030", 1) in by_kind
    assert ("empty", "x-train-0030", 2) in by_kind
    assert {dialogue_id for _, dialogue_id, _ in by_kind} == {"x-train-0030"}
    measured = found.measured
    assert measured.num_planted == 15
    # kinds that the two golds have place for: found unless nothing in words tells
    assert measured.recall["wrong_column"] == 1.0
    assert measured.overall_recall is not None
    assert measured.overall_recall >= 0.8


def test_the_command_writes_what_a_recipe_excludes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.jsonl"
    words = ["data", "audit", str(folder), "--planted", "5", "--seed", "2", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_turns"] == 63
    assert printed["findings"]["value"] == 2  # Rome, and the 10 that nobody names
    assert set(printed["precision"]) == set(printed["findings"])
    assert "x-train-0030/0" in read_exclusions(out, load_dataset(folder))
    assert main(words) == 0
    assert "5 planted errors" in capsys.readouterr().out
