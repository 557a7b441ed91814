"""Ability metrics, counted by hand."""

from dataclasses import replace

import pytest

from helpers.steps import (
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
from mtsql.chains.chain import Chain, View
from mtsql.rewards.abilities import ability_metrics
from mtsql.trajectory.records import Ending, Fault, FaultKind


def test_abilities_are_shares_of_what_was_played():
    trajectories = [
        # executes, sees a wrong result, corrects it
        trajectory_of(
            proposed(0),
            executed(0),
            verified("fail", 0),
            corrected(1),
            executed(1),
            answered(1),
            judgements=(WRONG, RIGHT),
        ),
        trajectory_of(proposed(), answered(), judgements=(WRONG,)),  # blind
        trajectory_of(
            proposed(0), executed(0), corrected(1), answered(1), judgements=(RIGHT, WRONG)
        ),
        trajectory_of(
            proposed(), verified(None, target="memory"), executed(), verified("fail"), answered()
        ),
        replace(
            trajectory_of(judgements=()),
            ending=Ending.INFRA_FAULT,
            fault=Fault(kind=FaultKind.SQL_POOL, message="worker lost"),
        ),
    ]
    metrics = ability_metrics(trajectories)
    assert metrics == {
        "ending_answered": 4.0,
        "ending_max_steps": 0.0,
        "ending_max_tokens": 0.0,
        "ending_malformed": 0.0,
        "ending_infra_fault": 1.0,
        "executed": 0.75,
        "corrected": 0.5,
        "corrected_to_right": 1.0,
        "broken_by_correction": 0.25,
        "verified": 0.5,
        "verdict_right": 0.5,
        "verdict_missing": 0.0,
        "memory_verified": 0.25,
        "blind_answer": 0.5,  # the second, and the third, whose correction was never run
        "first_right": 0.5,
        "right": 0.5,
        "mended": 0.25,  # the first: wrong, then right
        "mean_steps": (6 + 2 + 4 + 5) / 4,
    }


def test_shares_without_a_base_are_left_out():
    metrics = ability_metrics([trajectory_of(proposed(), answered())])
    assert "corrected_to_right" not in metrics
    assert "verdict_right" not in metrics
    assert ability_metrics([]) == {f"ending_{ending}": 0.0 for ending in Ending}


def test_clauses_and_memory_verdicts_are_measured_where_gold_can_be_read():
    metrics = ability_metrics(
        [
            trajectory_of(
                proposed(0),
                looked(0),
                verified("fail", 0, target="memory"),  # coherence 0.5 and EX 0: right
                corrected(1),
                looked(1),
                verified("fail", 1, target="memory"),  # coherence 1: wrong
                answered(1),
                judgements=(WRONG, RIGHT),
                f1s=(0.5, 1.0),
            ),
            trajectory_of(proposed(), answered(), judgements=(WRONG,), f1s=(0.8,)),
            trajectory_of(proposed(), answered(), f1s=(None,)),
        ]
    )
    assert metrics["memory_verdict_right"] == 0.5
    assert metrics["parse_rate"] == 1.0
    assert metrics["first_f1"] == pytest.approx((0.5 + 0.8) / 2)
    assert metrics["final_f1"] == pytest.approx((1.0 + 0.8) / 2)
    assert metrics["improvement"] == 0.5
    assert metrics["coherence"] == pytest.approx((1.0 + 0.8) / 2)


HERE = View(name="here", sql="SELECT * FROM shop WHERE city = 'Paris'")
COUNTED = View(name="result", sql="SELECT count(*) FROM here")
WHOLE = Chain((HERE, COUNTED))
OF_FIRST_ANSWERS = ("first_right", "right", "mended", "corrected", "broken_by_correction")


def firsts_of(trajectory):
    metrics = ability_metrics([trajectory])
    return [metrics[name] for name in OF_FIRST_ANSWERS]


def test_a_chain_that_was_right_at_once_is_not_corrected():
    # The first of its views alone is no answer.
    steps = (proposed(0), executed(0), proposed(1), executed(1), answered(1))
    chained = trajectory_of(
        *steps, judgements=(WRONG, RIGHT), proposals=(WHOLE.prefix(1), WHOLE), f1s=(0.5, 1.0)
    )
    assert firsts_of(chained) == [1.0, 1.0, 0.0, 0.0, 0.0]
    metrics = ability_metrics([chained])
    assert metrics["first_f1"] == 1.0
    assert "improvement" not in metrics
    assert "corrected_to_right" not in metrics


def test_a_chain_whose_last_view_is_replaced_is_corrected():
    wrong = WHOLE.replace_last(View(name="result", sql="SELECT * FROM here"))
    steps = (proposed(0), proposed(1), executed(1), corrected(2), answered(2))
    mended = trajectory_of(
        *steps,
        judgements=(WRONG, WRONG, RIGHT),
        proposals=(WHOLE.prefix(1), wrong, WHOLE),
        f1s=(0.5, 0.75, 1.0),
    )
    assert firsts_of(mended) == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert ability_metrics([mended])["improvement"] == 0.25


@pytest.mark.parametrize("second", ["select 1 -- again", "SELECT  1 ;"])
def test_the_same_sql_again_is_no_correction_under_one_rule(second):
    again = trajectory_of(
        proposed(0), corrected(1), answered(1),
        judgements=(WRONG, WRONG), proposals=("SELECT 1", second), f1s=(0.5, 0.5),
    )  # fmt: skip
    assert firsts_of(again) == [0.0, 0.0, 0.0, 0.0, 0.0]
    assert "improvement" not in ability_metrics([again])


def test_other_sql_is_a_correction_whether_it_is_proposed_anew_or_corrected():
    for other in (proposed(1), corrected(1)):
        changed = trajectory_of(
            proposed(0), other, answered(1), judgements=(RIGHT, WRONG), f1s=(1.0, 0.5)
        )
        assert firsts_of(changed) == [1.0, 0.0, 0.0, 1.0, 1.0]
        assert ability_metrics([changed])["improvement"] == -0.5
