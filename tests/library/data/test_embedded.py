"""The generator of small databases and dialogues."""

import hashlib
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.embedded import generate
from mtsql.data.embedded.conditions import Scene
from mtsql.data.embedded.domains import DOMAINS, NUMBERS, VOCABULARIES
from mtsql.data.embedded.grammar import refine, swap_value
from mtsql.data.embedded.populate import MAX_ROWS, make_instance
from mtsql.data.embedded.query import (
    Aggregate,
    AverageIs,
    Combination,
    HasChild,
    HasNoChild,
    NumberIs,
    Order,
    Query,
    Ref,
    TextIs,
    to_sql,
)
from mtsql.sql.records import suspicion_of_rows

SIZES = {"num_train": 300, "num_valid": 10, "num_test": 40, "num_test_ood": 20}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("embedded") / "data"
    generate(out, seed=1, **SIZES)
    return load_dataset(out)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _all_turns(dataset: Dataset):
    for split, dialogues in dataset.splits.items():
        for dialogue in dialogues:
            for turn in dialogue.turns:
                yield split, dialogue, turn


def _rows(dataset: Dataset, db_id: str, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(dataset.databases[db_id])) as connection:
        return connection.execute(sql).fetchall()


def _text_columns(sql: str) -> list[tuple[str, str, str]]:
    """(table, column, value) of every `column = 'value'`, read from the SQL itself."""
    found = []
    for match in re.finditer(r"([\w.]+) = '([^']*)'", sql):
        column, value = match.groups()
        if "." in column:
            owner, column = column.split(".")
        else:
            # the nearest FROM to the left, outside of parentheses that are closed, names the table
            before = re.sub(r"\([^()]*\)", "", sql[: match.start()])
            owner = re.findall(r"FROM (\w+)", before)[-1]
        found.append((owner, column, value))
    return found


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    sizes = {"num_train": 20, "num_valid": 2, "num_test": 4, "num_test_ood": 2}
    generate(tmp_path / "a", seed=7, **sizes)
    generate(tmp_path / "b", seed=7, **sizes)
    first = _hashes(tmp_path / "a")
    assert len(first) == 68 + 4 + 2  # 8 domains x 8 + 4 databases, 4 splits, 2 JSON files
    assert first == _hashes(tmp_path / "b")


def test_held_out_splits_do_not_depend_on_the_size_of_train(
    dataset: Dataset, tmp_path: Path
) -> None:
    generate(tmp_path / "a", seed=1, **{**SIZES, "num_train": 0})
    smaller = load_dataset(tmp_path / "a")
    for split in ("valid", "test", "test_ood"):
        assert smaller.split(split) == dataset.split(split)


def test_foreign_keys_hold_and_tables_have_20_to_40_rows(dataset: Dataset) -> None:
    for db_id, schema in dataset.schemas.items():
        assert _rows(dataset, db_id, "PRAGMA foreign_key_check") == []
        assert len(schema.foreign_keys) == len(schema.tables) - 1
        for table in schema.tables:
            assert 3 <= len(table.columns) <= 5
            ((num_rows,),) = _rows(dataset, db_id, f"SELECT count(*) FROM {table.name}")
            assert 20 <= num_rows <= 40


def test_paired_databases_store_every_text_column_the_opposite_way() -> None:
    for domain in DOMAINS["in_domain"]:
        first, second = (make_instance(domain, number, seed=3) for number in (1, 2))
        assert first.conventions.keys() == second.conventions.keys()
        for ref, convention in first.conventions.items():
            assert {convention, second.conventions[ref]} == {"title", "upper"}


def test_values_survive_the_change_of_form_and_numbers_never_run_out() -> None:
    for values in VOCABULARIES.values():
        assert 8 <= len(values) <= 14
        assert all(value.upper().title() == value != value.upper() for value in values)
    assert all(span.high - span.low + 1 >= MAX_ROWS for span in NUMBERS.values())


def test_gold_results_are_suspicious_exactly_where_that_is_meant(dataset: Dataset) -> None:
    for _, dialogue, turn in _all_turns(dataset):
        rows = _rows(dataset, dialogue.db_id, turn.gold_sql)
        assert bool(suspicion_of_rows(rows)) == ("empty_gold" in turn.tags), turn


def test_in_a_trap_the_other_form_gives_an_empty_result_and_history_does_not_help(
    dataset: Dataset,
) -> None:
    for _, dialogue, turn in _all_turns(dataset):
        index = int(turn.turn_id.rpartition("/")[2])
        seen = {
            (owner, column)
            for earlier in dialogue.turns[:index]
            for owner, column, _ in _text_columns(earlier.gold_sql)
        }
        new = [text for text in _text_columns(turn.gold_sql) if text[:2] not in seen]
        assert ("trap" in turn.tags) == (bool(new) and "empty_gold" not in turn.tags), turn
        if "trap" in turn.tags:
            wrong = turn.gold_sql
            for _, _, value in new:
                other = value.title() if value.isupper() else value.upper()
                wrong = wrong.replace(f"'{value}'", f"'{other}'")
            assert suspicion_of_rows(_rows(dataset, dialogue.db_id, wrong)), turn


def test_questions_say_values_in_title_case_and_words_in_lower_case(dataset: Dataset) -> None:
    known = {value for values in VOCABULARIES.values() for value in values}
    for _, _, turn in _all_turns(dataset):
        spoken = re.findall(r"[A-Z]\w*(?: [A-Z]\w*)*", turn.question)
        assert set(spoken) <= known, turn
        assert turn.question == " ".join(turn.question.split())


def test_shares_of_tags_and_hardness(dataset: Dataset) -> None:
    turns = [turn for dialogue in dataset.split("train") for turn in dialogue.turns]
    tags = Counter(tag for turn in turns for tag in turn.tags)
    assert 0.40 <= tags["trap"] / len(turns) <= 0.50
    assert 0.55 <= sum("= '" in turn.gold_sql for turn in turns) / len(turns) <= 0.72
    assert 0 < tags["empty_gold"] / len(turns) <= 0.05
    for tag in (
        *("refinement", "ellipsis", "coreference", "aggregation", "grouping", "ordering"),
        *("join", "nested", "theme_change"),
    ):
        assert tags[tag] / len(turns) >= 0.05, tag
    labels = Counter(turn.hardness for turn in turns)
    for label, share in {"easy": 0.05, "medium": 0.05, "hard": 0.05, "extra": 0.03}.items():
        assert labels[label] / len(turns) >= share, label


def test_splits_share_neither_questions_nor_databases_nor_the_held_out_domain(
    dataset: Dataset,
) -> None:
    sizes = {split: len(dialogues) for split, dialogues in dataset.splits.items()}
    assert sizes == {"train": 300, "valid": 10, "test": 40, "test_ood": 20}
    asked = [
        tuple(turn.question for turn in dialogue.turns)
        for dialogues in dataset.splits.values()
        for dialogue in dialogues
    ]
    assert len(set(asked)) == len(asked)
    assert all(3 <= len(questions) <= 4 for questions in asked)
    of = {split: {d.db_id for d in dialogues} for split, dialogues in dataset.splits.items()}
    assert not of["train"] & (of["valid"] | of["test"] | of["test_ood"])
    assert {db_id.rpartition("_")[0] for db_id in of["test_ood"]} == {"film"}
    assert not any(db_id.startswith("film") for db_id in of["train"] | of["valid"] | of["test"])


IN_ROME = TextIs(ref=Ref("shop", "city"), value="Rome")
SHOPS_IN_ROME = Query(table="shop", select=(Ref("shop", "name"),), conditions=(IN_ROME,))


def _scene(*values: str) -> Scene:
    """A database in which every text column holds these values and no number occurs."""
    (shop,) = (domain for domain in DOMAINS["in_domain"] if domain.name == "shop")
    return Scene(
        domain=shop,
        texts=lambda query, ref: values,
        numbers=lambda query, ref: (),
        known=frozenset({Ref("shop", "city")}),
        wants_absent=False,
    )


def test_ellipsis_changes_the_value_and_nothing_else() -> None:
    candidate = swap_value(_scene("Paris", "Rome"), SHOPS_IN_ROME, Random(0))
    assert candidate is not None
    assert candidate.question in ("what about 'Paris' ?", "and 'Paris' ?")
    assert candidate.tags == ("ellipsis",)
    sql = to_sql(candidate.query, lambda ref, value: value.upper())
    assert sql == "SELECT name FROM shop WHERE city = 'PARIS'"


def test_ellipsis_is_silent_where_a_value_fits_two_columns() -> None:
    both = (
        TextIs(ref=Ref("flight", "origin"), value="Rome"),
        TextIs(ref=Ref("flight", "destination"), value="Paris"),
    )
    query = Query(table="flight", select=(Ref("flight", "price"),), conditions=both)
    (flight,) = (domain for domain in DOMAINS["in_domain"] if domain.name == "flight")
    scene = Scene(
        domain=flight,
        texts=lambda query, ref: ("Oslo",),
        numbers=lambda query, ref: (),
        known=frozenset(),
        wants_absent=False,
    )
    assert swap_value(scene, query, Random(0)) is None


def test_refinement_keeps_the_query_and_adds_one_condition() -> None:
    candidates = [refine(_scene("Bakery"), SHOPS_IN_ROME, Random(seed)) for seed in range(30)]
    found = [candidate for candidate in candidates if candidate is not None]
    assert found
    for candidate in found:
        assert candidate.tags == ("refinement",)
        assert candidate.query.conditions[0] == IN_ROME
        assert len(candidate.query.conditions) == 2
        bare = replace(candidate.query, conditions=(IN_ROME,), aggregate=None)
        assert bare == SHOPS_IN_ROME
    bakery = TextIs(ref=Ref("shop", "type"), value="Bakery")
    assert any(candidate.query.conditions[1] == bakery for candidate in found)


def test_every_form_of_sql_is_written_in_one_style() -> None:
    def sql(query: Query) -> str:
        return to_sql(query, lambda ref, value: value)

    price = Ref("product", "price")
    red = TextIs(ref=Ref("product", "color"), value="Red")
    product = Query(table="product", select=(Ref("product", "name"),))
    shops = Query(table="shop", select=(Ref("shop", "name"), Ref("shop", "year")))
    assert sql(shops) == "SELECT name, year FROM shop"
    assert sql(replace(product, conditions=(red, NumberIs(ref=price, sign=">", value=50)))) == (
        "SELECT name FROM product WHERE color = 'Red' AND price > 50"
    )
    assert sql(replace(product, conditions=(IN_ROME, AverageIs(ref=price, sign="<")))) == (
        "SELECT product.name FROM product JOIN shop ON product.shop_id = shop.id"
        " WHERE shop.city = 'Rome' AND product.price < (SELECT avg(price) FROM product)"
    )
    assert sql(replace(shops, conditions=(HasChild(child=red), HasNoChild(child="worker")))) == (
        "SELECT name, year FROM shop WHERE id IN (SELECT shop_id FROM product WHERE color = 'Red')"
        " AND id NOT IN (SELECT shop_id FROM worker)"
    )
    best = Order(by=price, is_descending=True, is_superlative=True)
    assert sql(replace(product, order=best)) == (
        "SELECT name FROM product ORDER BY price DESC LIMIT 1"
    )
    most = Order(by=None, is_descending=True, is_superlative=True)
    assert sql(Query(table="product", select=(), group=Ref("shop", "city"), order=most)) == (
        "SELECT shop.city FROM product JOIN shop ON product.shop_id = shop.id"
        " GROUP BY shop.city ORDER BY count(*) DESC LIMIT 1"
    )
    average = Aggregate(function="avg", ref=price)
    assert sql(Query(table="product", select=(), aggregate=average)) == (
        "SELECT avg(price) FROM product"
    )
    blue = Combination(
        operator="EXCEPT", condition=TextIs(ref=Ref("product", "color"), value="Blue")
    )
    assert sql(replace(product, conditions=(red,), combination=blue)) == (
        "SELECT name FROM product WHERE color = 'Red' EXCEPT"
        " SELECT name FROM product WHERE color = 'Blue'"
    )
