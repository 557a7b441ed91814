"""Which turns come next."""

import json
from collections import Counter

import pytest

from mtsql.config.rl import CurriculumConfig
from mtsql.curriculum import Curriculum

ITEMS = [
    ("e0", "easy"),
    ("e1", "easy"),
    ("e2", "easy"),
    ("m0", "medium"),
    ("m1", "medium"),
    ("h0", "hard"),
]
CONFIG = CurriculumConfig(floor=0.05, decay=0.8)


def draw(curriculum, number):
    return [curriculum.next_item() for _ in range(number)]


def test_bands_start_equal():
    metrics = Curriculum(ITEMS, CONFIG, seed=1).metrics()
    assert metrics["success/easy"] == 0.5
    assert [metrics[f"share/{band}"] for band in ("easy", "medium", "hard")] == pytest.approx(
        [1 / 3] * 3
    )


def test_weight_is_the_variance_of_one_attempt():
    curriculum = Curriculum(ITEMS, CONFIG, seed=1)
    curriculum.update([("e0", 1.0)] * 8 + [("m0", 1.0)] * 3 + [("m1", 0.0)] * 5)
    metrics = curriculum.metrics()
    # easy (8 + 1) / (8 + 2) = 0.9: 0.09; medium (3 + 1) / (8 + 2) = 0.4: 0.24; hard 0.5: 0.25
    assert metrics["success/easy"] == pytest.approx(0.9)
    assert metrics["success/medium"] == pytest.approx(0.4)
    assert metrics["share/easy"] == pytest.approx(0.09 / 0.58)
    assert metrics["share/medium"] == pytest.approx(0.24 / 0.58)
    assert metrics["share/hard"] == pytest.approx(0.25 / 0.58)


def test_a_solved_band_keeps_the_floor():
    curriculum = Curriculum(ITEMS, CONFIG, seed=1)
    curriculum.update([("e0", 1.0)] * 98)
    # easy 99 / 100: 0.0099 is below the floor of 0.05; the others weigh 0.25
    assert curriculum.metrics()["share/easy"] == pytest.approx(0.05 / 0.55)


def test_the_past_decays_for_every_band_with_every_step():
    curriculum = Curriculum(ITEMS, CONFIG, seed=1)
    curriculum.update([("e0", 1.0)] * 10)
    curriculum.update([("h0", 0.0)])
    # easy: 10 of 10 decays to 8 of 8: (8 + 1) / (8 + 2); hard: (0 + 1) / (1 + 2)
    metrics = curriculum.metrics()
    assert metrics["success/easy"] == pytest.approx(0.9)
    assert metrics["success/hard"] == pytest.approx(1 / 3)


def test_draws_follow_the_weights():
    curriculum = Curriculum(ITEMS, CONFIG, seed=1)
    curriculum.update([("e0", 1.0)] * 98)
    counts = Counter(ITEMS[index][1] for index in draw(curriculum, 3300))
    # 0.05, 0.25, 0.25 of 0.55: 300, 1500, 1500
    assert counts["easy"] == pytest.approx(300, abs=60)
    assert counts["hard"] == pytest.approx(1500, abs=120)
    assert curriculum.metrics()["draws/easy"] == counts["easy"]


def test_a_band_is_used_up_before_an_item_comes_again():
    curriculum = Curriculum(ITEMS, CONFIG, seed=1)
    easy = [index for index in draw(curriculum, 300) if index < 3]
    epochs = [easy[start : start + 3] for start in range(0, len(easy) - 2, 3)]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_without_it_epochs_are_uniform_whatever_succeeds():
    curriculum = Curriculum(ITEMS, CurriculumConfig(enabled=False), seed=1)
    curriculum.update([("e0", 1.0)] * 50)
    epochs = [draw(curriculum, 6) for _ in range(5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4, 5] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert curriculum.metrics()["share/easy"] == 0.5


@pytest.mark.parametrize("enabled", [True, False])
def test_a_restored_curriculum_goes_on_as_if_never_stopped(enabled):
    config = CurriculumConfig(enabled=enabled)
    first = Curriculum(ITEMS, config, seed=7)
    draw(first, 11)
    first.update([("e0", 1.0), ("m1", 0.25), ("h0", 0.0)])
    draw(first, 3)
    saved = json.dumps(first.state_dict())

    second = Curriculum(ITEMS, config, seed=99)
    draw(second, 4)
    second.load_state_dict(json.loads(saved))
    for results in ([("m0", 1.0)], [("e1", 0.0)]):
        assert draw(second, 40) == draw(first, 40)
        first.update(results)
        second.update(results)
    assert second.metrics() == first.metrics()
    assert second.state_dict() == first.state_dict()


def test_the_seed_decides_the_draws():
    draws = [draw(Curriculum(ITEMS, CONFIG, seed=seed), 50) for seed in (1, 1, 2)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_a_saved_state_is_not_changed_by_later_draws():
    curriculum = Curriculum(ITEMS, CONFIG, seed=1)
    draw(curriculum, 2)
    state = curriculum.state_dict()
    before = json.dumps(state)
    draw(curriculum, 20)
    assert json.dumps(state) == before


def test_mistakes_are_refused_and_change_nothing():
    curriculum = Curriculum(ITEMS, CONFIG, seed=1)
    before = curriculum.metrics()
    with pytest.raises(ValueError, match="unknown item 'x9'; the curriculum has 6 items"):
        curriculum.update([("e0", 1.0), ("x9", 1.0)])
    with pytest.raises(ValueError, match=r"success 2\.0 is not between"):
        curriculum.update([("e0", 1.0), ("e1", 2.0)])
    assert curriculum.metrics() == before
    with pytest.raises(ValueError, match="'e0' comes twice"):
        Curriculum([("e0", 1), ("e0", 2)], CONFIG, seed=1)
    with pytest.raises(ValueError, match="at least one item"):
        Curriculum([], CONFIG, seed=1)
    with pytest.raises(ValueError, match="resume with the data"):
        Curriculum(ITEMS[:5], CONFIG, seed=1).load_state_dict(curriculum.state_dict())
