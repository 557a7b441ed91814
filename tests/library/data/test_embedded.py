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
from mtsql.data.embedded.conditions import Scene, words
from mtsql.data.embedded.grammar import refine, swap_value
from mtsql.data.embedded.layout import Layout, TableSpec, TextColumn, make_layout, new_words, said
from mtsql.data.embedded.lexicon import (
    COLUMN_MODIFIERS,
    DOMAINS,
    NUMBER_COLUMNS,
    PLAIN_WORDS,
    TABLE_MODIFIERS,
    TEXT_COLUMNS,
    Domain,
    NumberRange,
    reserved_words,
)
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
from mtsql.shown.schema import compact_schema
from mtsql.sql.quoting import needs_quotes
from mtsql.sql.records import suspicion_of_rows

SIZES = {
    "num_train": 300,
    "num_valid": 10,
    "num_test": 40,
    "num_test_unseen_db": 20,
    "num_test_ood": 20,
}
HELD_OUT = ("valid", "test", "test_unseen_db", "test_ood")


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
    sizes = {
        "num_train": 20,
        "num_valid": 2,
        "num_test": 4,
        "num_test_unseen_db": 3,
        "num_test_ood": 2,
    }
    generate(tmp_path / "a", seed=7, **sizes)
    generate(tmp_path / "b", seed=7, **sizes)
    first = _hashes(tmp_path / "a")
    # A database for each dialogue, those of train and test shared; 5 splits, 2 JSON files.
    assert len(first) == (20 + 3 + 2 + 2) + 5 + 2
    assert first == _hashes(tmp_path / "b")


def test_held_out_splits_do_not_depend_on_the_size_of_train(
    dataset: Dataset, tmp_path: Path
) -> None:
    generate(tmp_path / "a", seed=1, **{**SIZES, "num_train": 0})
    smaller = load_dataset(tmp_path / "a")
    for split in HELD_OUT:
        assert smaller.split(split) == dataset.split(split)


def test_foreign_keys_hold_and_tables_have_20_to_40_rows(dataset: Dataset) -> None:
    for db_id, schema in dataset.schemas.items():
        assert _rows(dataset, db_id, "PRAGMA foreign_key_check") == []
        assert len(schema.foreign_keys) == len(schema.tables) - 1
        for table in schema.tables:
            assert 3 <= len(table.columns) <= 7
            ((num_rows,),) = _rows(dataset, db_id, f"SELECT count(*) FROM {table.name}")
            assert 20 <= num_rows <= 40


def test_paired_databases_store_every_text_column_the_opposite_way() -> None:
    for domain in DOMAINS["known"]:
        first, second = (make_instance(domain, number, seed=3) for number in (1, 2))
        assert first.layout == second.layout
        for ref, convention in first.conventions.items():
            assert {convention, second.conventions[ref]} == {"title", "upper"}


def test_values_survive_the_change_of_form_and_numbers_never_run_out() -> None:
    values = [value for kind in PLAIN_WORDS for value in PLAIN_WORDS[kind]]
    for kind in ("person", "city", "country", "name"):
        values += new_words(kind, Random(1))
    assert all(value.upper().title() == value != value.upper() for value in values)
    spans = [span for columns in NUMBER_COLUMNS.values() for span in columns.values()]
    assert all(span.high - span.low + 1 >= MAX_ROWS for span in spans)


def test_no_name_needs_quotes_and_every_plural_takes_an_s() -> None:
    nouns = [noun for role in DOMAINS.values() for domain in role for noun in _nouns(domain)]
    columns = [*NUMBER_COLUMNS["known"], *NUMBER_COLUMNS["unseen"]]
    columns += [word for role in TEXT_COLUMNS.values() for kind in role.values() for word in kind]
    for name in (*nouns, *columns, "id", "code", "uid", "ref"):
        assert not needs_quotes(name, "sqlite"), name
        assert name == name.lower()
    for noun in nouns:
        assert not noun.endswith(("s", "x", "z", "ch", "sh", "man", "men")), noun
        assert not re.search(r"[^aeiou]y$", noun), noun


def test_a_domain_without_its_word_in_training_shares_no_noun_and_only_names_of_columns() -> None:
    known, unseen = (
        {noun for domain in DOMAINS[role] for noun in _nouns(domain)}
        for role in ("known", "unseen")
    )
    assert not known & unseen
    assert len(known) > 450
    columns = [
        {*NUMBER_COLUMNS[role], *(word for kind in TEXT_COLUMNS[role].values() for word in kind)}
        for role in ("known", "unseen")
    ]
    assert columns[0] & columns[1] == {"name"}
    # With a modifier before each: the names that databases draw from.
    assert len(known) * len(TABLE_MODIFIERS) > 25_000
    assert len(columns[0]) * len(COLUMN_MODIFIERS) > 2_500


def test_names_and_their_order_differ_from_database_to_database() -> None:
    (school,) = (domain for domain in DOMAINS["known"] if domain.name == "school")
    layouts = [make_layout(school, Random(number)) for number in range(30)]
    assert len({frozenset(table.name for table in layout.tables) for layout in layouts}) == 30
    # Not always parents first, and not always texts before numbers.
    assert any(layout.tables[0].parent for layout in layouts)
    tables = [table for layout in layouts for table in layout.tables]
    assert any(table.columns != (*table.texts, *table.numbers) for table in tables)
    assert {layout.key for layout in layouts} == {"id", "code", "uid", "ref"}


def _nouns(domain: Domain) -> list[str]:
    return [noun for nouns in domain.nouns.values() for noun in nouns]


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
    for _, _, turn in _all_turns(dataset):
        for value in re.findall(r"'([^']*)'", turn.question):
            assert value == value.title(), turn
        assert re.sub(r"'[^']*'", "", turn.question).islower(), turn
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
    assert sizes == {"train": 300, "valid": 10, "test": 40, "test_unseen_db": 20, "test_ood": 20}
    asked = [
        tuple(turn.question for turn in dialogue.turns)
        for dialogues in dataset.splits.values()
        for dialogue in dialogues
    ]
    assert len(set(asked)) == len(asked)
    assert all(3 <= len(questions) <= 4 for questions in asked)
    of = {split: {d.db_id for d in dialogues} for split, dialogues in dataset.splits.items()}
    assert of["test"] <= of["train"]
    others = [of["valid"], of["test_unseen_db"], of["test_ood"], of["train"]]
    assert len(set.union(*others)) == sum(map(len, others))
    domains = {split: {db_id.rpartition("_")[0] for db_id in of[split]} for split in of}
    assert domains["test_unseen_db"] | domains["valid"] <= domains["train"]
    assert domains["test_ood"] == {domain.name for domain in DOMAINS["unseen"]}
    assert not domains["test_ood"] & domains["train"]


def test_no_schema_of_an_unseen_database_is_in_train(dataset: Dataset) -> None:
    def schemas(split: str) -> set[str]:
        return {
            compact_schema(dataset.schemas[dialogue.db_id]) for dialogue in dataset.split(split)
        }

    train = schemas("train")
    # 300 dialogues ask 10 databases of each of 28 domains and an 11th of 20: with 1, 2, 3 and 4 of
    # the known ones 2 pairs that share a schema, with 13 to 18 3 pairs of the coined ones, and 19.
    assert len(train) == 28 * 5 + 20
    for split in ("valid", "test_unseen_db", "test_ood"):
        assert not schemas(split) & train


def test_most_training_databases_have_names_that_no_list_holds(dataset: Dataset) -> None:
    known, coined = set[str](), set[str]()
    for dialogue in dataset.split("train"):
        of = coined if int(dialogue.db_id.rpartition("_")[2]) > 12 else known
        of.add(dialogue.db_id)
    # See the numbers above: 4 of 10, then 6 of 10 and 20 others.
    assert (len(known), len(coined)) == (28 * 4, 28 * 6 + 20)
    words = reserved_words()

    def nouns(db_id: str) -> list[str]:
        """Table names without a modifier."""
        names = [table.name for table in dataset.schemas[db_id].tables]
        return [name for name in names if not name.partition("_")[2]]

    assert all(name in words for db_id in known for name in nouns(db_id))
    names = [name for db_id in coined for name in nouns(db_id)]
    assert not set(names) & words
    # Pairs share their schema; else hardly a name comes twice.
    assert len(set(names)) > 0.45 * len(names) > 100


def _table(name: str, texts: dict[str, TextColumn], *numbers: str, parent: str = "") -> TableSpec:
    return TableSpec(
        name=name,
        parent=parent,
        texts=texts,
        numbers=dict.fromkeys(numbers, NumberRange(low=1, high=60)),
        columns=(*texts, *numbers),
    )


CITY = TextColumn(kind="city", words=("Rome", "Paris", "Oslo"))
SHOPS = Layout(
    tables=(
        _table("shop", {"city": CITY, "type": TextColumn(kind="size", words=("Bakery",))}, "year"),
        _table("night_guard", {"home_town": CITY}, "age", parent="shop"),
    )
)
FLIGHTS = Layout(tables=(_table("flight", {"origin": CITY, "destination": CITY}, "price"),))

IN_ROME = TextIs(ref=Ref("shop", "city"), value="Rome")
SHOPS_IN_ROME = Query(table="shop", select=(Ref("shop", "name"),), conditions=(IN_ROME,))


def _scene(*values: str) -> Scene:
    """A database in which every text column holds these values and no number occurs."""
    return Scene(
        layout=SHOPS,
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
    scene = Scene(
        layout=FLIGHTS,
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


def test_names_of_two_words_are_said_as_two_and_keys_as_the_schema_calls_them() -> None:
    home = TextIs(ref=Ref("night_guard", "home_town"), value="Rome")
    assert words(home, "night_guard", Random(0)) == "with home town 'Rome'"
    guards = HasChild(child=home)
    assert words(guards, "shop", Random(0)) == "that have night guards with home town 'Rome'"
    query = Query(table="shop", select=(Ref("shop", "city"),), conditions=(guards,))
    assert to_sql(query, lambda ref, value: value, "code") == (
        "SELECT city FROM shop WHERE code IN"
        " (SELECT shop_code FROM night_guard WHERE home_town = 'Rome')"
    )
    assert said("night_guard") == "night guard"
