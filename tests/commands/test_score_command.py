"""`mtsql score`: files in, verdicts and a table out; a user's mistake is one line."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.places import ROOT
from recipes.main import main

GOLD = """SELECT name FROM pets\tpets
SELECT name FROM pets WHERE age > 3\tpets

SELECT count(*) FROM pets\tpets
"""
PRED = """SELECT T1.name FROM pets AS T1
SELECT name FROM pets WHERE age > 4

SELECT nothing FROM pets
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "database" / "pets"
    folder.mkdir(parents=True)
    make_pets(folder / "pets.sqlite", [("Bo", 3), ("Al", 4), ("Cy", 5)])
    table = {
        "db_id": "pets",
        "table_names_original": ["pets"],
        "column_names_original": [[-1, "*"], [0, "name"], [0, "age"]],
        "column_types": ["text", "text", "number"],
        "primary_keys": [1],
        "foreign_keys": [],
    }
    (tmp_path / "tables.json").write_text(json.dumps([table]))
    (tmp_path / "gold.txt").write_text(GOLD)
    (tmp_path / "pred.txt").write_text(PRED)
    return tmp_path


def make_pets(path: Path, rows: list[tuple[str, int]]) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE pets (name TEXT PRIMARY KEY, age INT)")
    connection.executemany("INSERT INTO pets VALUES (?, ?)", rows)
    connection.commit()
    connection.close()


def score(folder: Path, *words: str) -> int:
    files = ["--db-root", str(folder / "database"), "--tables", str(folder / "tables.json")]
    return main(["score", *files, "--jobs", "1", *words])


def texts(folder: Path) -> list[str]:
    return ["--gold", str(folder / "gold.txt"), "--pred", str(folder / "pred.txt")]


def verdicts(path: Path) -> list[tuple[object, ...]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(list(row) == ["id", "ex", "em", "hardness", "status", "message"] for row in rows)
    return [(row["id"], row["ex"], row["em"], row["status"]) for row in rows]


def test_official_texts(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = files / "rows.jsonl"
    assert score(files, *texts(files), "--out", str(out)) == 0
    assert verdicts(out) == [
        ("0/0", True, True, "ok"),
        ("0/1", False, True, "ok"),  # EM ignores values
        ("1/0", False, False, "error"),
    ]
    printed = capsys.readouterr()
    # two of three judged turns match under EM, and the first dialogue as a whole
    [exact] = [line for line in printed.out.splitlines() if line.startswith("exact match")][:1]
    assert exact.split()[2:] == ["0.667", "-", "-", "-", "0.667", "0.500"]
    assert "predictions parsed   0.667" in printed.out
    summary = json.loads((files / "summary.json").read_text())
    assert summary["scores"]["ex"]["question_match"]["share"] == pytest.approx(1 / 3)
    assert summary["scores"]["em"]["interaction_match"]["share"] == 0.5
    assert summary["scores"]["statuses"] == {"error": 1, "ok": 2}
    assert summary["is_official"] is True
    assert summary["outside_reasons"] == {"no column 'nothing'": 1}


def test_one_block_is_a_list_of_single_questions(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "gold.txt").write_text(GOLD.replace("\n\n", "\n"))
    (files / "pred.txt").write_text(PRED.replace("\n\n", "\n"))
    out = files / "rows.jsonl"
    assert score(files, *texts(files), "--out", str(out)) == 0
    assert [row[0] for row in verdicts(out)] == ["0", "1", "2"]
    printed = capsys.readouterr().out
    assert "joint_all" not in printed
    assert "TURN" not in printed
    [interval, *_] = [line for line in printed.splitlines() if line.startswith("95 %")]
    # EX of two easy queries and of one that is medium: one right, one wrong; one alone
    assert interval.split()[3:] == ["0.000", "to", "1.000", "-", "-", "-", "0.000", "to", "1.000"]
    scores = json.loads((files / "summary.json").read_text())["scores"]
    assert scores["num_dialogues"] == 3


def test_two_blocks_of_one_turn_are_dialogues(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "gold.txt").write_text("SELECT name FROM pets\tpets\n\nSELECT age FROM pets\tpets\n")
    (files / "pred.txt").write_text("SELECT name FROM pets\n\nSELECT name FROM pets\n")
    assert score(files, *texts(files)) == 0
    printed = capsys.readouterr().out
    assert "joint_all" in printed
    assert "TURN EXECUTION ACCURACY" in printed


def test_nothing_is_said_behind_the_table(files: Path) -> None:
    words = ["score", *texts(files), "--db-root", str(files / "database"), "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "recipes.main", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "exact match" in done.stdout
    assert done.stderr.strip() == ""


def test_rows_of_json(files: Path) -> None:
    rows = [
        {"id": 7, "db_id": "pets", "gold": "SELECT age FROM pets", "pred": None},
        {"id": "a", "db_id": "pets", "gold": "SELECT nick FROM pets", "pred": "SELECT 1"},
        {
            **{"id": "b", "db_id": "pets", "gold": "SELECT name FROM pets WHERE age > 9"},
            **{"pred": "SELECT age FROM pets WHERE age > 9", "dialogue": 1, "turn": 2},
        },
        {
            **{"id": "c", "db_id": "pets", "gold": "SELECT name FROM pets"},
            **{"pred": "SELECT name FROM pets ;", "dialogue": 1, "turn": 1, "source": "mine"},
        },
    ]
    (files / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = files / "out.jsonl"
    assert score(files, "--jsonl", str(files / "rows.jsonl"), "--out", str(out)) == 0
    assert verdicts(out) == [
        (7, False, False, "no_answer"),
        ("a", None, None, "gold_failed"),
        ("b", True, False, "ok"),
        ("c", True, True, "ok"),
    ]
    summary = json.loads((files / "summary.json").read_text())
    assert summary["scores"]["num_empty_matches"] == 1  # b
    assert summary["scores"]["ex_strict"]["share"] == pytest.approx(2 / 3)
    assert summary["gold_failed"] == ["a"]
    assert list(summary["sources"]) == ["mine"]


def test_gold_that_fails_is_counted_for_a_blank_prediction_too(files: Path) -> None:
    rows = [
        {"id": 1, "db_id": "pets", "gold": "SELECT nme FROM pets", "pred": None},
        {"id": 2, "db_id": "pets", "gold": "SELECT name FROM pets", "pred": " "},
    ]
    (files / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert score(files, "--jsonl", str(files / "rows.jsonl"), "--out", str(files / "o.jsonl")) == 0
    assert verdicts(files / "o.jsonl") == [
        (1, None, None, "gold_failed"),
        (2, False, False, "no_answer"),
    ]
    summary = json.loads((files / "summary.json").read_text())
    assert summary["gold_failed"] == [1]
    assert summary["scores"]["ex"]["question_match"]["num_unjudged"] == 1
    assert summary["outside_reasons"] == {"no SQL was given": 2}


def test_a_prediction_that_is_no_unicode_is_wrong(files: Path) -> None:
    row = {"id": 1, "db_id": "pets", "gold": "SELECT name FROM pets", "pred": "SELECT '\ud800'"}
    odd = {**row, "id": 2, "pred": "SELECT name\udfff FROM pets"}
    (files / "rows.jsonl").write_text("\n".join(map(json.dumps, [row, odd, {**row, "id": 3}])))
    words = ["--jsonl", str(files / "rows.jsonl"), "--out", str(files / "o.jsonl")]
    assert score(files, *words) == 0
    assert [row[1:] for row in verdicts(files / "o.jsonl")] == [(False, False, "error")] * 3
    [first, *_] = [json.loads(line) for line in (files / "o.jsonl").read_text().splitlines()]
    assert first["message"] == "the text is not valid Unicode"
    assert score(files, *words, "--etype", "match") == 0  # the message quotes it
    assert [row[2] for row in verdicts(files / "o.jsonl")] == [False] * 3
    assert score(files, *words, "--plug-value", "--keep-distinct") == 0


def test_em_needs_no_database(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--etype", "match", "--tables", str(files / "tables.json")]
    assert main(["score", *texts(files), *words]) == 0
    out = capsys.readouterr().out
    assert "EXACT MATCHING" in out
    assert "EXECUTION ACCURACY" not in out


def test_ex_takes_schemas_from_the_databases(files: Path) -> None:
    words = ["--etype", "exec", "--db-root", str(files / "database")]
    assert main(["score", *texts(files), *words, "--out", str(files / "o.jsonl")]) == 0
    assert verdicts(files / "o.jsonl")[0] == ("0/0", True, None, "ok")


def test_a_test_suite_tells_lucky_queries_apart(files: Path) -> None:
    row = {"id": 1, "db_id": "pets", "gold": "SELECT max(age) FROM pets", "pred": "SELECT 5"}
    (files / "rows.jsonl").write_text(json.dumps(row))
    make_pets(files / "database" / "pets" / "pets_1.sqlite", [("Bo", 9)])
    words = ["--jsonl", str(files / "rows.jsonl"), "--out", str(files / "o.jsonl")]
    assert score(files, *words) == 0
    assert verdicts(files / "o.jsonl")[0][1] is True
    assert score(files, *words, "--test-suite") == 0
    assert verdicts(files / "o.jsonl")[0][1] is False


def test_values_of_gold_may_be_plugged_in(files: Path) -> None:
    words = [*texts(files), "--out", str(files / "o.jsonl"), "--plug-value"]
    assert score(files, *words) == 0
    assert [row[1] for row in verdicts(files / "o.jsonl")] == [True, True, False]


def test_the_folder_of_the_rows_is_made(files: Path) -> None:
    assert score(files, *texts(files), "--out", str(files / "a" / "b" / "rows.jsonl")) == 0
    assert sorted(path.name for path in (files / "a" / "b").iterdir()) == [
        "rows.jsonl",
        "summary.json",
    ]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("gold.txt", "would replace"),
        ("link.txt", "would replace"),
        ("database/../pred.txt", "would replace"),
        ("tables.json", "would replace"),
        ("database/pets/pets.sqlite", "would replace"),
        ("database", "is a folder; name a file, e.g. "),
        ("gold.txt/rows.jsonl", "gold.txt: File exists"),
        ("summary.json", "the rows need a name of their own"),
        ("pipe", "is no plain file"),
        ("n" * 300, "File name too long"),
    ],
)
def test_rows_replace_nothing_that_is_read(
    files: Path, out: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "link.txt").symlink_to("gold.txt")
    os.mkfifo(files / "pipe")
    before = contents(files)
    assert score(files, *texts(files), "--out", str(files / out)) == 2
    refused(message, capsys)
    assert contents(files) == before


def test_rows_do_not_replace_the_rows_that_are_read(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rows.jsonl", "out.jsonl.partial"):
        (files / name).write_text(ROW)
        out = files / name.removesuffix(".partial")
        assert score(files, "--jsonl", str(files / name), "--out", str(out)) == 2
        refused("would replace", capsys)
        assert (files / name).read_text() == ROW


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_saner_rule_is_no_official_score(files: Path) -> None:
    words = [*texts(files), "--out", str(files / "o.jsonl"), "--rule", "keep_value_word"]
    assert score(files, *words) == 0
    assert json.loads((files / "summary.json").read_text())["is_official"] is False


ROW = '{"id": 1, "db_id": "pets", "gold": "SELECT 1", "pred": "SELECT 1"}'


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"gold.txt": None}, [], "gold.txt: cannot be read (No such file or directory)"),
        ({"pred.txt": ""}, [], "pred.txt: holds no query"),
        ({"pred.txt": "SELECT 1\n"}, [], "holds 1 dialogues, but"),
        ({"pred.txt": "SELECT 1\n\nSELECT 1\n"}, [], "line 1: the dialogue has 1 turns, but 2 at"),
        ({"gold.txt": GOLD.replace("\t", " ")}, [], "gold.txt, line 1: expected a query, a tab"),
        ({"gold.txt": GOLD.replace("\tpets", "\tcats")}, [], "no database 'cats'"),
        ({"tables.json": "[]"}, [], "tables.json: holds no list of entries"),
        ({"tables.json": None}, [], "tables.json: cannot be read"),
        ({}, ["--jsonl", "rows.jsonl"], "give --gold and --pred, or --jsonl alone"),
        ({"summary.json": "{}"}, ["--out", "DIR/rows.jsonl"], "is not of `mtsql score`"),
    ],
)
def test_mistakes(
    files: Path,
    change: dict[str, str | None],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in change.items():
        if text is None:
            (files / name).unlink()
        else:
            (files / name).write_text(text)
    words = [word.replace("DIR", str(files)) for word in words]
    assert score(files, *texts(files), *words) == 2
    refused(message, capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no pair"),
        ("{}", "line 1: "),
        (ROW.replace("pred", "prediction"), "line 1: key "),
        (f"{ROW}\n{ROW}", "the id '1' comes 2 times"),
        (ROW.replace("pets", "../pets"), "no database '../pets'"),
    ],
)
def test_mistakes_in_rows(
    files: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "rows.jsonl").write_text(text)
    assert score(files, "--jsonl", str(files / "rows.jsonl")) == 2
    refused(message, capsys)


def left_out_pairs(files: Path) -> list[str]:
    """Options for four pairs, of which one can be judged."""
    (files / "database" / "dogs").mkdir()
    (files / "database" / "dogs" / "dogs.sqlite").touch()
    row = {
        "id": 1,
        "db_id": "pets",
        "gold": "SELECT name FROM pets",
        "pred": "SELECT name FROM pets",
    }
    rows = [
        row | {"dialogue": 1},
        row | {"id": 2, "db_id": "cats", "dialogue": 1},
        row | {"id": 3, "db_id": "dogs"},
        row | {"id": 4, "gold": ""},
    ]
    (files / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    root = ["--db-root", str(files / "database"), "--jobs", "1"]
    return ["score", "--jsonl", str(files / "rows.jsonl"), *root]


def test_pairs_that_cannot_be_judged_are_left_out_and_counted(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = files / "o.jsonl"
    assert main([*left_out_pairs(files), "--out", str(out)]) == 0
    assert verdicts(out) == [
        (1, True, True, "ok"),
        (2, None, None, "left_out"),
        (3, None, None, "left_out"),
        (4, None, None, "left_out"),
    ]
    summary = json.loads((files / "summary.json").read_text())
    for metric in ("ex", "em"):
        share = summary["scores"][metric]["question_match"]
        assert (share["share"], share["num_judged"], share["num_unjudged"]) == (1.0, 1, 3)
        # A dialogue with a pair that is left out is neither right nor wrong.
        assert summary["scores"][metric]["interaction_match"]["num_judged"] == 0
    assert summary["scores"]["executed"]["num_judged"] == 1
    left_out = summary["left_out"]
    assert (left_out["num"], left_out["of"]) == (3, 4)
    assert left_out["reasons"] == {
        "missing_database": 1,
        "unreadable_database": 1,
        "empty_gold": 1,
    }
    assert [one["id"] for one in left_out["first"]] == [2, 3, 4]
    assert summary["num_gold_outside_subset"] == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["left", "out", "3"] in lines
    reasons = [" ".join(line) for line in lines if line[:2] == ["left", "out"]][1:]
    assert "left out 1 of 4: missing_database: --db-root" in reasons[0]
    assert "dogs.sqlite: cannot be read as an SQLite database: it is empty" in reasons[1]
    assert reasons[2].endswith("line 4: key gold holds no query")
    assert ["predictions", "parsed", "1.000"] in lines


def test_strict_ends_at_the_first_pair_that_cannot_be_judged(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*left_out_pairs(files), "--strict", "--out", str(files / "o.jsonl")]) == 2
    refused("no database 'cats' (as DB/DB.sqlite); mend it, or leave out --strict", capsys)
    assert not (files / "o.jsonl").exists()


def test_a_key_that_nothing_reads_is_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "rows.jsonl").write_text(ROW.replace('"id": 1', '"id": 1, "turns": 3, "note": ""'))
    assert score(files, "--jsonl", str(files / "rows.jsonl")) == 0
    assert "keys not read        turns, note" in capsys.readouterr().out
    assert score(files, "--jsonl", str(files / "rows.jsonl"), "--strict") == 2
    refused("line 1: unknown key 'turns'; did you mean 'turn'?", capsys)


def test_one_bad_line_of_gold_costs_no_other(files: Path) -> None:
    (files / "gold.txt").write_text(GOLD.replace("\tpets", " pets", 1))
    assert score(files, *texts(files), "--out", str(files / "o.jsonl")) == 0
    assert [row[3] for row in verdicts(files / "o.jsonl")] == ["left_out", "ok", "error"]


def test_nothing_to_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score"]) == 2
    refused("give --gold FILE and --pred FILE, or --jsonl FILE", capsys)


def refused(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("mtsql: error: ")
    assert message in captured.err


def test_luck_is_counted_in_table_and_summary(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golds = [
        "SELECT name FROM pets WHERE age > 9",  # no row
        "SELECT name FROM pets ORDER BY name > '' LIMIT 1",  # three names tie
        "SELECT name FROM pets ORDER BY age LIMIT 1",
        "SELECT nothing FROM pets LIMIT 1",  # fails: no luck
    ]
    (files / "gold.txt").write_text("".join(f"{gold}\tpets\n" for gold in golds))
    (files / "pred.txt").write_text("".join(f"{gold}\n" for gold in golds))
    assert score(files, *texts(files), "--out", str(files / "rows.jsonl")) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in printed if line.startswith("golds without rows")] == ["1"]
    assert [line.split()[-1] for line in printed if line.startswith("golds cutting a tie")] == ["1"]
    summary = json.loads((files / "summary.json").read_text())
    assert (summary["num_gold_empty"], summary["num_gold_cut_tie"]) == (1, 1)
    # a band of its own: what Spider's grammar cannot read is not mixed with easy
    by_hardness = summary["scores"]["ex"]["by_hardness"]
    assert {name: one["num_judged"] + one["num_unjudged"] for name, one in by_hardness.items()} == {
        "easy": 2,
        "medium": 1,
        "hard": 0,
        "extra": 0,
        "unread": 1,
    }
