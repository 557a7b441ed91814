"""Every reader over damaged files: it reads them, or ends in one line that names the file.

Each example damages one file of a small, right folder: bytes cut, doubled, moved or replaced, an
encoding of another system, values of another type, keys that are missing or new.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.places import ROOT
from helpers.shops import ALL, DIALOGUE, IN_PARIS, SCHEMA, write_shops
from mtsql.chains.chain import Query
from mtsql.config.load import load_config
from mtsql.data.dataset import load_dataset, write_dataset
from mtsql.data.readers import read_schemas, read_source
from mtsql.data.reflect import reflect_sqlite
from mtsql.errors import UserError
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.scores import ScoredTurn, summarise
from mtsql.protocol import Answer
from mtsql.runs.folder import RunFolder
from mtsql.runs.metrics import read_rows
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Step, Trajectory
from mtsql.trajectory.reward import Reward
from mtsql.trajectory.store import read_trajectories, write_trajectories
from mtsql.trajectory.tokens import TokenSequence
from recipes.score.input import read_rows as read_pairs
from recipes.score.input import read_texts

MARKS = [b"\0", b"\xff", b'"', b"{", b"}", b"[", b"\n", b"\r\n", b"\\", b"\xef\xbb\xbf", b"\\ud800"]
VALUES = ["null", "true", "-1", "0", "1e400", "1" * 40, '""', '" "', '"x"', "[]", "[[]]", "{}"]
"""In JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Files that are right, the one that is damaged, and how the folder is read."""

    write: Callable[[Path], None]
    file: str
    read: Callable[[Path], object]
    is_json: bool = True
    """One value, or one in each line."""
    seal: Callable[[Path], None] | None = None
    """Writes down the damaged file's checksum, so that it is read and not refused by that."""


def write_release(folder: Path) -> None:
    """SparC's layout, reduced to one dialogue."""
    (folder / "database" / "shops").mkdir(parents=True)
    write_shops(folder / "database" / "shops" / "shops.sqlite")
    turns = [{"utterance": turn.question, "query": turn.gold_sql} for turn in DIALOGUE.turns]
    entry = {"database_id": "shops", "interaction": turns, "final": {"utterance": "x"}}
    (folder / "train.json").write_text(json.dumps([entry, entry]))
    table: dict[str, Any] = {
        "db_id": "shops",
        "table_names": ["shop"],
        "table_names_original": ["shop"],
        "column_names": [[-1, "*"], [0, "id"], [0, "name"], [0, "city"]],
        "column_names_original": [[-1, "*"], [0, "id"], [0, "name"], [0, "city"]],
        "column_types": ["text", "number", "text", "text"],
        "primary_keys": [1],
        "foreign_keys": [],
    }
    (folder / "tables.json").write_text(json.dumps([table]))


def write_prepared(folder: Path) -> None:
    (folder / "shops").mkdir()
    database = write_shops(folder / "shops" / "shops.sqlite")
    write_dataset(
        folder / "data",
        name="hand",
        seed=1,
        splits={"train": [DIALOGUE], "valid": [], "test": [DIALOGUE]},
        schemas=[SCHEMA],
        databases={"shops": database},
    )


def seal_dialogues(folder: Path) -> None:
    path = folder / "data" / "dataset.json"
    text = path.read_text()
    manifest = json.loads(text)
    old = manifest["splits"]["train"]["sha256"]
    new = hashlib.sha256((folder / "data" / "train.jsonl").read_bytes()).hexdigest()
    path.write_text(text.replace(old, new))


def write_run(folder: Path) -> None:
    for name in ("metrics", "evaluation", "stages"):
        (folder / name).mkdir()
    figures = {"ex": 0.5, "em": 0.4, "qm": 0.5, "im": 0.25, "im_em": 0.2, "splits": {}}
    summary = {"name": "hand", "seed": 1, "device": "cpu", "wall_s": {"data": 1.5}, "turns": 2}
    (folder / "summary.json").write_text(json.dumps({**summary, "warm_start": figures}))
    turn = ScoredTurn(
        dialogue_id="d", turn_index=0, hardness="easy", ex=True, em=None, status="ok", split="test"
    )
    scores = asdict(summarise([turn]))
    scored = {"policy": "rl", "history": "gold", "elapsed_s": 1.0, "sampled_tokens": 9}
    scored |= {"splits": {"test": scores}, "all": scores, "abilities": {}, "turns": [asdict(turn)]}
    (folder / "evaluation" / "rl-gold.json").write_text(json.dumps(scored))
    (folder / "metrics" / "rl.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"step": 2}\n')
    failure = {"kind": "fault", "reason": "gone", "resumable": True}
    (folder / "stages" / "rl.error").write_text(json.dumps(failure))


def write_pairs(folder: Path) -> None:
    row = {"db_id": "shops", "gold": IN_PARIS, "pred": ALL}
    rows = [{"id": n, "dialogue": "d", "turn": n, **row} for n in range(2)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "gold.txt").write_text(f"{IN_PARIS}\tshops\n{ALL}\tshops\n\n{ALL}\tshops\n")
    (folder / "pred.txt").write_text(f"{ALL}\n{ALL}\n\n{ALL}\n")


def write_recipe(folder: Path) -> None:
    recipe = (ROOT / "recipes" / "demo_cpu.yaml").read_text(encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")


def write_played(folder: Path) -> None:
    answer = Step(message="done", action=Answer(), observation=None, proposal=0)
    attempt = Attempt(
        trajectory=Trajectory(
            turn_id="hand-0/0",
            steps=(answer,),
            ending=Ending.ANSWERED,
            proposals=(Query(ALL),),
            judgements=(Judgement(ex=False, em=False, status="ok"),),
        ),
        dialogue_id="hand-0",
        turn_index=0,
        db_id="shops",
        hardness="easy",
        question="show all shops in Paris",
        gold_sql=IN_PARIS,
        tokens=TokenSequence(),
        label=Label(policy="rl", split="test", history_mode="gold"),
        group="g",
        reward=Reward(outcome=0.0, parts={"verify": (None,)}),
    )
    write_trajectories(folder / "rl.parquet", [attempt])


def write_database(folder: Path) -> None:
    with closing(sqlite3.connect(write_shops(folder / "shops.sqlite"))) as connection:
        connection.execute("CREATE VIEW v AS SELECT name FROM shop")
        connection.commit()


def run_of(folder: Path) -> RunFolder:
    return RunFolder(folder)


READERS = {
    "release": Reader(
        write=write_release, file="train.json", read=lambda path: read_source("sparc", path)
    ),
    "tables": Reader(
        write=write_release,
        file="tables.json",
        read=lambda path: read_schemas(path / "tables.json"),
    ),
    "manifest": Reader(
        write=write_prepared,
        file="data/dataset.json",
        read=lambda path: load_dataset(path / "data"),
    ),
    "dialogues": Reader(
        write=write_prepared,
        file="data/train.jsonl",
        read=lambda path: load_dataset(path / "data"),
        seal=seal_dialogues,
    ),
    "summary": Reader(
        write=write_run, file="summary.json", read=lambda path: run_of(path).read_summary()
    ),
    "evaluation": Reader(
        write=write_run,
        file="evaluation/rl-gold.json",
        read=lambda path: run_of(path).read_evaluations(),
    ),
    "failure": Reader(
        write=write_run, file="stages/rl.error", read=lambda path: run_of(path).read_failure("rl")
    ),
    "metrics": Reader(
        write=write_run,
        file="metrics/rl.jsonl",
        read=lambda path: read_rows(run_of(path).metrics("rl")),
    ),
    "pairs": Reader(
        write=write_pairs, file="pairs.jsonl", read=lambda path: read_pairs(path / "pairs.jsonl")
    ),
    "texts": Reader(
        write=write_pairs,
        file="pred.txt",
        read=lambda path: read_texts(path / "gold.txt", path / "pred.txt"),
        is_json=False,
    ),
    "recipe": Reader(
        write=write_recipe,
        file="recipe.yaml",
        read=lambda path: load_config(path / "recipe.yaml"),
        is_json=False,
    ),
    "trajectories": Reader(
        write=write_played,
        file="rl.parquet",
        read=lambda path: read_trajectories(path / "rl.parquet"),
        is_json=False,
    ),
    "database": Reader(
        write=write_database,
        file="shops.sqlite",
        read=lambda path: reflect_sqlite("shops", path / "shops.sqlite"),
        is_json=False,
    ),
}


def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """One to three pieces cut out, doubled, replaced, or the whole in another encoding."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(whole)))
        end = min(len(whole), start + draw(st.sampled_from([0, 1, 2, 9, 80, len(whole)])))
        piece = whole[start:end]
        put = draw(
            st.one_of(
                st.sampled_from(MARKS), st.binary(max_size=6), st.just(b""), st.just(piece * 2)
            )
        )
        whole = whole[:start] + put + whole[end:]
    if draw(st.integers(0, 9)) == 0:
        coding = draw(st.sampled_from(["utf-16", "utf-16-le", "utf-8-sig", "utf-32"]))
        whole = whole.decode("utf-8", "replace").encode(coding)
    return whole


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [one for key, inner in items for one in [(value, key), *places(inner)]]


def damaged_json(draw: st.DrawFn, whole: bytes) -> bytes:
    """One to three values of another type, keys left out or added."""
    try:
        roots, is_lines = [json.loads(whole)], False
    except ValueError:
        roots, is_lines = [json.loads(line) for line in whole.splitlines()], True
    for _ in range(draw(st.integers(1, 3))):
        if not (found := places(roots)):
            break
        container, key = draw(st.sampled_from(range(len(found))).map(found.__getitem__))
        what = draw(st.sampled_from(["replace", "leave out", "add"]))
        value = json.loads(draw(st.sampled_from(VALUES)))
        if what == "replace":
            container[key] = value
        elif what == "leave out":
            del container[key]
        elif isinstance(container, dict):
            container["no such key"] = value
        else:
            container.append(value)
    return ("\n".join(json.dumps(root) for root in roots) + "\n" * is_lines).encode()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, bytes]]:
    """By reader, its folder and what its file holds before the damage; written once."""

    @cache
    def written(name: str) -> tuple[Path, bytes]:
        folder = tmp_path_factory.mktemp(name)
        READERS[name].write(folder)
        return folder, (folder / READERS[name].file).read_bytes()

    return written


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_file_is_read_or_named(
    folders: Callable[[str], tuple[Path, bytes]], name: str, data: st.DataObject
) -> None:
    reader = READERS[name]
    folder, whole = folders(name)
    damage = damaged_json if reader.is_json and data.draw(st.booleans()) else damaged_bytes
    damaged = data.draw(st.composite(damage)(whole))
    (folder / reader.file).write_bytes(damaged)
    if reader.seal is not None:
        reader.seal(folder)
    error = _error_of(reader, folder)
    if error is not None:
        assert "\n" not in error
        assert str(folder) in error


def _error_of(reader: Reader, folder: Path) -> str | None:
    """A user's error; any other one is the test's end."""
    try:
        reader.read(folder)
    except UserError as error:
        return str(error)
    return None
