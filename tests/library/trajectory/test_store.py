"""Trajectories as Parquet files."""

import re
import shlex
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.places import ROOT
from mtsql.chains.chain import Chain, Query, View
from mtsql.chains.truth import Truth
from mtsql.errors import DataError
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, Answer, ParseFailure, ToolCall
from mtsql.query.match import ClauseMatch
from mtsql.sql.records import ResultClass
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Fault, FaultKind, Step, Trajectory
from mtsql.trajectory.reward import Reward
from mtsql.trajectory.store import (
    SCHEMA,
    VERSION,
    read_trajectories,
    write_trajectories,
)
from mtsql.trajectory.tokens import TokenSequence

SQL = "SELECT name FROM shop WHERE city = 'Ω “quoted”\n<tool_call>'"
STEPS = (
    Step(
        message="?",
        action=ParseFailure(reason="no tool call"),
        observation='{"error": "malformed"}',
        proposal=None,
        is_accepted=False,
    ),
    Step(
        message="<tool_call>",
        action=ToolCall(name=ActionName.PROPOSE, sql=SQL),
        observation='{"ok": true}',
        proposal=0,
    ),
    Step(
        message="",
        action=ToolCall(name=ActionName.EXECUTE),
        observation='{"rows": []}',
        proposal=0,
        num_rows=0,
        result_class=ResultClass.EMPTY,
    ),
    Step(
        message="",
        action=ToolCall(name=ActionName.VERIFY, target="execution", verdict="fail"),
        observation="{}",
        proposal=0,
    ),
    Step(
        message="",
        action=ToolCall(name=ActionName.VERIFY, target="memory"),
        observation="{}",
        proposal=0,
        num_kept=1,
        num_added=0,
        num_dropped=2,
        num_changed=3,
    ),
    Step(
        message="",
        action=Answer(),
        observation=None,
        proposal=1,
        relation="extends",
        earlier=(
            ToolCall(name=ActionName.VERIFY, target="memory", verdict="pass"),
            ToolCall(name=ActionName.CORRECT, sql=SQL, view="result"),
        ),
        num_ignored=2,
        lacks_verdict=True,
    ),
)
FULL = Attempt(
    trajectory=Trajectory(
        turn_id="d/1",
        steps=STEPS,
        ending=Ending.ANSWERED,
        proposals=(
            Query(SQL),
            Chain((View(name="v", sql=SQL), View(name="result", sql="SELECT 1"))),
        ),
        judgements=(Judgement(ex=False, em=None, status="ok", message="m"),) * 2,
        matches=(ClauseMatch(f1=0.8, coherence=None, is_parsed=True),) * 2,
        truths=(None, Truth.INSUFFICIENT),
    ),
    dialogue_id="d",
    turn_index=1,
    db_id="shops",
    hardness="easy",
    question="Which shops?",
    gold_sql="SELECT 1",
    label=Label(policy="rl", split="train", history_mode="gold", rl_step=3),
    group="d/1#3",
    reward=Reward(
        outcome=0.0,
        parts={
            "verify": (None, None, None, 0.1, None, None),
            "generation": (None, 0.0, None, None, None, None),
        },
    ),
    tokens=TokenSequence(
        prompt_ids=(1, 2),
        response_ids=(7, 8, 4, 151_643),
        response_mask=(1, 1, 0, 1),
        step_ends=(1, 3),
        logprobs=(-0.1, -1e-9, 0.0, -12.345678901234567),
    ),
)
FAULT = replace(
    FULL,
    trajectory=Trajectory(
        turn_id="d/1",
        steps=(),
        ending=Ending.INFRA_FAULT,
        proposals=(),
        judgements=(),
        fault=Fault(kind=FaultKind.SQL_POOL, message="worker lost"),
    ),
    reward=None,
    tokens=TokenSequence(),
)


def test_what_is_written_is_read_back_equal(tmp_path):
    path = tmp_path / "trajectories" / "rl-step-00003.parquet"
    write_trajectories(path, [FULL, FAULT])
    assert read_trajectories(path) == [FULL, FAULT]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_field_of_the_records_has_a_place():
    names = {field.name for field in fields(Attempt)} - {"trajectory", "tokens", "label"}
    for record in (Trajectory, TokenSequence, Label):
        names |= {field.name for field in fields(record)}
    assert names == set(SCHEMA.names)
    steps = SCHEMA.field("steps").type.value_type
    assert {field.name for field in fields(Step)} == {field.name for field in steps}
    matches = SCHEMA.field("matches").type.value_type
    assert {field.name for field in fields(ClauseMatch)} == {field.name for field in matches}
    judgements = SCHEMA.field("judgements").type.value_type
    assert {field.name for field in fields(Judgement)} == {field.name for field in judgements}
    faults = SCHEMA.field("fault").type
    assert {field.name for field in fields(Fault)} == {field.name for field in faults}
    reward = SCHEMA.field("reward").type
    derived = {"total", "step_rewards"}
    assert {field.name for field in fields(Reward)} | derived == {field.name for field in reward}


def test_an_empty_file_has_the_columns(tmp_path):
    write_trajectories(tmp_path / "none.parquet", [])
    assert read_trajectories(tmp_path / "none.parquet") == []
    assert pq.read_schema(tmp_path / "none.parquet").names == SCHEMA.names


def test_a_pattern_reads_many_files_in_the_order_of_their_names(tmp_path):
    for step in (10, 2, 1):
        row = replace(FULL, label=replace(FULL.label, rl_step=step))
        write_trajectories(tmp_path / f"rl-step-{step:05d}.parquet", [row])
    assert [row.label.rl_step for row in read_trajectories(tmp_path / "*.parquet")] == [1, 2, 10]


def test_duckdb_reads_the_same_files(tmp_path):
    write_trajectories(tmp_path / "a.parquet", [FULL, FAULT])
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT ending, len(steps), reward.total, judgements[1].ex, steps[3].result_class "
            f"FROM '{tmp_path}/*.parquet' ORDER BY ending"
        ).fetchall()
    assert rows == [("answered", 6, 0.1, False, "empty"), ("infra_fault", 0, None, None, None)]


def test_an_older_file_is_replaced_and_a_failed_write_leaves_it(tmp_path):
    path = tmp_path / "a.parquet"
    write_trajectories(path, [FULL, FULL])
    write_trajectories(path, [FULL])
    with pytest.raises(pa.ArrowInvalid):
        write_trajectories(path, [replace(FULL, turn_index=1 << 40)])
    assert read_trajectories(path) == [FULL]
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_not_there_or_not_ours_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file; trajectories lie in"):
        read_trajectories(tmp_path / "*.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DataError, match=r"text\.parquet: not a Parquet file"):
        read_trajectories(tmp_path / "text.parquet")
    pq.write_table(pa.table({"turn_id": ["d/1"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: no column 'db_id'"):
        read_trajectories(tmp_path / "other.parquet")


def test_a_judged_step_with_nothing_earned_is_read_back_apart_from_one_not_judged(tmp_path):
    write_trajectories(tmp_path / "a.parquet", [FULL])
    [row] = read_trajectories(tmp_path / "a.parquet")
    assert row.reward is not None
    assert row.reward.parts["generation"] == (None, 0.0, None, None, None, None)
    with duckdb.connect() as connection:
        [(names, values)] = connection.execute(
            "SELECT list_transform(reward.parts, lambda x: x.name), reward.parts[1].values"
            f" FROM '{tmp_path}/*.parquet'"
        ).fetchall()
    assert (names, values[3]) == (["verify", "generation"], 0.1)


def test_duckdb_counts_faults_by_kind(tmp_path):
    write_trajectories(tmp_path / "a.parquet", [FULL, FAULT, FAULT])
    with duckdb.connect() as connection:
        counts = connection.execute(
            f"SELECT fault.kind, count(*) FROM '{tmp_path}/*.parquet' GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    assert counts == [("sql_pool", 2), (None, 1)]


def test_a_file_without_version_is_an_older_one_and_refused(tmp_path):
    path = tmp_path / "old.parquet"
    write_trajectories(path, [FULL, FAULT])
    rows = pq.read_table(path).drop_columns(["matches"]).replace_schema_metadata({})
    pq.write_table(rows, path)
    with pytest.raises(DataError, match=r"old\.parquet: trajectories of version 1, and this mtsql"):
        read_trajectories(path)


def test_a_file_of_this_version_lacks_no_column(tmp_path):
    path = tmp_path / "cut.parquet"
    write_trajectories(path, [FULL])
    pq.write_table(pq.read_table(path).drop_columns(["matches"]), path)
    with pytest.raises(DataError, match="no column 'matches'"):
        read_trajectories(path)


def test_a_file_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "new.parquet"
    write_trajectories(path, [FULL])
    later = pq.read_table(path).replace_schema_metadata({"mtsql_version": str(VERSION + 1)})
    pq.write_table(later, path)
    with pytest.raises(DataError, match=rf"version {VERSION + 1}, and this mtsql reads"):
        read_trajectories(path)


@pytest.mark.parametrize(
    ("column", "values", "complaint"),
    [
        ("response_mask", [1], r"d/1: response arrays differ in length: \[1, 4\]"),
        ("logprobs", [0.0], r"d/1: response arrays differ in length: \[1, 4\]"),
        ("step_ends", [2], "d/1: a step ends on a token that was not sampled"),
    ],
)
def test_a_file_whose_arrays_do_not_fit_is_refused(tmp_path, column, values, complaint):
    path = tmp_path / "broken.parquet"
    write_trajectories(path, [FULL])
    (row,) = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([row | {column: values}], schema=SCHEMA), path)
    with pytest.raises(DataError, match=complaint):
        read_trajectories(path)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="response arrays differ in length"):
        replace(FULL.tokens, response_mask=(1,))
    with pytest.raises(ValueError, match="response arrays differ in length"):
        replace(FULL.tokens, logprobs=(0.0,))
    with pytest.raises(ValueError, match="a step ends on a token that was not sampled"):
        replace(FULL.tokens, step_ends=(2,))
    assert FULL.tokens.num_tokens == 6


def test_the_documents_count_endings_with_duckdb(tmp_path, monkeypatch, capfd):
    text = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if "import duckdb" in line]
    monkeypatch.chdir(tmp_path)
    write_trajectories(Path("runs/demo/trajectories/rl-step-1.parquet"), [FULL, FULL])
    subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True)
    assert re.search(r"answered\W+2\b", capfd.readouterr().out)
