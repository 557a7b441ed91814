"""The text form of a process reward model, on ids that are counted by hand."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mtsql.prm.form import TextForm, step_text
from mtsql.trajectory.tokens import TokenSequence

FORM = TextForm(step=50, good=51, bad=52)
TOKENS = TokenSequence(
    prompt_ids=(1, 2), response_ids=(7, 8, 4, 9), response_mask=(1, 1, 0, 1), step_ends=(1, 3)
)
GOLDEN = Path(__file__).parent / "form_v1.json"


def test_each_step_is_closed_behind_its_reply() -> None:
    text = step_text(TOKENS, FORM)
    assert text.ids == (1, 2, 7, 8, 4, 50, 9, 50)
    assert text.positions == (5, 7)
    assert [text.ids[place] for place in (5, 7)] == [50, 50]


def test_without_digests_the_messages_stand_alone() -> None:
    text = step_text(TOKENS, FORM.model_copy(update={"digests": False}))
    assert (text.ids, text.positions) == ((1, 2, 7, 8, 50, 9, 50), (4, 6))


def test_a_sampled_mark_is_left_out_and_counted() -> None:
    # The model has written the mark (50) and a label (52) itself: no score may shift by it.
    tokens = TokenSequence(
        prompt_ids=(1, 2),
        response_ids=(7, 50, 52, 4, 9),
        response_mask=(1, 1, 1, 0, 1),
        step_ends=(2, 4),
    )
    text = step_text(tokens, FORM)
    assert (text.ids, text.positions) == ((1, 2, 7, 4, 50, 9, 50), (4, 6))
    assert text.num_reserved == 2


@pytest.mark.parametrize(
    ("max_tokens", "ids", "positions", "num_cut"),
    [
        (8, (1, 2, 7, 8, 4, 50, 9, 50), (5, 7), 0),
        (7, (1, 2, 7, 8, 4, 50), (5, None), 1),
        (6, (1, 2, 7, 8, 4, 50), (5, None), 1),
        (5, (), (None, None), 2),
    ],
)
def test_what_does_not_fit_is_cut_behind_a_mark_and_told(
    max_tokens: int, ids: tuple[int, ...], positions: tuple[int | None, ...], num_cut: int
) -> None:
    text = step_text(TOKENS, FORM, max_tokens=max_tokens)
    assert (text.ids, text.positions, text.num_cut) == (ids, positions, num_cut)


def test_a_one_step_answer_has_its_step() -> None:
    tokens = TokenSequence(prompt_ids=(1,), response_ids=(7,), response_mask=(1,), step_ends=(0,))
    assert step_text(tokens, FORM).positions == (2,)


def test_a_trajectory_without_steps_has_no_text() -> None:
    assert step_text(TokenSequence(prompt_ids=(1, 2)), FORM).ids == ()


def test_the_form_stays_what_its_version_says() -> None:
    # A change of the form is a new version: models of the old one would read something else.
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["version"] == FORM.version
    for case in golden["cases"]:
        form = FORM.model_copy(update={"digests": case["digests"]})
        tokens = TokenSequence(**{name: tuple(ids) for name, ids in case["tokens"].items()})
        text = step_text(tokens, form, max_tokens=case["max_tokens"])
        assert json.loads(json.dumps(asdict(text))) == case["text"]
