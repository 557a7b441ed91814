"""`mtsql cocte`: chains of a prepared folder, and a look into one."""

import json
from pathlib import Path

import pytest

from helpers.shops import write_shops
from mtsql.chains.build import Built
from mtsql.chains.chain import Chain, View
from mtsql.data.embedded import generate
from recipes.cocte.build import UnderWay
from recipes.main import main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cocte") / "data"
    generate(
        folder, seed=3, num_train=6, num_valid=1, num_test=1, num_test_unseen_db=1, num_test_ood=1
    )
    return folder


def test_build_writes_chains_and_figures(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "chains"
    words = ["cocte", "build", "--data", str(data), "--out", str(out)]
    assert main([*words, "--split", "train", "--split", "valid", "sql.num_workers=1"]) == 0
    printed = capsys.readouterr().out
    facts = json.loads((out / "facts.json").read_text())
    rows = [json.loads(line) for line in (out / "chains.jsonl").read_text().splitlines()]
    assert facts["num_queries"] == len(rows) > 0
    assert {row["split"] for row in rows} == {"train", "valid"}
    assert facts["share_decomposed"] == sum(bool(row["chains"]) for row in rows) / len(rows)
    assert facts["share_decomposed"] > 0.95
    assert facts["not_decomposed"] == {} or facts["share_decomposed"] < 1
    assert f"{len(rows)} golds" in printed
    for row in rows:
        assert (row["failure"] is None) is bool(row["chains"])
        for chain in row["chains"]:
            assert len(chain) > 1
            assert set(chain[0]) == {"name", "sql", "rationale"}
    assert sorted(path.name for path in out.iterdir()) == ["chains.jsonl", "facts.json"]
    # Another build takes its place.
    assert main([*words, "--min-distance", "1"]) == 0
    again = json.loads((out / "facts.json").read_text())
    assert again["mean_chains"] < facts["mean_chains"]


def test_a_build_that_was_killed_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "built.jsonl"
    chain = Chain((View(name="a", sql="SELECT 1", rationale="One."), View(name="b", sql="TABLE a")))
    done = {
        ("shops", "SELECT 1"): Built(chains=(chain,), is_empty=True),
        ("shops", "SELECT"): Built(failure="unreadable", detail="no query"),
    }
    lost = {("shops", "SELECT 2"): Built(failure="fault", detail="the pool is gone")}
    UnderWay(path, "limits").add(done | lost)
    with path.open("a") as file:
        file.write('{"db_id": "shops", "gold_')  # killed while it wrote
    again = UnderWay(path, "limits")
    assert again.built == done
    assert again.built["shops", "SELECT 1"].chains[0].views[0].rationale == "One."
    again.add({("shops", "SELECT 3"): Built(failure="tie")})
    assert len(UnderWay(path, "limits").built) == 3
    assert UnderWay(path, "other limits").built == {}
    assert UnderWay(path, "limits").built == {}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--split", "dev"], "no split 'dev'; choose one of: train, valid"),
        (["rl.seed=1"], "write sql.KEY=VALUE"),
        (["--data", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_mistakes_of_build_are_one_line(
    words: list[str], reason: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["cocte", "build", "--data", str(data), "--out", str(tmp_path)]
    assert main([*base, *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert reason in line


@pytest.fixture
def shops(tmp_path: Path) -> str:
    return str(write_shops(tmp_path / "shops.sqlite"))


def test_show_tells_each_view(shops: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "WITH here AS (SELECT name FROM shop WHERE city = 'Paris') SELECT count(*) AS n FROM here"
    assert main(["cocte", "show", sql, "--db", shops, "--rows", "1"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "-- here"
    assert lines[1] == "SELECT name FROM shop WHERE city = 'Paris'"
    here = json.loads(lines[2])
    # Ada and Bob; one is shown
    assert (here["columns"], here["rows"]) == (["name"], [["Ada"]])
    assert (here["num_rows"], here["more"]) == (2, True)
    assert lines[4:6] == ["-- result", "SELECT count(*) AS n FROM here"]
    assert json.loads(lines[6])["rows"] == [[2]]


def test_show_takes_a_query_apart(shops: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT city, count(*) FROM shop WHERE name <> 'Bob' GROUP BY city"
    assert main(["cocte", "show", sql, "--db", shops, "--decompose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "SELECT city, COUNT(*) AS num FROM kept_rows GROUP BY city" in lines


@pytest.mark.parametrize(
    ("sql", "code", "reason"),
    [
        ("SELECT 1; SELECT 2", 2, "not one query"),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT 1", 2, "in a circle"),
        ("WITH a AS (SELECT 1) SELECT * FROM nowhere", 1, ""),
    ],
)
def test_what_is_no_chain_is_said(
    sql: str, code: int, reason: str, shops: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cocte", "show", sql, "--db", shops]) == code
    printed = capsys.readouterr()
    assert reason in printed.err
    if code == 1:
        assert "no_such_table" in printed.out
