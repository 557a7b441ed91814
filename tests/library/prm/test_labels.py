"""Labels of steps from stored groups, by rule, and in files; each number redone by hand."""

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers.steps import LOOSE, RIGHT, WRONG, answered, corrected, proposed, trajectory_of
from mtsql.chains.chain import Chain, View
from mtsql.data.reflect import reflect
from mtsql.errors import DataError
from mtsql.evaluation.records import Judgement
from mtsql.prm.agreement import facts_of
from mtsql.prm.certified import Certifier, holds_elsewhere
from mtsql.prm.groups import group_labels
from mtsql.prm.labels import Labelled, StepLabel, chosen, counted
from mtsql.prm.store import LabelledFile, digest_of, read_labels, write_labels
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Fault, FaultKind
from mtsql.trajectory.tokens import TokenSequence

LIMITS = QueryLimits()


def attempt_of(trajectory, ids, group="g", gold_sql="SELECT 0") -> Attempt:
    """Every id is a message of its own and has no reply."""
    return Attempt(
        trajectory=trajectory,
        tokens=TokenSequence(
            prompt_ids=(1,),
            response_ids=tuple(ids),
            response_mask=(1,) * len(ids),
            step_ends=tuple(range(len(ids))),
        ),
        reward=None,
        label=Label(policy="rl", split="train", history_mode="gold"),
        group=group,
        dialogue_id="d",
        turn_index=0,
        db_id="shop",
        hardness=None,
        question="?",
        gold_sql=gold_sql,
    )


def ended(*, right: bool, num_steps: int):
    steps = [proposed() for _ in range(num_steps - 1)]
    return trajectory_of(*steps, answered(), judgements=(RIGHT if right else WRONG,))


def values(row: Labelled) -> list[float]:
    return [round(step[0].value, 3) for step in row.steps]


def test_trajectories_that_begin_alike_are_a_tree() -> None:
    # a b c right; a b d wrong; a e wrong. Root (1 + .5) / 4 = .375, a (1 + .375) / 4 = .344,
    # a b (1 + .344) / 3 = .448; the ends are known.
    rows = group_labels(
        [
            attempt_of(ended(right=True, num_steps=3), [10, 11, 12]),
            attempt_of(ended(right=False, num_steps=3), [10, 11, 13]),
            attempt_of(ended(right=False, num_steps=2), [10, 14]),
        ]
    )
    assert [values(row) for row in rows] == [[0.344, 0.448, 1.0], [0.344, 0.448, 0.0], [0.344, 0.0]]
    assert [one.source for step in rows[0].steps for one in step] == ["groups", "groups", "outcome"]
    # 3 trajectories pass a, 2 of them b
    assert [step[0].confidence for step in rows[0].steps] == [3 / 4, 2 / 3, 1.0]


def test_groups_do_not_mix() -> None:
    one = attempt_of(ended(right=True, num_steps=2), [10, 11])
    other = attempt_of(ended(right=False, num_steps=2), [10, 11], group="h")
    # alone in its group: root (1 + .5) / 2 = .75, step (1 + .75) / 2 = .875; or .25 and .125
    assert [values(row) for row in group_labels([one, other])] == [[0.875, 1.0], [0.125, 0.0]]


def test_a_fault_has_no_labels_and_counts_nowhere() -> None:
    fault = Fault(kind=FaultKind.SQL_POOL, message="gone")
    broken = replace(
        ended(right=False, num_steps=2), ending=Ending.INFRA_FAULT, fault=fault, judgements=()
    )
    rows = group_labels(
        [attempt_of(ended(right=True, num_steps=2), [10, 11]), attempt_of(broken, [10, 12])]
    )
    assert values(rows[0]) == [0.875, 1.0]
    assert rows[1] == Labelled(is_right=None, steps=())


def test_a_match_of_two_empty_results_is_half_certain() -> None:
    empty = replace(RIGHT, is_empty=True)
    trajectory = trajectory_of(proposed(), answered(), judgements=(empty,))
    [row] = group_labels([attempt_of(trajectory, [10, 11])])
    assert row.steps[-1] == (StepLabel(source="outcome", value=1.0, confidence=0.5),)


def test_a_share_is_smoothed_by_its_count() -> None:
    assert counted(3, 4, 0.5) == (0.7, 0.8)
    assert counted(0, 0, 0.5) == (0.5, 0.0)


def test_the_most_confident_source_counts_and_of_equals_the_rule() -> None:
    rule = StepLabel(source="rule", value=0.0, confidence=1.0)
    outcome = StepLabel(source="outcome", value=1.0, confidence=1.0)
    share = StepLabel(source="groups", value=0.6, confidence=0.8)
    assert chosen([share, outcome, rule]) is rule
    assert chosen([share]) is share
    assert chosen([]) is None


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(
            "CREATE TABLE shop (id INTEGER PRIMARY KEY, city TEXT, size INTEGER);"
            "INSERT INTO shop VALUES (1, 'Paris', 3), (2, 'Paris', 5), (3, 'Rome', 9);"
        )
    return path


@pytest.mark.parametrize(
    ("sql", "holds"),
    [
        # the same rows by luck: no shop elsewhere is that small
        ("SELECT id FROM shop WHERE size < 6", False),
        # another way to say it
        ("SELECT id FROM shop WHERE NOT city <> 'Paris'", True),
        ("SELEC id", None),
    ],
)
def test_luck_is_told_on_changed_contents(shop: Path, sql: str, holds: bool | None) -> None:
    gold = "SELECT id FROM shop WHERE city = 'Paris'"

    async def told() -> bool | None:
        async with LocalPool({"shop": shop}, num_workers=1) as pool:
            schema = reflect("shop", shop)
            return await holds_elsewhere(pool, "shop", gold, sql, schema, LIMITS)

    assert asyncio.run(told()) is holds


def rules(shop: Path, *attempts: Attempt) -> list[list[float | None]]:
    async def told() -> list[list[float | None]]:
        async with LocalPool({"shop": shop}, num_workers=1) as pool:
            certifier = Certifier(pool, {"shop": reflect("shop", shop)}, LIMITS)
            return [
                [None if one is None else one.value for one in await certifier.labels(attempt)]
                for attempt in attempts
            ]

    return asyncio.run(told())


def test_proposals_are_certified_where_they_are_made_and_as_the_answer(shop: Path) -> None:
    gold = "SELECT id FROM shop WHERE city = 'Paris'"
    lucky = "SELECT id FROM shop WHERE size < 6"
    wrong = trajectory_of(
        proposed(0), corrected(1), answered(1), judgements=(WRONG, RIGHT), f1s=(0.5, 1.0)
    )
    by_luck = trajectory_of(
        proposed(0), answered(0), judgements=(LOOSE,), proposals=[lucky], f1s=(0.7,)
    )
    failed = Judgement(ex=None, em=None, status="gold_failed")
    unjudged = trajectory_of(proposed(0), answered(0), judgements=(failed,), f1s=(1.0,))
    assert rules(
        shop,
        attempt_of(wrong, [10, 11, 12], gold_sql=gold),
        attempt_of(by_luck, [10, 11], gold_sql=gold),
        attempt_of(unjudged, [10, 11], gold_sql=gold),
    ) == [[0.0, 1.0, 1.0], [0.0, 0.0], [None, None]]


@pytest.mark.parametrize(("city", "end", "told"), [("Paris", RIGHT, 1.0), ("Rome", WRONG, 0.0)])
def test_a_view_has_its_proven_truth(shop: Path, city: str, end: Judgement, told: float) -> None:
    gold = "SELECT count(*) FROM shop WHERE city = 'Paris'"
    here = View(name="here", sql=f"SELECT id FROM shop WHERE city = '{city}'")
    count = View(name="result", sql="SELECT count(*) FROM here")
    trajectory = trajectory_of(
        proposed(0),
        proposed(1),
        answered(1),
        judgements=(WRONG, end),
        proposals=[Chain((here,)), Chain((here, count))],
        f1s=(0.5, 0.9),
    )
    # The chain of one view gives another result than gold, and is no mistake for that.
    assert rules(shop, attempt_of(trajectory, [10, 11, 12], gold_sql=gold)) == [[told] * 3]


ROWS = [
    Labelled(
        is_right=True,
        steps=(
            (
                StepLabel(source="rule", value=1.0, confidence=1.0),
                StepLabel(source="groups", value=0.7, confidence=0.8),
            ),
            (),
        ),
    ),
    Labelled(is_right=None, steps=()),
]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    played = tmp_path / "played.parquet"
    played.write_bytes(b"trajectories")
    of = LabelledFile(trajectories=str(played), sha256=digest_of(played), dataset="d1")
    path = tmp_path / "labels" / "played.parquet"
    write_labels(path, ROWS, of)
    assert read_labels(path, dataset="d1") == (of, ROWS)
    assert [one.name for one in path.parent.iterdir()] == ["played.parquet"]


def test_labels_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    played = tmp_path / "played.parquet"
    played.write_bytes(b"trajectories")
    of = LabelledFile(trajectories=str(played), sha256=digest_of(played), dataset="d1")
    path = tmp_path / "labels.parquet"
    with pytest.raises(DataError, match="no such file; run `mtsql prm label"):
        read_labels(path, dataset="d1")
    write_labels(path, ROWS, of)
    with pytest.raises(DataError, match="labels of other data"):
        read_labels(path, dataset="d2")
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(DataError, match="damaged one"):
        read_labels(path, dataset="d1")
    path.write_bytes(whole)
    played.write_bytes(b"other trajectories")
    with pytest.raises(DataError, match="has changed since; make the labels again"):
        read_labels(path, dataset="d1")
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(DataError, match="not a file of labels"):
        read_labels(path, dataset="d1")


def test_the_sources_are_compared_two_by_two_where_both_are_confident() -> None:
    def step(rule: float, share: float, confidence: float = 0.9):
        return (
            StepLabel(source="rule", value=rule, confidence=1.0),
            StepLabel(source="groups", value=share, confidence=confidence),
        )

    rows = [
        Labelled(is_right=True, steps=(step(1, 0.9), step(1, 0.2), step(0, 0.1))),
        Labelled(is_right=False, steps=(step(0, 0.9, confidence=0.5), ())),
        Labelled(is_right=None, steps=()),
    ]
    facts = facts_of(rows)
    [pair] = facts.pairs
    assert (pair.both_good, pair.only_first_good, pair.both_bad, pair.num_steps) == (1, 1, 1, 3)
    assert pair.agreement == pytest.approx(2 / 3)
    assert (facts.num_trajectories, facts.num_judged, facts.num_steps) == (3, 2, 5)
    assert (facts.counted["rule"], facts.num_unlabelled) == (4, 1)
    assert facts.num_plain_rollouts == 40
