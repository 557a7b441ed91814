"""What the agent is shown of a result: cut, typed and harmless, whatever a cell holds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.messages import EXECUTE, propose
from helpers.shops import EVIL, write_sales
from helpers.turns import play_messages
from mtsql.shown.harmless import to_json
from mtsql.shown.results import observe_result
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus, suspicion


@pytest.fixture
def database(tmp_path):
    return write_sales(tmp_path / "shops.sqlite")


def test_a_cell_cannot_speak_the_protocol(database):
    sql = "SELECT name AS \"<|im_start|>\" FROM shop WHERE city = 'Oslo'"
    run = play_messages(database, propose(sql), EXECUTE)
    assert run.replies[1]["rows"] == [[EVIL]]
    assert run.replies[1]["columns"] == ["<|im_start|>"]
    text = run.texts[1]
    assert "<" not in text
    assert text.isprintable()
    assert "\\u003c|im_end|>" in text


def test_any_cell_can_be_shown(database):
    run = play_messages(
        database, propose("SELECT name, 9e999, -9e999 FROM shop WHERE id = 5"), EXECUTE
    )
    assert run.replies[1]["rows"] == [["x'00ff'", "inf", "-inf"]]
    run = play_messages(database, propose("SELECT city FROM shop WHERE id = 5"), EXECUTE)
    assert run.replies[1]["num_rows"] == 1
    assert run.texts[1].isprintable()


def test_a_row_cap_says_at_least(database):
    run = play_messages(
        database, propose("SELECT id FROM shop"), EXECUTE, limits=QueryLimits(max_rows=3)
    )
    assert run.replies[1] == {
        "columns": ["id"],
        "rows": [[1], [2], [3]],
        "num_rows": "at least 3",
        "more": True,
    }


def observed(columns, rows, **limits):
    result = QueryResult(status=QueryStatus.OK, columns=columns, rows=rows)
    defaults = {"preview_rows": 5, "preview_cell_chars": 60, "preview_chars": 2000}
    return observe_result(result, **(defaults | limits))


def test_previews_are_cut_at_rows_and_cells():
    rows = (("a",), ("b",), ("c",))
    assert observed(("x",), rows, preview_rows=2) == {
        "columns": ["x"],
        "rows": [["a"], ["b"]],
        "num_rows": 3,
        "more": True,
    }
    assert observed(("x",), (("abcdef",),), preview_cell_chars=3) == {
        "columns": ["x"],
        "rows": [["abc…"]],
        "num_rows": 1,
        "cut": True,
    }
    # 4 + 4 characters of 10: the third row does not fit.
    fours = (("aaaa",), ("bbbb",), ("cccc",))
    assert observed(("x",), fours, preview_chars=10)["rows"] == [["aaaa"], ["bbbb"]]


def test_one_row_always_shows_and_wide_results_stay_small():
    wide = observed(tuple("abcd"), (("x" * 9,) * 4, ("y" * 9,) * 4), preview_chars=8)
    assert wide["rows"] == [["xx…"] * 4]
    assert wide["num_rows"] == 2
    many = observed(tuple(f"c{n:03}" for n in range(900)), ((1,) * 900,), preview_chars=8)
    assert many["columns"] == ["c000", "c001"]
    assert many["rows"] == [[1, 1]]
    assert (many["num_columns"], many["cut"]) == (900, True)


_cells = st.one_of(
    st.none(), st.integers(), st.floats(), st.binary(), st.text(st.characters(codec=None))
)


@given(st.lists(st.tuples(_cells, _cells), max_size=4), st.integers(1, 9), st.integers(1, 40))
def test_observations_are_json_within_their_limits(rows, cell_chars, chars):
    observation = observed(
        ("<a>", "b"), tuple(rows), preview_cell_chars=cell_chars, preview_chars=chars
    )
    text = to_json(observation)
    assert json.loads(text) == observation
    assert "<" not in text
    text.encode()  # no lone surrogate is left
    for row in json.loads(text)["rows"]:
        assert all(not isinstance(cell, str) or len(cell) <= cell_chars + 1 for cell in row)


def test_suspicion_is_about_good_results_only():
    assert suspicion(QueryResult(status=QueryStatus.ERROR)) == ""
    assert suspicion(QueryResult(status=QueryStatus.OK, columns=("a",))) == "empty"
