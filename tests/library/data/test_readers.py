"""Readers: ids, normalisations, layouts, and one clear error for a malformed file."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.data.readers import (
    CLARIFICATION,
    find_databases,
    join_operators,
    normalise_exchange,
    normalise_sql,
    read_dialogues,
    read_schemas,
    read_source,
)
from mtsql.data.reflect import reflect_sqlite
from mtsql.data.spider_tables import SpiderTables, schema_from_spider
from mtsql.errors import DataError
from mtsql.schema import Column, ForeignKey

PETS = """
CREATE TABLE owner (id INTEGER PRIMARY KEY, Name varchar(20));
CREATE TABLE cat (cat_id int(11), owner_id int REFERENCES OWNER(ID), born, age real,
                  PRIMARY KEY (cat_id, owner_id), FOREIGN KEY (age) REFERENCES absent(x));
INSERT INTO owner VALUES (1, 'Ann');
"""

PETS_ENTRY = {
    "db_id": "pets",
    "table_names_original": ["owner", "cat"],
    "table_names": ["owner", "cat"],
    "column_names_original": [
        [-1, "*"],
        [0, "id"],
        [0, "Name"],
        [1, "cat_id"],
        [1, "owner_id"],
    ],
    "column_types": ["text", "number", "Text", "number", "number"],
    "primary_keys": [1, [3, 4]],
    "foreign_keys": [[4, 1]],
}


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_database(folder: Path, db_id: str, script: str = PETS) -> Path:
    path = folder / db_id / f"{db_id}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


# --- normalisation ------------------------------------------------------------------------------


def test_operators_are_joined_outside_quotes_only() -> None:
    assert join_operators("a > = 1 AND b <  = 2 AND c !\n= 3") == "a >= 1 AND b <= 2 AND c != 3"
    assert join_operators("x = 'a > = b'") == "x = 'a > = b'"
    assert join_operators('x ! = "it > = s" AND y > = 1') == 'x != "it > = s" AND y >= 1'
    assert join_operators("x = 'it''s > = ' AND y > = 1") == "x = 'it''s > = ' AND y >= 1"
    assert join_operators("`a > = b` > = 1") == "`a > = b` >= 1"


def test_equals_signs_of_their_own_stay() -> None:
    assert join_operators("a  =  1 AND b > 2 AND c = = 3") == "a  =  1 AND b > 2 AND c = = 3"


@given(st.text(alphabet="ab <>!='\" \n", max_size=30))
def test_joining_twice_changes_nothing_more_and_drops_only_white_space(sql: str) -> None:
    once = join_operators(sql)
    assert join_operators(once) == once
    assert "".join(once.split()) == "".join(sql.split())


@given(st.text(alphabet="ab <>!=", max_size=20))
def test_a_literal_is_never_touched(inside: str) -> None:
    assert join_operators(f"x > = '{inside}'") == f"x >= '{inside}'"


def test_a_closing_semicolon_goes() -> None:
    assert normalise_sql(" SELECT ';' ;\n; ") == "SELECT ';'"


def test_an_exchange_is_one_question() -> None:
    assert normalise_exchange("Which  one? |  Do you\nmean A? | | Yes") == (
        "Which one? | Do you mean A? | Yes"
    )


# --- dialogue files -----------------------------------------------------------------------------


def test_sparc_in_the_official_layout_has_stable_ids(tmp_path: Path) -> None:
    turn = {"utterance": " How  many? ", "query": "SELECT 1;", "utterance_toks": ["x"], "sql": {}}
    entry = {"database_id": "pets", "interaction": [turn, turn], "final": {"query": "", "x": 1}}
    path = write_json(tmp_path / "dev.json", [entry, entry])
    second = read_dialogues("sparc", "dev", path)[1]
    assert second.dialogue_id == "sparc-dev-0001"
    assert [turn.turn_id for turn in second.turns] == ["sparc-dev-0001/0", "sparc-dev-0001/1"]
    assert (second.db_id, second.turns[0].question) == ("pets", "How many?")
    assert (second.turns[0].gold_sql, second.turns[0].tags) == ("SELECT 1", ())


def test_cosql_clarifications_are_tagged(tmp_path: Path) -> None:
    turns = [
        {"utterance": "Which? | Do you mean A? | Yes", "query": "SELECT 1"},
        {"utterance": "And B? |", "query": "SELECT 2"},
    ]
    path = write_json(tmp_path / "t.json", [{"database_id": "pets", "interaction": turns}])
    first, second = read_dialogues("cosql", "train", path)[0].turns
    assert (first.turn_id, first.tags) == ("cosql-train-0000/0", (CLARIFICATION,))
    assert (second.question, second.tags) == ("And B?", ())


def test_a_spider_pair_is_a_dialogue_of_one_turn(tmp_path: Path) -> None:
    pair = {"db_id": "pets", "question": "How many?", "query": "SELECT 1", "query_toks": []}
    (dialogue,) = read_dialogues("spider", "train", write_json(tmp_path / "t.json", [pair]))
    assert dialogue.dialogue_id == "spider-train-0000"
    assert [turn.turn_id for turn in dialogue.turns] == ["spider-train-0000/0"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["no JSON"]),
        ("{}", ["no list of entries", "database_id"]),
        ("[]", ["no list of entries"]),
        ('[{"interaction": []}]', ["entry 0", "key 'database_id'", "Field required"]),
        ('[{"database_id": "a", "interaction": [{"utterance": "x"}]}]', ["interaction.0.query"]),
        (
            '[{"database_id": "a", "interaction": [{"utterance": " ", "query": "x"}]}]',
            ["entry 0", "interaction.0.utterance"],
        ),
    ],
)
def test_a_malformed_file_is_one_clear_error(
    tmp_path: Path, content: str, words: list[str]
) -> None:
    path = tmp_path / "dev.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_dialogues("sparc", "dev", path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [str(path), *words]), message


def test_a_bad_turn_or_entry_costs_no_other(tmp_path: Path) -> None:
    good = {"utterance": "How many?", "query": "SELECT 1"}
    turns = [
        good,
        good | {"query": " ;"},
        good | {"query": None},
        good | {"utterance": ""},
        good | {"query": 5},
        "no turn",
        good,
    ]
    entries = [
        {"database_id": "pets", "interaction": turns},
        {"database_id": "cars", "interaction": "none"},
        {"interaction": [good]},
        "no entry",
    ]
    first, *others = read_dialogues("sparc", "dev", write_json(tmp_path / "dev.json", entries))
    assert [turn.unusable for turn in first.turns] == [
        "",
        "empty_query: dev.json, entry 0, key interaction.1.query",
        "empty_query: dev.json, entry 0, key interaction.2.query",
        "empty_question: dev.json, entry 0, key interaction.3.utterance",
        "malformed: dev.json, entry 0: key 'interaction.4.query': Input should be a valid string "
        "(given: 5)",
        "malformed: dev.json, entry 0: key 'interaction.5': Input should be a valid dictionary or "
        "instance of _Interaction (given: 'no turn')",
        "",
    ]
    assert [turn.turn_id for turn in first.turns][::6] == ["sparc-dev-0000/0", "sparc-dev-0000/6"]
    assert [(one.dialogue_id, one.db_id, one.turns) for one in others] == [
        ("sparc-dev-0001", "cars", ()),
        ("sparc-dev-0002", "", ()),
        ("sparc-dev-0003", "", ()),
    ]
    assert others[0].unusable.startswith("malformed: dev.json, entry 1: key 'interaction'")
    assert "key 'database_id': Field required" in others[1].unusable


def test_a_bad_pair_of_spider_costs_no_other(tmp_path: Path) -> None:
    good = {"db_id": "pets", "question": "How many?", "query": "SELECT 1"}
    pairs = [good, good | {"question": None}, good | {"query": []}, {"question": "x"}]
    path = write_json(tmp_path / "t.json", pairs)
    one, two, three, four = read_dialogues("spider", "train", path)
    assert one.turns[0].unusable == ""
    assert two.turns[0].unusable == "empty_question: t.json, entry 1, key question"
    assert three.turns[0].unusable.startswith("malformed: t.json, entry 2: key 'query'")
    assert (four.turns, four.unusable) == (
        (),
        "malformed: t.json, entry 3: key 'db_id': Field required",
    )


def test_a_file_without_a_usable_turn_names_the_most_frequent_reason(tmp_path: Path) -> None:
    pair = {"db_id": "pets", "question": "How many?", "query": "SELECT 1"}
    path = write_json(tmp_path / "t.json", ["x", pair | {"query": ""}, pair | {"query": " "}])
    with pytest.raises(DataError) as caught:
        read_dialogues("spider", "train", path)
    assert str(caught.value) == (
        f"{path}: nothing in it can be used; 2 of 3 are empty_query, first: t.json, entry 1, key "
        "query; expected a list of {db_id, question, query}"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_from_windows_is_read(encoding: str, tmp_path: Path) -> None:
    pair = {"db_id": "pets", "question": "Zürich?", "query": "SELECT 1"}
    text = json.dumps([pair], ensure_ascii=False, indent=1).replace("\n", "\r\n")
    (tmp_path / "t.json").write_bytes(text.encode(encoding))
    [dialogue] = read_dialogues("spider", "train", tmp_path / "t.json")
    assert dialogue.turns[0].question == "Zürich?"


# --- folders and schemas ------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sparc/database", "database"])
def test_databases_are_found_inside_and_beside(tmp_path: Path, place: str) -> None:
    entry = {"database_id": "pets", "interaction": [{"utterance": "x", "query": "SELECT 1"}]}
    write_json(tmp_path / "sparc" / "train.json", [entry])
    write_json(tmp_path / "sparc" / "tables.json", [PETS_ENTRY])
    path = write_database(tmp_path / place, "pets")
    (tmp_path / place / "pets" / "other.sqlite").touch()
    raw = read_source("sparc", tmp_path / "sparc")
    assert raw.databases == {"pets": path.resolve()}
    assert list(raw.dialogues) == ["train"]
    assert [table.name for table in raw.schemas["pets"].tables] == ["owner", "cat"]


def test_an_absent_source_says_what_the_folder_should_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cosql_train\.json: no such file; --source is"):
        read_source("cosql", tmp_path)
    with pytest.raises(DataError, match=r"no databases; put"):
        find_databases(tmp_path)


def test_a_source_one_folder_too_high_is_pointed_down(tmp_path: Path) -> None:
    write_json(tmp_path / "spider_data" / "train_spider.json", [])
    with pytest.raises(DataError, match=r"did you mean --source .*/spider_data\?"):
        read_source("spider", tmp_path)


def test_a_bad_schema_costs_no_other_and_is_noted(tmp_path: Path) -> None:
    entry = {"database_id": "Pets", "interaction": [{"utterance": "x", "query": "SELECT 1"}]}
    write_json(tmp_path / "train.json", [entry])
    other = PETS_ENTRY | {"table_names_original": ["owners", "cat"]}
    entries = [other, {"db_id": "cars"}, PETS_ENTRY, PETS_ENTRY | {"db_id": "x", "primary_keys": 1}]
    write_json(tmp_path / "tables.json", entries)
    path = write_database(tmp_path / "database", "pets")
    raw = read_source("sparc", tmp_path)
    assert list(raw.schemas) == ["pets"]
    assert raw.schemas["pets"].tables[0].name == "owner"
    unusable, twice = raw.notes
    assert unusable.startswith("tables.json: 2 entries cannot be used")
    assert "entry 1: key 'table_names_original': Field required" in unusable
    assert twice.endswith("several entries differ for one database, and the last counts: pets")
    # The file of a database that the dialogues spell otherwise.
    assert raw.databases["Pets"] == path.resolve()


def test_a_spider_entry_becomes_a_schema() -> None:
    schema = schema_from_spider(SpiderTables.model_validate(PETS_ENTRY))
    assert schema.tables[0].columns == (
        Column(name="id", type="number", is_primary=True),
        Column(name="Name", type="text"),
    )
    assert [column.is_primary for column in schema.tables[1].columns] == [True, True]
    assert schema.foreign_keys == (
        ForeignKey(table="cat", column="owner_id", ref_table="owner", ref_column="id"),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("primary_keys", [9]),
        ("foreign_keys", [[0, 1]]),
        ("column_types", ["text"]),
        ("column_names_original", [[-1, "*"], [5, "a"], [0, "b"], [0, "c"], [0, "d"]]),
    ],
)
def test_a_wrong_index_names_file_database_and_key(tmp_path: Path, key: str, value: object) -> None:
    path = write_json(tmp_path / "tables.json", [PETS_ENTRY | {key: value}])
    with pytest.raises(DataError, match=rf"tables\.json: database 'pets', key {key}"):
        read_schemas(path)


def test_reflection_follows_creation_order_and_the_referred_spelling(tmp_path: Path) -> None:
    schema = reflect_sqlite("pets", write_database(tmp_path, "pets"))
    assert [table.name for table in schema.tables] == ["owner", "cat"]
    assert schema.tables[0].columns[1] == Column(name="Name", type="varchar(20)")
    assert [(c.name, c.type, c.is_primary) for c in schema.tables[1].columns] == [
        ("cat_id", "integer", True),
        ("owner_id", "integer", True),
        ("born", "others", False),
        ("age", "real", False),
    ]
    assert schema.foreign_keys == (
        ForeignKey(table="cat", column="owner_id", ref_table="owner", ref_column="id"),
    )


def test_reflection_of_no_database_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.sqlite: no such file"):
        reflect_sqlite("x", tmp_path / "absent.sqlite")
    assert not (tmp_path / "absent.sqlite").exists()
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with pytest.raises(DataError, match="cannot be read as an SQLite database"):
        reflect_sqlite("x", tmp_path / "text.sqlite")


# --- real data ----------------------------------------------------------------------------------


def test_real_files_have_their_published_counts(shared_data: Path) -> None:
    sparc = read_source("sparc", shared_data / "sparc")
    cosql = read_source("cosql", shared_data / "cosql")
    spider = read_source("spider", shared_data / "spider")
    counts = {
        f"{raw.name} {split}": (len(dialogues), sum(len(d.turns) for d in dialogues))
        for raw in (sparc, cosql, spider)
        for split, dialogues in raw.dialogues.items()
    }
    assert counts == {
        "sparc train": (3030, 9025),
        "sparc dev": (422, 1203),
        "cosql train": (2159, 7343),
        "spider train": (6915, 6915),
    }
    assert (len(sparc.schemas), len(cosql.schemas), len(sparc.databases)) == (166, 178, 163)
    assert not {"wta_1", "baseball_1", "soccer_1"} & set(sparc.databases)


def test_reflection_agrees_with_tables_json_on_a_real_database(shared_data: Path) -> None:
    raw = read_source("sparc", shared_data / "sparc")
    reflected = reflect_sqlite("concert_singer", raw.databases["concert_singer"])
    official = raw.schemas["concert_singer"]
    assert [(t.name, [c.name for c in t.columns]) for t in reflected.tables] == [
        (t.name, [c.name for c in t.columns]) for t in official.tables
    ]
