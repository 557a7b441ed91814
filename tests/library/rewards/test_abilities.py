"""Ability metrics, counted by hand."""

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
from mtsql.rewards.abilities import ability_metrics
from mtsql.trajectory.records import Ending


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
        trajectory_of(ending=Ending.INFRA_FAULT, judgements=()),
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
