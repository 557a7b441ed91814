"""What scores are worth, on numbers that are redone by hand."""

import pytest

from mtsql.prm.calibration import calibrated
from mtsql.prm.evaluation import Scored, evaluate
from mtsql.prm.form import FormNote, TextForm, logistic, step_text
from mtsql.prm.labels import Labelled, StepLabel
from mtsql.prm.metrics import (
    AGGREGATE,
    auc,
    best,
    calibration_error,
    first_bad,
    interval,
    is_min_last,
    majority,
)
from mtsql.prm.targets import Target, balanced, targets_of
from mtsql.trajectory.tokens import TokenSequence


def test_auc_counts_pairs_and_halves_ties() -> None:
    # good .9 and .4, bad .4 and .1: of four pairs .9 wins two, .4 ties one and wins one
    assert auc([0.9, 0.4, 0.4, 0.1], [True, True, False, False]) == 3.5 / 4
    assert auc([0.1, 0.9], [True, True]) is None


def test_the_calibration_error_is_that_of_the_bins() -> None:
    # bin 0: scores .05 and .05, values 0 and 1: |.1 - 1| = .9; bin 9: 1.0 and .95, values 1: .05
    assert calibration_error([0.05, 0.05, 1.0, 0.95], [0, 1, 1, 1]) == pytest.approx(0.95 / 4)
    assert calibration_error([], []) is None


def test_the_first_bad_step_passes_what_is_unknown() -> None:
    assert first_bad([0.9, None, 0.4, 0.1]) == 2
    assert first_bad([0.5, None]) is None


def test_the_lowest_score_may_stand_last() -> None:
    assert is_min_last([0.9, 0.2])
    assert not is_min_last([0.2, 0.9, 0.2])


def test_candidates_are_chosen_in_order() -> None:
    assert best([0.2, 0.9, 0.9]) == 1
    assert best([None, 0.0]) == 1
    assert best([None, None]) == 0
    assert majority(["a", "b", None, "b"]) == 1
    assert majority(["a", "b", "b", "a"]) == 0
    assert majority([None, None]) == 0


def test_scores_of_steps_become_one() -> None:
    scores = [0.5, 0.25, 1.0]
    assert {name: whole(scores) for name, whole in AGGREGATE.items()} == {
        "min": 0.25,
        "last": 1.0,
        "mean": 1.75 / 3,
        "product": 0.125,
    }


def test_an_interval_draws_whole_dialogues() -> None:
    assert interval([1.0, 1.0, 1.0], ["a", "b", "b"]) == (1.0, 1.0)
    assert interval([], []) is None
    # one dialogue is all right, the other all wrong: samples hold one of them or both
    assert interval([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]) == (0.0, 1.0)


def test_calibration_finds_scale_and_shift() -> None:
    # Labels that are logistic((margin - 1) / 2) exactly: temperature 2, shift -1.
    margins = [-4.0, -2.0, 0.0, 1.0, 3.0, 6.0]
    values = [logistic((margin - 1) / 2) for margin in margins]
    temperature, shift = calibrated(margins, values, [100.0] * 6)
    assert (temperature, shift) == pytest.approx((2.0, -1.0), abs=1e-3)
    note = FormNote(
        form=TextForm(step=50, good=51, bad=52),
        scores="steps",
        temperature=temperature,
        shift=shift,
        max_tokens=9,
    )
    assert note.score(3.0) == pytest.approx(values[4], abs=1e-4)


def test_margins_that_say_the_opposite_say_nothing() -> None:
    temperature, _ = calibrated([-1.0, 1.0], [1.0, 0.0], [1.0, 1.0])
    assert temperature == pytest.approx(1000)
    assert calibrated([], [], []) == (1.0, 0.0)


def label(value: float, confidence: float = 1.0) -> tuple[StepLabel, ...]:
    return (StepLabel(source="rule", value=value, confidence=confidence),)


TOKENS = TokenSequence(
    prompt_ids=(1, 2), response_ids=(7, 8, 4, 9), response_mask=(1, 1, 0, 1), step_ends=(1, 3)
)
FORM = TextForm(step=50, good=51, bad=52)


def test_a_target_is_the_label_that_counts_at_its_mark() -> None:
    text = step_text(TOKENS, FORM)
    labelled = Labelled(is_right=False, steps=(label(0.7, 0.8), label(0.0)))
    assert targets_of(text, labelled, outcome=False) == [
        Target(position=5, value=0.7, weight=0.8),
        Target(position=7, value=0.0, weight=1.0),
    ]
    assert targets_of(text, labelled, outcome=True) == [Target(position=7, value=0.0, weight=1.0)]


def test_a_cut_or_unlabelled_step_has_no_target() -> None:
    text = step_text(TOKENS, FORM, max_tokens=6)
    labelled = Labelled(is_right=True, steps=((), label(1.0)))
    assert targets_of(text, labelled, outcome=False) == []
    assert targets_of(text, labelled, outcome=True) == []


def test_good_and_bad_weigh_the_same() -> None:
    one, zero = (Target(position=5, value=value, weight=1.0) for value in (1.0, 0.0))
    assert balanced([[one, zero], [zero]]) == [[(1.5, 0.0), (0.0, 0.75)], [(0.0, 0.75)]]
    with pytest.raises(ValueError, match="no good label among 1 steps"):
        balanced([[zero]])
    with pytest.raises(ValueError, match="no bad label among 1 steps"):
        balanced([[one]])


def candidate(turn: str, *scores: float, right: bool, orm: float, answer: str | None) -> Scored:
    """Two steps: a proposal as good as the end, then the answer."""
    return Scored(
        group=turn,
        turn_id=turn,
        dialogue_id=turn[0],
        split="test",
        dialect="actions",
        hardness="easy",
        labelled=Labelled(is_right=right, steps=(label(right),) * 2),
        scores=scores,
        outcome_score=orm,
        answer=answer,
    )


def test_the_figures_of_two_turns_with_two_candidates() -> None:
    scored = [
        candidate("a/0", 0.9, 0.8, right=True, orm=0.4, answer="x"),
        candidate("a/0", 0.3, 0.2, right=False, orm=0.6, answer="y"),
        candidate("b/0", 0.6, 0.1, right=False, orm=0.1, answer=None),
        candidate("b/0", 0.2, 0.7, right=True, orm=0.3, answer="x"),
    ]
    found = evaluate(
        scored,
        aggregation="last",
        digests=True,
        greedy={("test", "a/0"): False, ("test", "b/0"): True},
    )
    # good steps score .9 .8 .2 .7, bad ones .3 .2 .6 .1: of 16 pairs 13 are right, one is a tie
    assert found.step_auc == pytest.approx(13.5 / 16)
    # of the two wrong ones the first error of the first is found; .6 hides the second's
    assert found.first_error == 0.5
    # the second right one is suspected at its first step
    assert found.no_error == 0.5
    assert found.share_min_on_last == 3 / 4
    two = found.best_of["2"]
    assert (two.num_turns, two.prm, two.orm, two.majority) == (2, 1.0, 0.5, 1.0)
    # turn b has one answer that runs, and it is right
    assert (two.greedy, two.random, two.passed) == (0.5, 0.75, 1.0)
    assert two.by_aggregation == {"min": 1.0, "last": 1.0, "mean": 1.0, "product": 1.0}
    assert two.intervals["orm"] == (0.0, 1.0)
    # the first candidate of each turn
    assert found.best_of["1"].prm == 0.5
    assert list(found.by_split) == ["test"]
    assert found.by_split["test"].step_auc == found.step_auc
    assert '"pass":1.0' in found.model_dump_json()


def test_what_was_not_judged_or_is_not_confident_counts_nowhere() -> None:
    unjudged = candidate("a/0", 0.9, 0.8, right=True, orm=0.4, answer="x")
    weak = Labelled(is_right=True, steps=(label(1.0, 0.5), label(1.0)))
    found = evaluate(
        [
            Scored(
                **{
                    name: getattr(unjudged, name)
                    for name in Scored.__dataclass_fields__
                    if name != "labelled"
                },
                labelled=labelled,
            )
            for labelled in (Labelled(is_right=None, steps=()), weak)
        ],
        aggregation="min",
        digests=True,
        greedy={},
    )
    assert (found.num_trajectories, found.num_steps, found.step_auc) == (1, 1, None)
