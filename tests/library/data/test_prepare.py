"""The prepared folder: written whole or not at all, checked when read, split by database."""

import asyncio
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from mtsql.config.sql import SqlConfig
from mtsql.data.dataset import (
    MANIFEST,
    SkippedTurn,
    check_databases,
    load_dataset,
    staging_folder,
    write_dataset,
)
from mtsql.data.exclusions import read_exclusions
from mtsql.data.golds import GoldCounts, check_dataset, check_golds, count_golds
from mtsql.data.prepare import carve_valid, prepare
from mtsql.data.stats import dataset_stats, split_stats, stats_json, stats_table
from mtsql.dialogue import Dialogue, Turn
from mtsql.errors import DataError
from mtsql.schema import Column, Schema, Table
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult, QueryStatus

SCHEMA = Schema(
    db_id="pets", tables=(Table(name="pet", columns=(Column(name="age", type="integer"),)),)
)


def make_database(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE pet (age INTEGER); INSERT INTO pet VALUES (3), (4);")
    return path


def make_dialogue(number: int, *, db_id: str = "pets", num_turns: int = 1) -> Dialogue:
    dialogue_id = f"x-train-{number:04d}"
    turns = tuple(
        Turn(
            turn_id=f"{dialogue_id}/{index}",
            question="How old?",
            gold_sql="SELECT age FROM pet",
            hardness="easy",
        )
        for index in range(num_turns)
    )
    return Dialogue(dialogue_id=dialogue_id, db_id=db_id, turns=turns)


def write_small(out: Path, database: Path) -> None:
    write_dataset(
        out,
        name="small",
        seed=7,
        splits={"train": [make_dialogue(0), make_dialogue(1, num_turns=2)], "test": []},
        databases={"pets": database},
        schemas=[SCHEMA],
        skipped=[
            SkippedTurn(dialogue_id="x-train-0002", turn_id=None, db_id="q", reason="no_turns: x")
        ],
    )


# --- the folder ------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    database = make_database(tmp_path / "elsewhere" / "pets.sqlite")
    write_small(tmp_path / "out", database)
    dataset = load_dataset(tmp_path / "out")
    assert (dataset.name, dataset.seed) == ("small", 7)
    assert dataset.split("train") == (make_dialogue(0), make_dialogue(1, num_turns=2))
    assert dataset.split("test") == ()
    assert dataset.schemas == {"pets": SCHEMA}
    assert dataset.databases == {"pets": database}
    assert dataset.skipped[0].turn_id is None
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["databases"]["pets"]["path"] == str(database)
    train = manifest["splits"]["train"]
    assert (train["file"], train["num_dialogues"], train["num_turns"]) == ("train.jsonl", 2, 3)


def test_an_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    write_small(tmp_path / "out", make_database(tmp_path / "pets.sqlite"))
    with pytest.raises(DataError, match="no split 'dev'; choose one of: train, test"):
        load_dataset(tmp_path / "out").split("dev")


def test_a_question_may_hold_a_line_separator(tmp_path: Path) -> None:
    turn = make_dialogue(0).turns[0].model_copy(update={"question": "a\u2028b\nc"})
    dialogue = make_dialogue(0).model_copy(update={"turns": (turn,)})
    write_dataset(
        tmp_path / "out",
        name="x",
        seed=1,
        splits={"train": [dialogue]},
        databases={"pets": make_database(tmp_path / "pets.sqlite")},
        schemas=[SCHEMA],
    )
    assert load_dataset(tmp_path / "out").split("train") == (dialogue,)


def test_databases_made_in_the_staging_folder_move_with_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    for _ in range(2):  # the second run replaces the first
        with staging_folder(out) as staging:
            write_small(staging, make_database(staging / "databases" / "pets.sqlite"))
            (staging / "databases" / "note.txt").touch()
        dataset = load_dataset(out)
        assert dataset.databases == {"pets": out / "databases" / "pets.sqlite"}
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["databases"]["pets"]["path"] == "databases/pets.sqlite"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    out.rename(tmp_path / "moved")  # a folder with its own databases can be moved
    assert load_dataset(tmp_path / "moved").split("train")


def test_a_failure_leaves_the_earlier_dataset(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_small(out, make_database(tmp_path / "pets.sqlite"))
    # a folder cannot be a database: the second write fails after the first
    with pytest.raises(OSError, match="directory"), staging_folder(out) as staging:
        write_small(staging, make_database(staging / "pets.sqlite").parent)
    assert load_dataset(out).split("train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pets.sqlite"]


def test_another_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    refusal = r"is no prepared dataset .*choose another --out"
    with pytest.raises(DataError, match=refusal), staging_folder(tmp_path):
        pytest.fail("refused before any work")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    write_small(tmp_path / "out", make_database(tmp_path / "pets.sqlite"))
    with pytest.raises(DataError, match="is in the way"):
        write_small(tmp_path / "out", tmp_path / "pets.sqlite")


def test_a_dialogue_without_database_or_schema_is_not_written(tmp_path: Path) -> None:
    database = make_database(tmp_path / "pets.sqlite")
    for databases, schemas, where in (
        ({}, [SCHEMA], "databases of dataset.json"),
        ({"pets": database}, [], "schemas.json"),
    ):
        with pytest.raises(DataError, match=f"db_id 'pets' is not in the {where}"):
            write_dataset(
                tmp_path / "out",
                name="x",
                seed=1,
                splits={"train": [make_dialogue(0)]},
                databases=databases,
                schemas=schemas,
            )
    assert not (tmp_path / "out" / MANIFEST).exists()


# --- one clear error for each thing that can be wrong with the folder ---------------------------


def edit_manifest(out: Path, edit: dict[str, object]) -> None:
    manifest = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps(manifest | edit))


def test_an_absent_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; make it with"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"dataset\.json: cannot be read .*prepare the dataset"):
        load_dataset(tmp_path)
    write_small(tmp_path / "out", make_database(tmp_path / "pets.sqlite"))
    (tmp_path / "out" / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"train\.jsonl: cannot be read"):
        load_dataset(tmp_path / "out")


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_small(out, make_database(tmp_path / "pets.sqlite"))
    lines = (out / "train.jsonl").read_text().splitlines()
    (out / "train.jsonl").write_text(lines[0] + "\n" + lines[1].replace('"easy"', '"trivial"'))
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: key 'turns\.0\.hardness'"):
        load_dataset(out)
    (out / "train.jsonl").write_text(lines[0] + "\n{\n")
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: Invalid JSON"):
        load_dataset(out)


def test_an_edited_file_and_an_unknown_key_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_small(out, make_database(tmp_path / "pets.sqlite"))
    text = (out / "train.jsonl").read_text()
    (out / "train.jsonl").write_text(text.replace("How old?", "How new?"))
    with pytest.raises(DataError, match=r"train\.jsonl: differs from its sha256"):
        load_dataset(out)
    (out / "train.jsonl").write_text(text)
    edit_manifest(out, {"sede": 1})
    with pytest.raises(DataError, match=r"dataset\.json: unknown key 'sede'"):
        load_dataset(out)


def test_an_unknown_database_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_small(out, make_database(tmp_path / "pets.sqlite"))
    edit_manifest(out, {"databases": {}})
    with pytest.raises(DataError, match=r"train\.jsonl, dialogue 1 \(x-train-0000\): db_id 'pets'"):
        load_dataset(out)


def test_a_changed_or_absent_database_is_named(tmp_path: Path) -> None:
    database = make_database(tmp_path / "pets.sqlite")
    write_small(tmp_path / "out", database)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("INSERT INTO pet VALUES (5)")
    with pytest.raises(DataError, match=r"key databases\.pets: .* changed since preparation"):
        load_dataset(tmp_path / "out")
    database.unlink()
    with pytest.raises(DataError, match=r"key databases\.pets: no database file at"):
        load_dataset(tmp_path / "out")


def test_the_databases_alone_are_checked_again(tmp_path: Path) -> None:
    database = make_database(tmp_path / "pets.sqlite")
    write_small(tmp_path / "out", database)
    (tmp_path / "out" / "train.jsonl").unlink()
    check_databases(tmp_path / "out")
    whole = database.read_bytes()
    database.write_bytes(whole + b"x")
    with pytest.raises(DataError, match=rf"{database} changed since preparation"):
        check_databases(tmp_path / "out")
    database.write_bytes(whole)
    check_databases(tmp_path / "out")
    database.unlink()
    with pytest.raises(DataError, match=rf"no database file at {database}"):
        check_databases(tmp_path / "out")


# --- preparation --------------------------------------------------------------------------------


def write_sparc(folder: Path, *, num_databases: int = 4) -> Path:
    """A SParC folder: databases db0.. of two train dialogues, and dev on db9 and on one absent."""

    def entry(db_id: str, *golds: str) -> dict[str, object]:
        turns = [{"utterance": f"Question {gold}", "query": gold} for gold in golds]
        return {"database_id": db_id, "interaction": turns}

    train = [
        entry(f"db{number}", "SELECT age FROM pet", f"SELECT age FROM pet WHERE age > = {number};")
        for number in range(num_databases)
        for _ in range(2)
    ]
    dev = [
        entry("db9", "SELECT age FROM pet", "SELECT wings FROM pet", "SELECT count(*) FROM pet"),
        entry("gone", "SELECT 1", "SELECT 2"),
        entry("db9"),
    ]
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(json.dumps(train))
    (folder / "dev.json").write_text(json.dumps(dev))
    for db_id in [*(f"db{number}" for number in range(num_databases)), "db9"]:
        make_database(folder / "database" / db_id / f"{db_id}.sqlite")
    return folder


def test_prepare_keeps_grades_and_reports(tmp_path: Path) -> None:
    source, out = write_sparc(tmp_path / "sparc"), tmp_path / "out"
    report = prepare("sparc", source=source, out=out, valid_share=0.3)
    dataset = load_dataset(out)
    (test,) = dataset.split("test")
    # the second turn's gold fails: it is gone, and the third keeps its id
    assert [turn.turn_id for turn in test.turns] == ["sparc-dev-0000/0", "sparc-dev-0000/2"]
    assert [turn.hardness for turn in test.turns] == ["easy", "easy"]
    assert [(turn.turn_id, turn.reason.split(":")[0]) for turn in dataset.skipped] == [
        ("sparc-dev-0000/1", "gold_error"),
        ("sparc-dev-0001/0", "missing_database"),
        ("sparc-dev-0001/1", "missing_database"),
        (None, "no_turns"),
    ]
    assert (
        dataset.split("train")[0].turns[1].gold_sql.startswith("SELECT age FROM pet WHERE age >=")
    )
    assert set(dataset.databases) == {"db0", "db1", "db2", "db3", "db9"}
    assert report.lines()[:7] == [
        "sparc: 21 turns read, 18 kept",
        "skipped 1 dialogues: no_turns (db9 1)",
        "skipped 1 turns: gold_error (db9 1)",
        "skipped 2 turns: missing_database (gone 2)",
        "train: 6 dialogues, 12 turns, 3 databases",
        "valid: 2 dialogues, 4 turns, 1 databases",
        "test: 1 dialogues, 2 turns, 1 databases",
    ]


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_sparc(tmp_path / "sparc")
    for name in ("a", "b"):
        prepare("sparc", source=source, out=tmp_path / name, seed=3)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["dataset.json", "schemas.json", "test.jsonl", "train.jsonl", "valid.jsonl"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_without_dev_the_test_split_is_empty_and_said_so(tmp_path: Path) -> None:
    source = write_sparc(tmp_path / "sparc")
    (source / "dev.json").unlink()
    report = prepare("sparc", source=source, out=tmp_path / "out")
    assert load_dataset(tmp_path / "out").split("test") == ()
    assert "test is empty: the source has no dev.json" in report.lines()


def test_a_source_without_one_usable_turn_is_refused_whole(tmp_path: Path) -> None:
    source = write_sparc(tmp_path / "sparc")
    entry = {"database_id": "gone", "interaction": [{"utterance": "x", "query": "SELECT 1"}]}
    (source / "train.json").write_text(json.dumps([entry]))
    with pytest.raises(DataError, match=r"no turn of train can be used.*missing_database"):
        prepare("sparc", source=source, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="valid_share is 1"):
        prepare("sparc", source=source, out=tmp_path / "out", valid_share=1)


def test_databases_without_rows_are_noted(tmp_path: Path) -> None:
    source = write_sparc(tmp_path / "sparc")
    with closing(sqlite3.connect(source / "database" / "db1" / "db1.sqlite")) as connection:
        connection.executescript("DELETE FROM pet")
    notes = prepare("sparc", source=source, out=tmp_path / "out").notes
    assert notes == (
        "4 kept turns are on databases without rows, where a wrong query often matches: db1 4",
    )


def test_a_damaged_database_costs_its_own_turns_only(tmp_path: Path) -> None:
    source = write_sparc(tmp_path / "sparc")
    columns = {"column_names_original": [[-1, "*"], [0, "age"]], "column_types": ["text", "number"]}
    keys: dict[str, object] = {"primary_keys": [], "foreign_keys": []}
    entry = {"db_id": "db1", "table_names_original": ["pet"], **columns, **keys}
    (source / "tables.json").write_text(json.dumps([entry]))
    (source / "database" / "db1" / "db1.sqlite").write_text("no database " * 1000)
    prepare("sparc", source=source, out=tmp_path / "out")
    dataset = load_dataset(tmp_path / "out")
    assert "db1" not in dataset.databases
    assert sum(turn.db_id == "db1" for turn in dataset.skipped) == 4


def test_golds_run_in_order_and_failures_carry_the_status() -> None:
    class Scripted:
        async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
            return [
                QueryResult(status=QueryStatus.OK)
                if request.sql.endswith("0")
                else QueryResult(status=QueryStatus.INTERRUPTED, kind="timeout", message="5 s")
                for request in requests
            ]

    golds = [("pets", f"SELECT {number}") for number in range(100)]
    facts = asyncio.run(check_golds(golds, Scripted(), {"pets": SCHEMA}, limits=QueryLimits()))
    assert list(facts) == golds
    failures = {gold: one.failure for gold, one in facts.items() if one.failure}
    assert len(failures) == 90
    assert failures["pets", "SELECT 99"] == "gold_interrupted: timeout: 5 s"


def shop_source(folder: Path, golds: Sequence[str], *, num_laps: int = 3) -> Path:
    """A SParC folder with one train dialogue about shops, sales, laps and market values."""
    turns = [{"utterance": f"Question {gold}", "query": gold} for gold in golds]
    folder.mkdir(parents=True)
    entry = {"database_id": "shop", "interaction": turns}
    (folder / "train.json").write_text(json.dumps([entry]))
    (folder / "database" / "shop").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "database" / "shop" / "shop.sqlite")) as connection:
        connection.executescript(
            "CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT, city TEXT, market_value INT);"
            "INSERT INTO shop VALUES (1, 'Ada', 'Oslo', 9), (2, 'Bob', 'Oslo', 7),"
            " (3, 'Cy', 'Rome', 5), (4, 'Dee', 'Rome', 3);"
            "CREATE TABLE sale (id INTEGER PRIMARY KEY, shop_id INTEGER);"
            "INSERT INTO sale VALUES (1, 1), (2, 3);"
            "CREATE TABLE lap (id INTEGER PRIMARY KEY, driver INTEGER, ms INTEGER);"
        )
        rows = [(number % 20, number) for number in range(num_laps)]
        connection.executemany("INSERT INTO lap (driver, ms) VALUES (?, ?)", rows)
        connection.commit()
    return folder


JOINED = "SELECT T1.name FROM shop AS T1 INNER JOIN sale AS T2 ON T1.id = T2.shop_id"
TIED = "SELECT city FROM shop GROUP BY city ORDER BY count(*) DESC LIMIT 1"
POOR_GOLDS = (
    "SELECT name FROM shop",
    JOINED,
    "SELECT name FROM shop WHERE city = 'Nowhere'",
    TIED,
    "SELECT name FROM shop ORDER BY market_value DESC LIMIT 1",
)


def test_golds_that_are_poor_measures_are_counted_and_said(tmp_path: Path) -> None:
    source = shop_source(tmp_path / "sparc", POOR_GOLDS)
    report = prepare("sparc", source=source, out=tmp_path / "out")
    assert [line for line in report.lines() if line.startswith("golds of")] == [
        "golds of 1 turns are outside Spider's subset: EM has no verdict, hardness is unread, and "
        "in the reward EX speaks for EM (reward.unreadable_em)",
        'golds of 1 turns score wrong against themselves (officially the text "value" becomes '
        '"1": reward.keep_value_word)',
        "golds of 1 turns are empty, so that any prediction without rows matches "
        "(reward.empty_is_wrong)",
        "golds of 1 turns have a LIMIT that cuts a tie, so that a right prediction may miss",
    ]
    dataset = load_dataset(tmp_path / "out")
    (dialogue,) = dataset.split("train")
    assert dialogue.turns[1].hardness is None
    facts = check_dataset(dataset, SqlConfig())
    counts = count_golds((("shop", turn) for turn in dialogue.turns), facts)
    assert counts == GoldCounts(num_unread=1, num_wrong=1, num_empty=1, num_cut_ties=1)
    stats = dataset_stats(dataset, facts)
    assert stats.splits["train"].golds == counts
    assert stats.splits["train"].hardness["unread"] == pytest.approx(0.2)
    written = json.loads(stats_json(stats))
    assert written["splits"]["train"]["golds"]["num_empty"] == 1
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(stats_table(stats))
    text = console.export_text()
    assert "unread" in text
    assert "golds whose LIMIT cuts a tie" in text


def test_a_gold_beyond_the_limits_of_the_run_is_skipped(tmp_path: Path) -> None:
    # 600 x 600 pairs of laps: more than 100,000 steps of SQLite, far fewer than 50 million
    pairs = "SELECT count(*) FROM lap AS a, lap AS b WHERE a.ms < b.ms AND a.driver + 1 = b.driver"
    source = shop_source(tmp_path / "sparc", ["SELECT name FROM shop", pairs], num_laps=600)
    assert not prepare("sparc", source=source, out=tmp_path / "out").skipped
    limits = SqlConfig(max_vm_steps=100_000).limits()
    report = prepare("sparc", source=source, out=tmp_path / "tight", limits=limits)
    assert [(turn.turn_id, turn.kind) for turn in report.skipped] == [
        ("sparc-train-0000/1", "gold_interrupted")
    ]


def test_exclusions_name_file_and_line(tmp_path: Path) -> None:
    write_small(tmp_path / "out", make_database(tmp_path / "pets.sqlite"))
    dataset = load_dataset(tmp_path / "out")
    path = tmp_path / "bad.jsonl"

    def read(*lines: str) -> frozenset[str]:
        path.write_text("\n".join(lines))
        return read_exclusions(path, dataset)

    good = '{"dialogue_id": "x-train-0001", "turn": 1, "kind": "value"}'
    assert read(good, "", good) == {"x-train-0001/1"}
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: no dialogue 'y'.*remove the line"):
        read(good, '{"dialogue_id": "y", "turn": 0}')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 1: .*'x-train-0001' has no turn 2"):
        read('{"dialogue_id": "x-train-0001", "turn": 2}')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 3: key 'turn'"):
        read(good, good, '{"dialogue_id": "y"}')
    with pytest.raises(DataError, match=r"data\.exclude .*none\.jsonl: cannot be read"):
        read_exclusions(tmp_path / "none.jsonl", dataset)


# --- the split by database ----------------------------------------------------------------------


def test_no_database_is_in_both_and_the_share_holds() -> None:
    dialogues = [make_dialogue(n, db_id=f"db{n % 20}", num_turns=3) for n in range(100)]
    train, valid = carve_valid(dialogues, seed=1, share=0.1)
    assert not {d.db_id for d in train} & {d.db_id for d in valid}
    # 20 databases of 15 turns: 10 % of 300 turns are 2 databases
    assert (len(train), len(valid)) == (90, 10)
    assert sorted(train + valid, key=lambda d: d.dialogue_id) == dialogues
    assert carve_valid(dialogues, seed=2, share=0.1)[1] != valid


def test_a_database_falls_the_same_way_in_company_of_others() -> None:
    few = [make_dialogue(n, db_id=f"db{n}") for n in range(10)]
    more = few + [make_dialogue(n, db_id=f"db{n}") for n in range(10, 20)]
    small = {d.db_id for d in carve_valid(few, seed=1, share=0.5)[1]}
    large = {d.db_id for d in carve_valid(more, seed=1, share=0.5)[1]}
    # of the ten databases that both hold, one set's choice contains the other's
    large_among_few = large & {d.db_id for d in few}
    assert small <= large_among_few or large_among_few <= small


def test_valid_takes_one_database_even_where_none_fits() -> None:
    dialogues = [make_dialogue(0, db_id="big", num_turns=5), make_dialogue(1, db_id="small")]
    train, valid = carve_valid(dialogues, seed=1, share=0.01)
    assert ([d.db_id for d in train], [d.db_id for d in valid]) == (["big"], ["small"])
    assert carve_valid(dialogues[:1], seed=1, share=0.5) == (dialogues[:1], [])


# --- figures ------------------------------------------------------------------------------------


def test_stats_by_hand(tmp_path: Path) -> None:
    tagged = Turn(
        turn_id="y/0", question="12345", gold_sql="SELECT 1", hardness="extra", tags=("join",)
    )
    other = Dialogue(dialogue_id="y", db_id="other", turns=(tagged,))
    stats = split_stats([make_dialogue(1, num_turns=3), other])
    assert (stats.num_dialogues, stats.num_turns, stats.num_databases) == (2, 4, 2)
    assert stats.turns_per_dialogue == 2.0
    assert stats.hardness == {"easy": 0.75, "medium": 0.0, "hard": 0.0, "extra": 0.25}
    assert stats.turn_index == {0: 2, 1: 1, 2: 1}
    assert stats.tags == {"join": 1}
    assert stats.question_chars == (3 * 8 + 5) / 4
    assert stats.sql_chars == (3 * 19 + 8) / 4


def test_the_table_shows_each_split_and_what_was_left_out(tmp_path: Path) -> None:
    write_small(tmp_path / "out", make_database(tmp_path / "pets.sqlite"))
    console = Console(width=100, record=True, file=(tmp_path / "table.txt").open("w"))
    console.print(stats_table(dataset_stats(load_dataset(tmp_path / "out"))))
    console.file.close()
    text = console.export_text()
    assert "small (seed 7)" in text
    assert "no_turns 1" in text
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    rows = {row[0]: row[1:] for row in cells if row}
    assert rows["turns"] == ["3", "0"]
    assert rows["easy"] == ["100.0%", "-"]
    assert rows["turn 0"] == ["2", "0"]


# --- real data ----------------------------------------------------------------------------------


def test_sparc_dev_as_measured(tmp_path: Path, shared_data: Path) -> None:
    # a train of one dialogue, so that the dev golds are what runs
    source = tmp_path / "sparc"
    source.mkdir()
    (source / "dev.json").symlink_to(shared_data / "sparc" / "dev.json")
    (source / "tables.json").symlink_to(shared_data / "sparc" / "tables.json")
    (source / "database").symlink_to(shared_data / "database")
    entry = {"database_id": "pets_1", "interaction": [{"utterance": "x", "query": "SELECT 1"}]}
    (source / "train.json").write_text(json.dumps([entry]))
    report = prepare("sparc", source=source, out=tmp_path / "out")
    dataset = load_dataset(tmp_path / "out")
    assert report.num_turns_read == 1203 + 1
    # 18 dialogues are on the absent wta_1; one gold names a column that is not there
    kinds = Counter((turn.kind, turn.db_id) for turn in dataset.skipped)
    assert kinds == {("missing_database", "wta_1"): 59, ("gold_error", "battle_death"): 1}
    stats = dataset_stats(dataset).splits["test"]
    assert (stats.num_dialogues, stats.num_turns, stats.num_databases) == (404, 1143, 19)
