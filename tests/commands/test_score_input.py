"""What `mtsql score` reads: texts as the official script cuts them, and rows of JSON."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mtsql.errors import DataError
from recipes.score.input import ScorePair, find_suites, read_rows, read_texts, require_all


def texts(folder: Path, gold: bytes, pred: bytes) -> list[ScorePair]:
    (folder / "gold.txt").write_bytes(gold)
    (folder / "pred.txt").write_bytes(pred)
    return read_texts(folder / "gold.txt", folder / "pred.txt")


def rows(folder: Path, *rows: dict[str, object]) -> list[ScorePair]:
    lines = [
        json.dumps({"id": place, "db_id": "a", "gold": "g", "pred": "p", **row})
        for place, row in enumerate(rows)
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return read_rows(folder / "rows.jsonl")


def places(pairs: list[ScorePair]) -> list[tuple[object, str | None, int]]:
    return [(pair.id, pair.dialogue, pair.turn) for pair in pairs]


def test_blank_lines_stand_between_dialogues(tmp_path: Path) -> None:
    pairs = texts(tmp_path, b"g\ta\ng\ta\n\n\ng\ta\n", b"p\np\n\np\n\n")
    assert places(pairs) == [("0/0", "0", 0), ("0/1", "0", 1), ("1/0", "1", 0)]


def test_without_blank_lines_each_query_stands_alone(tmp_path: Path) -> None:
    pairs = texts(tmp_path, b"g\ta\ng\tb\n\n", b"p\nq\n")  # a blank line at the end is between none
    assert places(pairs) == [("0", None, 0), ("1", None, 0)]
    assert [(pair.db_id, pair.pred) for pair in pairs] == [("a", "p"), ("b", "q")]
    with pytest.raises(DataError, match=r"pred\.txt: holds 1 queries, but .* holds 2; write one"):
        texts(tmp_path, b"g\ta\ng\tb\n", b"p\n")


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\f", "\v", "\x1c"])
def test_a_line_ends_where_official_lines_end(tmp_path: Path, sign: str) -> None:
    query = f"SELECT 'a{sign}b'"
    (pair,) = texts(tmp_path, f"{query}\ta\n".encode(), f"{query}\n".encode())
    assert (pair.gold, pair.pred) == (query, query)
    line = json.dumps({"id": 1, "db_id": "a", "gold": "g", "pred": "a\u2028b"}, ensure_ascii=False)
    (tmp_path / "rows.jsonl").write_text(line, encoding="utf-8")
    assert read_rows(tmp_path / "rows.jsonl")[0].pred == "a\u2028b"


def test_line_ends_of_other_systems(tmp_path: Path) -> None:
    pairs = texts(tmp_path, b"g\ta\r\nh\ta\r\n\r\ng\ta\r\n", b"p\rq\r\rp\r")
    assert [(pair.id, pair.gold, pair.pred) for pair in pairs] == [
        ("0/0", "g", "p"),
        ("0/1", "h", "q"),
        ("1/0", "g", "p"),
    ]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (pair,) = texts(tmp_path, b"\xef\xbb\xbfg\ta\n", b"\xef\xbb\xbfp\n")
    assert (pair.gold, pair.pred) == ("g", "p")
    row = b'{"id": 1, "db_id": "a", "gold": "g", "pred": null}'
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + row)
    assert read_rows(tmp_path / "rows.jsonl")[0].pred == ""


def test_turns_keep_their_numbers(tmp_path: Path) -> None:
    # Turn 1 of the first dialogue is left out of the file; the smallest number says from where.
    for first in (0, 1):
        pairs = rows(
            tmp_path,
            {"dialogue": "x", "turn": first + 2},
            {"dialogue": "x", "turn": first},
            {"dialogue": 7, "turn": first + 4, "source": "s"},
            {"turn": first + 3},
            {},
        )
        assert places(pairs) == [
            (0, '["", "x"]', 2),
            (1, '["", "x"]', 0),
            (2, '["s", "7"]', 4),
            (3, None, 3),
            (4, None, 0),
        ]
    # Only later turns: they count from 1.
    assert [pair.turn for pair in rows(tmp_path, {"dialogue": "x", "turn": 3})] == [2]


def test_turns_without_numbers_stand_in_the_order_of_their_lines(tmp_path: Path) -> None:
    pairs = rows(tmp_path, {"dialogue": 1}, {"dialogue": 2}, {"dialogue": 1})
    assert [pair.turn for pair in pairs] == [0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{"dialogue": 1, "turn": 2}] * 2, "line 2: turn 2 of dialogue 1 stands on line 1 as well"),
        (
            [{"dialogue": 1, "turn": 2}, {}, {"dialogue": 1}],
            "line 3: some turns of dialogue 1 have a number, others none",
        ),
        ([{}, {"dialogue": 1, "turn": -1}], "line 2: key 'turn'"),
        ([{}, {"id": "\ud800"}], "line 2: key id holds half of a surrogate pair"),
        ([{"gold": "\udfff"}], "line 1: key gold holds half of a surrogate pair"),
        ([{"pred": "\ud800", "turns": 1}], "line 1: unknown key 'turns'; did you mean 'turn'?"),
        ([{}, {"gold": " "}], "line 2: key gold holds no query"),
        ([{}, {"pred": 5}], "line 2: key 'pred'"),
    ],
)
def test_rows_that_are_refused_where_all_are_asked_for(
    tmp_path: Path, changes: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(DataError) as error:
        require_all(rows(tmp_path, *changes))
    assert message in str(error.value)


def test_a_bad_row_keeps_its_place_and_says_why(tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "db_id": "a", "gold": "g", "pred": "p", "dialogue": 1, "note": "x", "n": 2}',
        '{"id": 2, "db_id": null, "gold": "g", "pred": "p", "dialogue": 1}',
        '{"id": 3, "db_id": "a", "gold": "g", "pred": "p", "dialogue": 1}',
        '{"id": [], "db_id": "a", "gold": "g", "pred": "p"}',
        '{"id": 5, "db_id": "a", "gold": "", "pred": "p"}',
        "not JSON",
        '{"id": 7, "db_id": "a", "gold": "g"}',
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    pairs = read_rows(path)
    dialogue = '["", "1"]'
    assert places(pairs) == [
        (1, dialogue, 0),
        (2, dialogue, 1),
        (3, dialogue, 2),
        ("line 4", None, 0),
        (5, None, 0),
        ("line 6", None, 0),
        (7, None, 0),
    ]
    faults = [pair.fault.replace(f"{path}, ", "") for pair in pairs]
    assert faults[0] == faults[2] == ""
    assert faults[1].startswith("malformed: line 2: key 'db_id': Input should be a valid string")
    assert faults[3].startswith("malformed: line 4: key 'id")
    assert faults[4] == "empty_gold: line 5: key gold holds no query"
    assert faults[5].startswith("malformed: line 6: Invalid JSON")
    assert faults[6] == "malformed: line 7: key 'pred': Field required"
    assert [pair.unread for pair in pairs[:2]] == [("note", "n"), ()]


def test_a_bad_row_takes_no_number_of_a_good_one(tmp_path: Path) -> None:
    pairs = rows(
        tmp_path,
        {"dialogue": 1, "turn": 1, "gold": ""},
        {"dialogue": 1, "turn": 1},
        {"dialogue": 1, "turn": "x"},
        {"dialogue": 1, "turn": 2},
        {"dialogue": 1, "turn": 3, "gold": ""},
    )
    assert [pair.turn for pair in pairs] == [1_000_001, 0, 1_000_003, 1, 2]


@pytest.mark.parametrize(
    ("pred", "line"),
    [(b"p\n\nq\n", 2), (b"\np\nq\n", 1), (b"p\nq\n\n", 3), (b"p\r\n \t\r\nq", 2)],
)
def test_an_empty_prediction_without_dialogues_is_named(
    pred: bytes, line: int, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        texts(tmp_path, b"g\ta\nh\ta\ni\ta\n", pred)
    assert f"pred.txt, line {line}: is empty, but " in str(error.value)
    assert 'write a query there, or give --jsonl FILE with "pred": null' in str(error.value)


def test_an_empty_prediction_between_dialogues_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the first that differs begins at line 3 with 1 turns"):
        texts(tmp_path, b"g\ta\n\nh\ta\ni\ta\nj\ta\n\nk\ta\n", b"p\n\nq\n\nr\n\ns\n")


def test_a_suite_holds_databases_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a.sqlite", "a_2.sqlite"):
        with closing(sqlite3.connect(tmp_path / "a" / name)) as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.commit()
    for name in ("._a.sqlite", "a.sqlite-wal", "~$a.sqlite", ".DS_Store"):
        (tmp_path / "a" / name).touch()
    suites, faults = find_suites(tmp_path, ["a", "b"], all_variants=True)
    assert list(suites["a"]) == ["a", "a/a_2.sqlite"]
    assert list(faults) == ["b"]
    (tmp_path / "a" / "a_3.sqlite").touch()  # on fewer databases the suite would ask less
    suites, faults = find_suites(tmp_path, ["a"], all_variants=True)
    assert suites == {}
    assert "a_3.sqlite: cannot be read as an SQLite database: it is empty" in faults["a"]


@pytest.mark.parametrize("line", ["{", "[" * 100_000, '{"id": "\\ud8"}', "\f{}x"])
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: .*JSON"):
        read_rows(tmp_path / "rows.jsonl")


def test_half_of_a_surrogate_pair_may_stand_in_a_prediction(tmp_path: Path) -> None:
    assert rows(tmp_path, {"pred": "SELECT '\ud800'"})[0].pred == "SELECT '\ud800'"
