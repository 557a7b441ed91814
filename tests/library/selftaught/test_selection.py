"""Rejection by difficulty on real Parquet files."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stages.context import StageContext
from actors.stages.rounds import replayed
from helpers.steps import (
    LOOSE,
    RIGHT,
    WRONG,
    answered,
    corrected,
    executed,
    looked,
    proposed,
    trajectory_of,
    verified,
)
from mtsql.chains.chain import Chain, Query, View
from mtsql.config.learning import SelectionConfig
from mtsql.config.run import RunConfig
from mtsql.dialogue import Hardness
from mtsql.errors import DataError
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, ToolCall
from mtsql.runs.folder import RunFolder
from mtsql.selftaught.clusters import clusters, cosines, distinct, medoid
from mtsql.selftaught.embedding import FeatureEmbedder, sql_features
from mtsql.selftaught.records import Coverage, Funnel, KeptRow, read_selection
from mtsql.selftaught.samples import Outline, Sample, read_items, read_samples
from mtsql.selftaught.selection import load_selected, select
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Fault, FaultKind, Trajectory
from mtsql.trajectory.store import (
    read_rows,
    read_trajectories,
    write_trajectories,
)
from mtsql.trajectory.tokens import TokenSequence

NAMES = "SELECT name FROM shop WHERE city = 'Paris'"
SHOUTED = "SELECT name FROM shop WHERE city = 'PARIS'"
COUNTED = "SELECT city, count(*) FROM shop GROUP BY city"
FAULT = Trajectory(
    turn_id="",
    steps=(),
    ending=Ending.INFRA_FAULT,
    proposals=(),
    judgements=(),
    fault=Fault(kind=FaultKind.MODEL_SERVER, message="gone"),
)
BLIND = trajectory_of(proposed(), answered(), proposals=[NAMES])
SEEN = trajectory_of(proposed(), executed(result_class="ok"), answered(), proposals=[NAMES])
JUDGED = trajectory_of(
    proposed(), executed(result_class="ok"), verified("pass"), answered(), proposals=[NAMES]
)
WEIGHED = trajectory_of(
    proposed(), looked(), executed(result_class="ok"), answered(), proposals=[NAMES]
)
MENDED = trajectory_of(
    proposed(),
    executed(result_class="empty"),
    corrected(1),
    executed(1, result_class="ok"),
    answered(1),
    judgements=(WRONG, RIGHT),
    proposals=[SHOUTED, NAMES],
)
REBUILT = replace(MENDED, proposals=(Query(COUNTED), Query(NAMES)))
LOOKED_ON = trajectory_of(
    proposed(),
    executed(result_class="ok"),
    looked(),
    looked(),
    verified("pass", target="memory"),
    executed(result_class="ok"),
    answered(),
    proposals=[NAMES],
)
WHOLE = Chain((View(name="here", sql=SHOUTED), View(name="result", sql=NAMES)))
CHAINED = trajectory_of(
    proposed(),
    proposed(1),
    answered(1),
    judgements=(WRONG, RIGHT),
    proposals=(WHOLE.prefix(1), WHOLE),
)
RECHAINED = trajectory_of(
    proposed(),
    proposed(1),
    corrected(2),
    answered(2),
    judgements=(WRONG, WRONG, RIGHT),
    proposals=(
        WHOLE.prefix(1),
        WHOLE.replace_last(View(name="result", sql=COUNTED)),
        WHOLE,
    ),
)
MISSED = trajectory_of(proposed(), answered(), judgements=(WRONG,), proposals=[SHOUTED])
NEVER_SAID = trajectory_of(proposed(), judgements=(), ending=Ending.MAX_STEPS)
LOOSELY = trajectory_of(proposed(), answered(), judgements=(LOOSE,), proposals=[NAMES])
UNJUDGED = trajectory_of(
    proposed(), answered(), judgements=(Judgement(ex=None, em=None, status="gold_failed"),)
)
KINDS = (
    FAULT, BLIND, SEEN, JUDGED, WEIGHED, MENDED, REBUILT, LOOKED_ON, MISSED, NEVER_SAID, LOOSELY,
    UNJUDGED,
)  # fmt: skip


def stored(
    turn_id: str, trajectory: Trajectory, *, hardness: Hardness = "hard", num_tokens: int = 0
) -> Attempt:
    """`num_tokens` of the response; 0: three for each step."""
    num_tokens = num_tokens or 3 * len(trajectory.steps)
    return Attempt(
        trajectory=replace(trajectory, turn_id=turn_id),
        dialogue_id=turn_id.partition("/")[0],
        turn_index=0,
        db_id="shops",
        hardness=hardness,
        question="?",
        gold_sql=NAMES,
        label=Label(policy="round_1", split="train", history_mode="gold"),
        group=turn_id,
        reward=None,
        tokens=TokenSequence(response_ids=(1,) * num_tokens, response_mask=(1,) * num_tokens),
    )


def item(turn_id: str, *trajectories: Trajectory, hardness: Hardness = "hard"):
    return [stored(turn_id, trajectory, hardness=hardness) for trajectory in trajectories]


def kept_rows(folder: Path, rows: Sequence[Attempt], **keys) -> list[int]:
    """The rows that stay of a folder that holds one item."""
    write_trajectories(folder / "0.parquet", rows)
    (only,) = select(folder, SelectionConfig(**keys)).items
    return [kept.row for kept in only.kept]


def samples_of(folder: Path, *trajectories: Trajectory) -> tuple[Sample, ...]:
    write_trajectories(folder / "0.parquet", item("d/0", *trajectories))
    (only,) = read_items(folder)
    return only.samples


# Reading.


def test_a_sample_is_read_with_its_facts(tmp_path):
    rows = [stored("d/0", MENDED, num_tokens=17), stored("d/0", MISSED)]
    write_trajectories(tmp_path / "a.parquet", rows)
    (only,) = read_items(tmp_path)
    assert (only.turn_id, only.dialogue_id, only.hardness) == ("d/0", "d", "hard")
    assert only.samples == (
        Sample(
            file="a.parquet",
            row=0,
            is_scored=True,
            is_valid=True,
            is_correcting=True,
            num_interactions=2,
            num_steps=5,
            num_tokens=17,
            outline=Outline(
                actions=("propose", "execute:empty", "correct", "execute:ok", "answer"),
                proposals=(SHOUTED, NAMES),
            ),
        ),
        Sample(
            file="a.parquet",
            row=1,
            is_scored=True,
            is_valid=False,
            is_correcting=False,
            num_interactions=0,
            num_steps=2,
            num_tokens=6,
            outline=None,
        ),
    )


@pytest.mark.parametrize(
    ("trajectory", "is_scored", "is_valid", "is_correcting"),
    [
        (SEEN, True, True, False),
        (MENDED, True, True, True),
        (MISSED, True, False, False),
        (LOOSELY, True, False, False),
        (NEVER_SAID, True, False, False),
        (replace(MENDED, judgements=(WRONG, LOOSE)), True, False, True),
        (replace(MENDED, judgements=(RIGHT, WRONG)), True, False, False),
        (FAULT, False, False, False),
        (replace(SEEN, ending=Ending.INFRA_FAULT, fault=FAULT.fault), False, False, False),
        (UNJUDGED, False, False, False),
        (replace(SEEN, ending=Ending.MAX_STEPS), True, True, False),
        # Another view is no correction; another last view is one.
        (CHAINED, True, True, False),
        (RECHAINED, True, True, True),
    ],
)
def test_right_wrong_and_neither(trajectory, is_scored, is_valid, is_correcting, tmp_path):
    (sample,) = samples_of(tmp_path, trajectory)
    assert (sample.is_scored, sample.is_valid, sample.is_correcting) == (
        is_scored, is_valid, is_correcting,
    )  # fmt: skip


RUN_IT = ToolCall(name=ActionName.EXECUTE)
PROPOSE_IT = ToolCall(name=ActionName.PROPOSE, sql=NAMES)
PASS_IT = ToolCall(name=ActionName.VERIFY, target="execution", verdict="pass")


@pytest.mark.parametrize(
    ("steps", "num_interactions"),
    [
        ([proposed(), answered()], 0),
        ([proposed(), executed(), looked(), answered()], 2),
        ([proposed(), executed(), executed(), verified("pass"), answered()], 2),
        # The second is a verdict on the comparison that the first one shows.
        ([proposed(), looked(), verified("pass", target="memory"), answered()], 1),
        # Nothing to execute yet; and nobody sees what a last message asks for.
        ([replace(executed(), is_accepted=False), proposed(), answered()], 0),
        ([proposed(), replace(looked(), observation=None)], 0),
        # mtsql_r1: exec_sql proposes and runs; memory_retrieve may have to run the query first.
        ([replace(executed(), earlier=(PROPOSE_IT,)), replace(answered(), earlier=(PASS_IT,))], 1),
        ([replace(looked(), earlier=(PROPOSE_IT, RUN_IT)), answered()], 1),
    ],
)
def test_an_interaction_shows_a_result_or_the_memory(steps, num_interactions, tmp_path):
    (sample,) = samples_of(tmp_path, trajectory_of(*steps))
    assert sample.num_interactions == num_interactions


def test_the_text_of_an_outline_is_what_a_model_embeds(tmp_path):
    r1 = trajectory_of(
        replace(executed(result_class="empty"), earlier=(PROPOSE_IT,)),
        replace(executed(result_class=None), is_accepted=False),
        replace(answered(1), earlier=(ToolCall(name=ActionName.CORRECT, sql=COUNTED),)),
        judgements=(WRONG, RIGHT),
        proposals=[NAMES, COUNTED],
    )
    (sample,) = samples_of(tmp_path, r1)
    assert sample.outline is not None
    assert sample.outline.text.splitlines() == [
        f"propose: {NAMES}", "execute:empty", "!execute", f"correct: {COUNTED}", "answer",
    ]  # fmt: skip


def test_a_strange_folder_name_is_no_pattern(tmp_path):
    folder = tmp_path / "round=1 [a]*?"
    assert kept_rows(folder, item("d/0", SEEN)) == [0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no *.parquet there"),
        ({"a": item("d/0", SEEN), "b": item("d/0", SEEN)}, "has samples in a.parquet as well"),
        (
            {"a": [*item("d/0", SEEN), *item("d/1", SEEN), *item("d/0", SEEN)]},
            "'d/0' are not adjacent",
        ),
    ],
)
def test_samples_that_lie_wrong_are_refused(files, message, tmp_path):
    for name, rows in files.items():
        write_trajectories(tmp_path / f"{name}.parquet", rows)
    with pytest.raises(DataError, match=message.replace("*", r"\*")):
        select(tmp_path, SelectionConfig())


def test_a_file_that_holds_something_else_is_named(tmp_path):
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as trajectories"):
        select(tmp_path, SelectionConfig())


# The rules.


def test_an_easy_item_keeps_its_two_shortest(tmp_path):
    # Interactions 1, 0, 2, 1; the last two of them differ in tokens. LOOSELY fails EM.
    rows = item("d/0", LOOSELY, SEEN, BLIND, WEIGHED, JUDGED, hardness="easy")
    # BLIND has 0; SEEN 9 tokens, JUDGED 12.
    assert kept_rows(tmp_path, rows, short_from=0) == [2, 1]
    assert kept_rows(tmp_path, rows) == [1, 4]
    assert kept_rows(tmp_path, item("d/0", BLIND, hardness="easy")) == [0]  # nothing else there


def test_so_does_an_item_that_every_scored_sample_solves(tmp_path):
    rows = item("d/0", WEIGHED, FAULT, SEEN, UNJUDGED, BLIND, hardness="extra")
    assert kept_rows(tmp_path, rows, short_from=0) == [4, 2]
    assert kept_rows(tmp_path, rows) == [2, 0]


def test_where_an_easy_item_has_only_long_ones_they_stand_in(tmp_path):
    rows = item("d/0", MISSED, MENDED, LOOKED_ON, hardness="easy")
    assert kept_rows(tmp_path, rows, short_up_to=1) == [1, 2]  # 2 and 4 interactions
    assert kept_rows(tmp_path, rows, short_up_to=1, max_short=1) == [1]


def test_any_other_item_keeps_long_ones_in_the_order_of_attempts(tmp_path):
    rows = item("d/0", LOOKED_ON, BLIND, SEEN, MISSED, WEIGHED, MENDED)
    assert kept_rows(tmp_path, rows) == [0, 4, 5]


def test_where_it_has_only_short_ones_they_stand_in(tmp_path):
    assert kept_rows(tmp_path, item("d/0", JUDGED, MISSED, BLIND, BLIND)) == [0, 2]


def test_an_unsolved_item_keeps_nothing(tmp_path):
    assert kept_rows(tmp_path, item("d/0", MISSED, LOOSELY, FAULT)) == []


def test_of_identical_ones_the_shorter_or_the_earlier_stays(tmp_path):
    easy = [stored("d/0", SEEN, hardness="easy", num_tokens=tokens) for tokens in (30, 10, 20)]
    assert kept_rows(tmp_path, easy) == [1]
    hard = [stored("d/0", MENDED, num_tokens=tokens) for tokens in (30, 10, 20)]
    assert kept_rows(tmp_path, [*hard, *item("d/0", MISSED)]) == [0]


def test_near_duplicates_differ_in_literals_only(tmp_path):
    # Another literal, the same tree and the same actions; then another first query.
    other = replace(MENDED, proposals=(Query(SHOUTED.replace("PARIS", "ROME")), Query(NAMES)))
    rows = item("d/0", MENDED, other, REBUILT, MISSED)
    assert kept_rows(tmp_path, rows) == [0, 2]


class Planes:
    """An embedder by table: the angle of an outline, in degrees, by its first proposal."""

    def __init__(self, degrees: dict[str, float]) -> None:
        self._degrees = degrees

    def __call__(self, outlines: Sequence[Outline], /):
        angles = np.radians([self._degrees[outline.proposals[0]] for outline in outlines])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1) * 7


def test_one_of_each_cluster_is_kept(tmp_path):
    # 0 and 4 are the same (cos 4 = 0.9976), so 4 goes. 0, 20 and 35 are one cluster, whose medoid
    # is 20; 90 and 110 another, whose members tie, so the earlier attempt stays; 180 is alone.
    angles = [110, 0, 4, 20, 90, 35, 180]
    embedder = Planes({f"SELECT {angle}": angle for angle in angles})
    rows = item(
        "d/0",
        MISSED,
        *(replace(MENDED, proposals=(Query(f"SELECT {one}"), Query(NAMES))) for one in angles),
    )
    write_trajectories(tmp_path / "0.parquet", rows)
    selection = select(tmp_path, SelectionConfig(), embedder=embedder)
    assert [kept.row for kept in selection.items[0].kept] == [1, 4, 7]
    assert selection.items[0].num_distinct == 6


# Likeness.


def test_cosines_are_whole_millionths():
    vectors = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert cosines(vectors).tolist() == [
        [1_000_000, 600_000, 0],
        [600_000, 1_000_000, 0],
        [0, 0, 1_000_000],
    ]


PARTS = np.array([[100, 90, 50, 10], [90, 100, 60, 20], [50, 60, 100, 30], [10, 20, 30, 100]])


@pytest.mark.parametrize(
    ("num_clusters", "expected"),
    [
        (4, [[0], [1], [2], [3]]),
        (3, [[0, 1], [2], [3]]),
        (2, [[0, 1, 2], [3]]),  # 01-2 has 55 and 2-3 has 30
        (1, [[0, 1, 2, 3]]),
        (9, [[0], [1], [2], [3]]),
    ],
)
def test_average_linkage(num_clusters, expected):
    assert clusters(PARTS, num_clusters) == expected


def test_average_linkage_is_neither_single_nor_complete():
    # 0 and 1 are joined. Then 01-2 has a mean of 65, highest 90 and lowest 40; 2-3 has 70.
    likeness = np.array([[100, 95, 90, 0], [95, 100, 40, 0], [90, 40, 100, 70], [0, 0, 70, 100]])
    assert clusters(likeness, 2) == [[0, 1], [2, 3]]


def test_ties_go_to_the_first():
    likeness = np.full((4, 4), 50) + 50 * np.eye(4, dtype=int)
    assert clusters(likeness, 2) == [[0, 1, 2], [3]]
    assert medoid(likeness, [1, 2, 3]) == 1
    assert medoid(PARTS, [0, 1, 2]) == 1  # 190 + 50, 190 + 60, 210


def test_distinct_compares_with_those_that_stay():
    likeness = np.array([[100, 98, 90], [98, 100, 98], [90, 98, 100]]) * 10_000
    assert distinct(likeness, 0.98) == [0, 2]
    assert distinct(likeness, 0.99) == [0, 1, 2]


def test_features_of_a_statement():
    assert sql_features("SELECT Name FROM shop ORDER BY id DESC") == [
        "select",
        "column:name", "select>column:name",
        "from", "select>from",
        "order", "select>order",
        "table:shop", "from>table:shop",
        "ordered", "order>ordered", "ordered.desc=true",
        "column:id", "ordered>column:id",
    ]  # fmt: skip


def test_what_cannot_be_parsed_counts_by_its_words():
    assert sql_features("SELECT FROM WHERE") == [
        "word:select", "word:from", "word:where", "select from", "from where",
    ]  # fmt: skip
    assert sql_features("(" * 5000)[0] == "word:("


def alike(one: Outline, other: Outline) -> float:
    return cosines(FeatureEmbedder()([one, other]))[0, 1] / 1e6


def test_likeness_by_features():
    def of(*proposals: str, actions: tuple[str, ...] = ("propose", "answer")) -> Outline:
        return Outline(actions=actions, proposals=proposals)

    assert alike(of(NAMES), of(SHOUTED + ";")) == 1
    assert alike(of("SELECT \"a'b\", 'x' FROM t"), of("SELECT \"a'b\", 'it''s' FROM t")) == 1
    # Actions and SQL weigh the same: with nothing alike in one of them, half remains.
    assert alike(of("SELECT 1"), of("nothing alike (")) == pytest.approx(0.5, abs=0.01)
    assert 0.5 < alike(of(NAMES), of(NAMES, actions=("propose", "execute:ok", "answer"))) < 0.9
    assert alike(of(NAMES), of("SELECT city FROM shop")) > alike(of(NAMES), of("SELECT 1"))


def test_features_are_whole_numbers_so_that_sums_are_exact():
    vectors = FeatureEmbedder()([Outline(actions=("propose", "answer"), proposals=(NAMES,))])
    assert np.array_equal(vectors, np.rint(vectors))
    assert np.linalg.norm(vectors[0, :256]) == pytest.approx(4096, rel=1e-3)
    assert np.linalg.norm(vectors[0, 256:]) == pytest.approx(4096, rel=1e-3)


# The whole.


def write_round(folder: Path) -> None:
    """Three items in two files."""
    easy = item("e/0", SEEN, BLIND, MISSED, SEEN, hardness="easy")
    hard = item("h/0", MISSED, MENDED, REBUILT, FAULT, LOOKED_ON, hardness="hard")
    lost = item("h/1", MISSED, UNJUDGED, hardness="hard")
    write_trajectories(folder / "00001.parquet", [*easy, *lost])
    write_trajectories(folder / "00000.parquet", hard)


def test_the_figures_of_a_round(tmp_path):
    write_round(tmp_path)
    calls: list[tuple[int, int]] = []
    selection = select(
        tmp_path,
        SelectionConfig(short_from=0),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(1, 2), (2, 2)]
    assert [one.turn_id for one in selection.items] == ["e/0", "h/0", "h/1"]
    assert [one.rule for one in selection.items] == ["short", "long", None]
    assert selection.items[0].kept == (
        KeptRow(file="00001.parquet", row=1), KeptRow(file="00001.parquet", row=0),
    )  # fmt: skip
    assert selection.pass_rates() == {"e/0": 3 / 4, "h/0": 3 / 4, "h/1": 0.0}
    assert selection.solved() == {"e/0", "h/0"}
    figures = selection.figures
    assert figures.coverage == Coverage(num_items=3, num_solved=2)
    assert figures.coverage_by_hardness == {
        "easy": Coverage(num_items=1, num_solved=1), "hard": Coverage(num_items=2, num_solved=1),
    }  # fmt: skip
    assert figures.coverage_by_hardness["hard"].share == 0.5
    assert figures.funnel == Funnel(
        num_samples=11, num_unscored=2, num_valid=6, num_preferred=6, num_duplicates=1, num_kept=5
    )
    assert figures.share_valid == 6 / 9
    # Kept: BLIND, SEEN, MENDED, REBUILT, LOOKED_ON with 2, 3, 5, 5, 7 steps.
    assert figures.kept.num_trajectories == 5
    assert figures.kept.mean_steps == 22 / 5
    assert figures.kept.mean_interactions == (0 + 1 + 2 + 2 + 4) / 5
    assert figures.kept.mean_tokens == 3 * 22 / 5
    assert figures.kept.share_correcting == 2 / 5
    # Scored: those five, SEEN again and MISSED three times.
    assert figures.scored.num_trajectories == 9
    assert figures.scored.mean_steps == (22 + 3 + 3 * 2) / 9
    assert figures.scored.share_correcting == 2 / 9


def test_nothing_scored_has_no_rates(tmp_path):
    write_trajectories(tmp_path / "0.parquet", item("d/0", FAULT, FAULT))
    selection = select(tmp_path, SelectionConfig())
    assert selection.pass_rates() == {}
    assert selection.figures.share_valid is None
    assert selection.figures.kept.mean_steps is None
    write_trajectories(tmp_path / "0.parquet", [])
    assert select(tmp_path, SelectionConfig()).figures.coverage.share is None


def test_a_selection_is_written_and_read_back(tmp_path):
    write_round(tmp_path)
    selection = select(tmp_path, SelectionConfig(short_from=0))
    path = selection.write(tmp_path / "selection.json")
    assert read_selection(path) == selection
    assert json.loads(path.read_text())["figures"]["funnel"]["num_kept"] == 5
    path.write_text('{"config": {}}')
    with pytest.raises(DataError, match=r"selection\.json: key 'figures'"):
        read_selection(path)
    with pytest.raises(DataError, match="no such file"):
        read_selection(tmp_path / "nothing.json")


def test_only_the_kept_rows_are_loaded(tmp_path):
    write_round(tmp_path)
    selection = select(tmp_path, SelectionConfig(short_from=0))
    hard, rest = (read_trajectories(tmp_path / f"0000{number}.parquet") for number in (0, 1))
    assert load_selected(tmp_path, selection) == [rest[1], rest[0], hard[1], hard[2], hard[4]]


def test_rows_are_read_by_number(tmp_path):
    path = tmp_path / "0.parquet"
    rows = item("d/0", SEEN, BLIND, MENDED)
    write_trajectories(path, rows)
    assert read_rows(path, [2, 0]) == [rows[2], rows[0]]
    assert read_rows(path, []) == []
    with pytest.raises(DataError, match="3 rows; there is no row 3"):
        read_rows(path, [0, 3])
    with pytest.raises(DataError, match="no such file"):
        read_rows(tmp_path / "1.parquet", [0])


# Reproducible.


def chosen_outlines(folder: Path) -> dict[str, list[Trajectory]]:
    selection = select(folder, SelectionConfig())
    rows = iter(load_selected(folder, selection))
    return {one.turn_id: [next(rows).trajectory for _ in one.kept] for one in selection.items}


def test_the_order_and_the_cut_of_files_do_not_matter(tmp_path):
    write_round(tmp_path / "a")
    rows = [row for name in ("00001", "00000") for row in read_trajectories(
        tmp_path / "a" / f"{name}.parquet"
    )]  # fmt: skip
    write_trajectories(tmp_path / "b" / "all.parquet", rows)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "c" / "00000.parquet").rename(tmp_path / "c" / "9.parquet")
    first = chosen_outlines(tmp_path / "a")
    assert chosen_outlines(tmp_path / "b") == first
    assert chosen_outlines(tmp_path / "c") == first


def test_threads_and_processes_choose_the_same(tmp_path):
    for number in range(8):
        shuffled = np.random.default_rng(number).permutation(len(KINDS))
        rows = item(f"d{number}/0", *(KINDS[at] for at in shuffled))
        write_trajectories(tmp_path / f"{number}.parquet", rows)
    first = select(tmp_path, SelectionConfig()).model_dump_json()
    with ThreadPoolExecutor(4) as threads:
        others = list(threads.map(lambda _: select(tmp_path, SelectionConfig()), range(4)))
    assert {other.model_dump_json() for other in others} == {first}
    program = (
        "import sys; from pathlib import Path; from mtsql.selftaught.selection import select;"
        "from mtsql.config.learning import SelectionConfig;"
        "print(select(Path(sys.argv[1]), SelectionConfig()).model_dump_json())"
    )
    for threads_of_blas, seed in (("1", "1"), ("2", "2")):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            env={
                "PYTHONPATH": ":".join(sys.path),
                "OPENBLAS_NUM_THREADS": threads_of_blas,
                "PYTHONHASHSEED": seed,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == first


ATTEMPTS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=20)
CONFIGS = st.builds(
    SelectionConfig,
    max_short=st.integers(1, 3),
    short_up_to=st.integers(0, 4),
    max_long=st.integers(1, 4),
    long_from=st.integers(0, 4),
    same_from=st.floats(0.1, 1),
)


@settings(max_examples=30)
@given(attempts=ATTEMPTS, hardness=st.sampled_from(["easy", "extra"]), config=CONFIGS)
def test_only_valid_ones_stay_and_never_too_many(attempts, hardness, config):
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_trajectories(folder / "0.parquet", item("d/0", *attempts, hardness=hardness))
        selection = select(folder, config)
        kept = [one.trajectory for one in load_selected(folder, selection)]
    (only,) = selection.items
    assert all(one.judgements[-1] == RIGHT for one in kept)
    assert len(set(only.kept)) == len(only.kept)
    assert len(kept) <= (config.max_short if only.rule == "short" else config.max_long)
    assert bool(kept) == only.is_solved == any(one.num_valid for one in selection.items)
    assert only.num_valid >= only.num_preferred >= only.num_distinct >= len(kept)


@settings(max_examples=20)
@given(
    attempts=ATTEMPTS,
    fault=st.sampled_from([FAULT, UNJUDGED]),
    at=st.integers(0, 20),
    hardness=st.sampled_from(["easy", "extra"]),
)
def test_a_fault_changes_nothing(attempts, fault, at, hardness):
    broken = [*attempts[:at], fault, *attempts[at:]]
    with TemporaryDirectory() as name:
        for folder, played in ((Path(name) / "a", attempts), (Path(name) / "b", broken)):
            write_trajectories(folder / "0.parquet", item("d/0", *played, hardness=hardness))
        one, other = (select(Path(name) / part, SelectionConfig()) for part in "ab")
        assert [row.trajectory for row in load_selected(Path(name) / "a", one)] == [
            row.trajectory for row in load_selected(Path(name) / "b", other)
        ]
    assert one.pass_rates() == other.pass_rates()
    assert one.figures.kept == other.figures.kept
    assert one.figures.scored == other.figures.scored


# A replay of scripts.


def test_a_replay_draws_from_scripts_that_looked_and_were_right(tmp_path):
    folder = tmp_path / "warm_start"
    rows = item("d/0", BLIND, SEEN, MISSED, FAULT, MENDED, LOOSELY, JUDGED)
    write_trajectories(folder / "scripted.parquet", rows)
    (folder / "rows.parquet").write_text("not of this kind")
    samples = read_samples(folder / "scripted.parquet")
    assert [one.row for one in samples if one.is_valid] == [0, 1, 4, 6]
    assert [one.num_interactions for one in samples if one.is_valid] == [0, 1, 2, 1]

    def drawn(number: int, num_drawn: int, **selection: int) -> list[Attempt]:
        plain: dict[str, object] = {"name": "hand", "model": {"tiny": {}}}
        plain["selftaught"] = {"selection": selection}
        plain["environment"] = {"max_prompt_tokens": 500, "max_response_tokens": 500}
        config = RunConfig.model_validate(plain)
        context = StageContext(config=config, device="cpu", run=RunFolder(tmp_path))
        return replayed(context, number, num_drawn)

    assert drawn(1, 9) == [rows[1], rows[4], rows[6]]
    assert drawn(1, 9, short_from=0) == [rows[0], rows[1], rows[4], rows[6]]
    assert drawn(1, 9, short_from=2, short_up_to=2) == [rows[4]]
    assert drawn(1, 0) == []
    twos = [drawn(number, 2) for number in range(1, 20)]
    assert {len(two) for two in twos} == {2}
    assert drawn(1, 2) == twos[0]
    assert any(two != twos[0] for two in twos)
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read as trajectories"):
        read_samples(folder / "rows.parquet")
