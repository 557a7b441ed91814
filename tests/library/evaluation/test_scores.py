"""Shares, intervals and gains, with numbers to redo by hand."""

from dataclasses import replace

import pytest

from mtsql.dialogue import Hardness
from mtsql.evaluation.scores import (
    ScoredTurn,
    Share,
    bootstrap_ci,
    paired_gain,
    summarise,
    summarise_splits,
)


def turn(
    dialogue_id: str,
    turn_index: int,
    ex: bool | None,
    em: bool | None = False,
    *,
    hardness: Hardness = "easy",
    status="ok",
    split="test",
) -> ScoredTurn:
    return ScoredTurn(
        dialogue_id=dialogue_id,
        turn_index=turn_index,
        hardness=hardness,
        ex=ex,
        em=em,
        status=status,
        split=split,
    )


def share(num_matching: int, num_judged: int, num_unjudged: int = 0) -> Share:
    return Share(
        share=num_matching / num_judged if num_judged else None,
        num_judged=num_judged,
        num_unjudged=num_unjudged,
    )


ROWS = [
    turn("a", 0, True, True),
    turn("a", 1, True, False, hardness="medium"),
    turn("b", 0, True, True),
    turn("b", 1, False, None, hardness="hard", status="error"),
    turn("c", 0, True, True),
    turn("c", 1, None, False, hardness="hard", status="infra_fault"),
]


def test_question_match_leaves_out_what_was_not_judged() -> None:
    scores = summarise(ROWS)
    assert (scores.num_dialogues, scores.num_turns) == (3, 6)
    assert scores.ex.question_match == share(4, 5, 1)  # all but b/1 match, c/1 is unjudged
    assert scores.em.question_match == share(3, 5, 1)
    assert scores.statuses == {"error": 1, "infra_fault": 1, "ok": 4}


def test_interaction_match_needs_every_turn() -> None:
    scores = summarise(ROWS)
    assert scores.ex.interaction_match == share(1, 2, 1)  # a matches, b does not, c is unjudged
    assert scores.em.interaction_match == share(0, 2, 1)  # b is unjudged under EM


def test_shares_by_what_training_has_seen() -> None:
    shares = (0.0, 0.25, 0.5, 1.0, 1.0, None)
    rows = [replace(row, seen=seen) for row, seen in zip(ROWS, shares, strict=True)]
    assert summarise(rows).ex.by_seen == {
        "none": share(1, 1),
        "below half": share(1, 1),
        "half or more": share(1, 1),
        "all": share(1, 2),
    }
    assert summarise(ROWS).ex.by_seen == {}


def test_shares_by_hardness_and_by_turn() -> None:
    scores = summarise(ROWS)
    assert dict(scores.ex.by_hardness) == {
        "easy": share(3, 3),
        "medium": share(1, 1),
        "hard": share(0, 1, 1),
        "extra": share(0, 0),
    }
    assert dict(scores.ex.by_turn) == {
        "1": share(3, 3),
        "2": share(1, 2, 1),
        "3": share(0, 0),
        "4": share(0, 0),
        ">4": share(0, 0),
    }


def test_the_fifth_turn_and_later_ones_share_a_label() -> None:
    by_turn = summarise([turn("a", index, index != 5) for index in range(7)]).ex.by_turn
    assert by_turn["4"] == share(1, 1)
    assert by_turn[">4"] == share(2, 3)


def test_nothing_to_score_is_no_share() -> None:
    scores = summarise([])
    assert scores.ex.question_match == share(0, 0)
    assert scores.ex.interaction_match == share(0, 0)


def test_a_turn_counts_once() -> None:
    with pytest.raises(ValueError, match=r"dialogue 'a' turn 0 is scored 2 times"):
        summarise([turn("a", 0, True), turn("a", 0, False)])


def test_splits_are_scored_apart() -> None:
    rows = [turn("a", 0, True, split="train"), turn("b", 0, False, split="test")]
    scores = summarise_splits(rows)
    assert list(scores) == ["test", "train"]
    assert scores["test"].ex.question_match == share(0, 1)
    assert scores["train"].ex.question_match == share(1, 1)


def interval(values_by_dialogue: dict[str, list[float]]) -> tuple[float, float]:
    found = bootstrap_ci(values_by_dialogue)
    assert found is not None
    return found


def test_equal_dialogues_have_no_spread() -> None:
    assert bootstrap_ci({"a": [1.0, 0.0], "b": [0.0, 1.0]}) == (0.5, 0.5)


def test_one_of_two_dialogues_right_spans_everything() -> None:
    # A sample draws two of two: 0 with chance 1/4, 1 with chance 1/4, both far over 2.5 %.
    assert bootstrap_ci({"a": [1.0], "b": [0.0]}) == (0.0, 1.0)


def test_the_interval_agrees_with_the_binomial() -> None:
    # 400 dialogues of one turn, half right: standard error 0.5 / 20 = 0.025, so 0.5 -/+ 0.049.
    low, high = interval({str(number): [float(number % 2)] for number in range(400)})
    assert low == pytest.approx(0.451, abs=0.006)
    assert high == pytest.approx(0.549, abs=0.006)


def test_dialogues_are_resampled_whole() -> None:
    # 100 dialogues of 4 equal turns carry the information of 100 turns, not of 400:
    # standard error 0.5 / 10 = 0.05, so 0.5 -/+ 0.098.
    low, high = interval({str(number): [float(number % 2)] * 4 for number in range(100)})
    assert high - low == pytest.approx(0.196, abs=0.02)


def test_the_interval_depends_on_the_seed_alone() -> None:
    values = {str(number): [float(number % 3 == 0)] * (1 + number % 4) for number in range(30)}
    assert bootstrap_ci(values, seed=1) == bootstrap_ci(dict(reversed(values.items())), seed=1)
    assert bootstrap_ci(values, seed=1) != bootstrap_ci(values, seed=2)


def test_no_values_give_no_interval() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap_ci({"a": []})


def test_one_dialogue_has_no_interval() -> None:
    assert bootstrap_ci({"a": [1.0, 0.0, 1.0], "b": []}) is None
    scores = summarise([turn("a", 0, True), turn("a", 1, False), turn("b", 0, None)])
    assert scores.ex.question_match == share(1, 2, 1)
    assert scores.ex.question_match.ci95 is None
    assert scores.em.question_match.ci95 == (0.0, 0.0)  # b is judged there
    gain = paired_gain([turn("a", 0, False)], [turn("a", 0, True)])
    assert (gain.gain, gain.ci95) == (1.0, None)


def test_all_wrong_to_all_right_is_a_gain_of_one() -> None:
    base = [turn("a", 0, False), turn("a", 1, False), turn("b", 0, False)]
    new = [turn("a", 0, True), turn("a", 1, True), turn("b", 0, True)]
    gain = paired_gain(base, new)
    assert (gain.gain, gain.ci95) == (1.0, (1.0, 1.0))
    assert (gain.num_dialogues, gain.num_turns, gain.num_unjudged) == (2, 3, 0)
    back = paired_gain(new, base)
    assert (back.gain, back.ci95) == (-1.0, (-1.0, -1.0))


def test_a_run_has_no_gain_over_itself() -> None:
    gain = paired_gain(ROWS, ROWS, metric="em")
    assert (gain.gain, gain.ci95) == (0.0, (0.0, 0.0))
    assert (gain.num_turns, gain.num_unjudged) == (5, 1)


def test_the_pairing_takes_out_what_both_runs_share() -> None:
    # Half of the dialogues are right in both runs: paired, that is no noise at all.
    base = [turn(str(number), 0, number % 2 == 0) for number in range(40)]
    extra = [turn(f"x{number}", 0, False) for number in range(40)]
    better = [turn(f"x{number}", 0, True) for number in range(40)]
    gain = paired_gain(base + extra, base + better)
    # 40 of 80 improve by 1; standard error 0.5 / sqrt(80) = 0.056, so 0.5 -/+ 0.11.
    assert gain.gain == 0.5
    assert gain.ci95 is not None
    assert gain.ci95[0] == pytest.approx(0.39, abs=0.02)
    assert gain.ci95[1] == pytest.approx(0.61, abs=0.02)


def test_unjudged_turns_are_left_out_in_pairs() -> None:
    base = [turn("a", 0, None), turn("a", 1, False), turn("b", 0, True)]
    new = [turn("a", 0, True), turn("a", 1, True), turn("b", 0, None)]
    gain = paired_gain(base, new)
    assert (gain.gain, gain.num_dialogues, gain.num_turns, gain.num_unjudged) == (1.0, 1, 1, 2)


def test_runs_on_different_turns_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"1 turns are in one run only, first 'b' turn 0"):
        paired_gain([turn("a", 0, True)], [turn("a", 0, True), turn("b", 0, True)])


def test_no_turn_judged_in_both_runs() -> None:
    with pytest.raises(ValueError, match="no turn is judged in both"):
        paired_gain([turn("a", 0, None)], [turn("a", 0, True)])
