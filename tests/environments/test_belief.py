"""What scripts get wrong, how they find out, and how that is counted."""

import json
from random import Random

import pytest

from envs.scripts.belief import Belief
from envs.scripts.policy import scripted_trajectories
from helpers.shops import ROME, asking, spec_of, write_prices
from helpers.turns import ENVIRONMENT, LIMITS, NEVER, POOLS, names, record_script
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.learning import ScriptConfig
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.data.prepare import prepare
from mtsql.dialogue import turn_specs
from mtsql.mistakes.kinds import Mistake, script_facts


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    return write_prices(tmp_path_factory.mktemp("shops") / "shops.sqlite")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("embedded") / "data"
    generate(out, seed=1, num_train=80, num_valid=1, num_test=1, num_test_ood=1)
    return load_dataset(out)


JOINED = "SELECT T1.name FROM shop AS T1 JOIN shop AS T2 ON T1.city = T2.city WHERE T2.price = 9"
UNJOINED = "SELECT T1.name FROM shop AS T1 WHERE T2.price = 9"
MOON = "SELECT price FROM shop WHERE name = 'Blue Moon'"


def fates(one):
    return one.made, one.noticed, one.repaired


def test_a_missing_join_is_seen_in_the_error_and_put_back(shops):
    spec = spec_of(JOINED)
    one = record_script(shops, spec, missing_join=1, execute=1, correct=1, verify_execution=1)
    assert names(one.trajectory) == (
        "propose execute verify:fail correct execute verify:pass answer"
    )
    assert "no such column: T2.price" in (one.trajectory.steps[1].observation or "")
    assert one.trajectory.statements == (UNJOINED, JOINED)
    assert fates(one) == ({Mistake.MISSING_JOIN},) * 3
    blind = record_script(shops, spec, missing_join=1, correct=1)
    assert blind.trajectory.statements == (UNJOINED,)
    assert fates(blind) == ({Mistake.MISSING_JOIN}, set(), set())
    stubborn = record_script(shops, spec, missing_join=1, execute=1)
    assert fates(stubborn) == ({Mistake.MISSING_JOIN}, {Mistake.MISSING_JOIN}, set())
    assert fates(record_script(shops, spec_of(ROME), missing_join=1)) == (set(),) * 3


def test_a_value_that_is_stored_nowhere_is_seen_in_the_empty_result(shops):
    # `stored` shows what holds the part that was written.
    one = record_script(shops, spec_of(MOON), empty_result=1, execute=1, correct=1)
    assert names(one.trajectory) == "propose execute correct execute answer"
    assert one.trajectory.statements[0] in (MOON.replace("Blue ", ""), MOON.replace(" Moon", ""))
    assert one.trajectory.statements[1] == MOON
    assert '"stored": {"name": ["Blue Moon"]}' in (one.trajectory.steps[1].observation or "")
    assert fates(one) == ({Mistake.EMPTY_RESULT},) * 3
    # A slip is mended by reading the question again; a count of nothing is a single zero.
    cheap = "SELECT count(*) FROM shop WHERE price > 5"
    spec = asking(spec_of(cheap), "How many cost more than 5?")
    one = record_script(shops, spec, empty_result=1, execute=1, correct=1)
    assert one.trajectory.statements == (cheap + "000", cheap)
    assert one.trajectory.steps[1].result_class == "zero"
    # What was said earlier counts, too.
    later = spec_of(cheap, past="SELECT name FROM shop WHERE price > 5")
    one = record_script(shops, later, empty_result=1, execute=1, correct=1)
    assert one.trajectory.statements == (cheap + "000", cheap)
    assert fates(record_script(shops, spec_of(cheap), empty_result=1)) == (set(),) * 3


def test_a_wrong_value_that_finds_rows_goes_unnoticed(shops):
    cheap = "SELECT name FROM shop WHERE price < 300"
    all_but_one = cheap.replace("300", "3")
    spec = asking(spec_of(f"{cheap} OR 1 = 0"), "below 300")
    assert fates(record_script(shops, spec, empty_result=1)) == (set(),) * 3
    rows = asking(spec_of("SELECT name FROM shop WHERE id <= 41"), "up to 41")
    one = record_script(shops, rows, empty_result=1, execute=1, correct=1)
    assert names(one.trajectory) == "propose execute answer"
    assert fates(one) == ({Mistake.EMPTY_RESULT}, set(), set())
    assert one.trajectory.judgements[-1].ex is True  # four shops, whatever the bound
    none = asking(spec_of(cheap), "below 300")
    one = record_script(shops, none, empty_result=1, execute=1, correct=1)
    assert one.trajectory.statements == (all_but_one, cheap)


def test_what_the_reply_does_not_show_is_not_mended(shops):
    belief = Belief(spec_of(MOON), ScriptConfig(**NEVER | {"empty_result": 1.0}), Random(1))
    first = belief.say()
    for stored in ({}, {"stored": {"name": ["Moon River", "New Moon"]}}):
        belief.see_result(seen := {"note": "empty", **stored})
        assert not belief.mend_result(seen)
        assert belief.say() == first
    assert not belief.mend_result({"error": "no such column"})
    assert belief.mend_result({"note": "empty", "stored": {"name": ["Blue Moon"]}})
    assert (belief.say(), belief.standing) == (MOON, set())


def test_an_error_hides_a_value_until_it_is_mended(shops):
    joined = JOINED.replace("T2.price = 9", "T1.city = 'ROME' AND T2.name = 'Blue Moon'")
    one = record_script(
        shops, spec_of(joined), wrong_case=1, missing_join=1, empty_result=1, execute=1, correct=1
    )
    assert names(one.trajectory) == "propose execute correct execute correct execute answer"
    assert [step.result_class for step in one.trajectory.steps[1::2]] == ["error", "empty", "empty"]
    # The case of `name` is guessed, so the only other text is not mistaken a second time.
    flipped = joined.replace("ROME", "Rome").replace("Blue Moon", "BLUE MOON")
    assert one.trajectory.statements[1:] == (flipped, joined)
    assert fates(one) == ({Mistake.MISSING_JOIN, Mistake.WRONG_CASE},) * 3


def test_two_wrong_values_are_seen_in_one_result(shops):
    both = "SELECT price FROM shop WHERE name = 'Blue Moon' AND city = 'BARI'"
    spec = spec_of(both, past="SELECT name FROM shop WHERE name = 'Apex'")
    one = record_script(shops, spec, wrong_case=1, empty_result=1, execute=1, correct=1)
    first, second = one.trajectory.statements
    assert "city = 'Bari'" in first
    assert "'Blue Moon'" not in first
    assert second == both
    assert fates(one) == ({Mistake.WRONG_CASE, Mistake.EMPTY_RESULT},) * 3


def test_a_share_of_zero_draws_nothing():
    spec = asking(spec_of(JOINED, past=ROME), "those of price 9 ?")
    twice = Random(1)
    _ = twice.random(), twice.random()  # for a forgotten condition and for a wrong column
    for shares, is_alone in (
        ({}, True),
        ({"missing_join": 0.1}, False),
        ({"empty_result": 0.1}, False),
    ):
        rng = Random(1)
        Belief(spec, ScriptConfig(**NEVER | shares), rng)
        assert (rng.getstate() == twice.getstate()) is is_alone


OF_VIEWS = frozenset({Mistake.FAN_OUT, Mistake.LOST_FILTER})
"""Only a chain of several views can hold them."""


@pytest.mark.parametrize(
    ("dialect", "views", "kinds"),
    [
        ("actions", 0, {*Mistake} - OF_VIEWS),
        ("mtsql_r1", 0, {*Mistake} - OF_VIEWS),
        ("cocte", 0, {*Mistake} - OF_VIEWS),
        ("cocte", 1, {*Mistake}),
    ],
)
def test_every_kind_is_made_seen_and_mended(dataset, dialect, views, kinds):
    specs = [
        spec
        for dialogue in dataset.splits["train"][:25]
        for spec in turn_specs(dialogue, dataset.schemas[dialogue.db_id])
    ]
    always = {"execute": 1.0, "correct": 1.0, "verify_memory": 1.0, "several_views": views}

    def run(shares):
        return POOLS.run_on(
            dataset.databases,
            lambda pool: scripted_trajectories(
                specs,
                pool,
                EnvironmentConfig(dialect=dialect, max_steps=8 + 12 * views),
                LIMITS,
                ScriptConfig(**NEVER | always | shares),
                seed=1,
                per_turn=1,
            ),
        )

    for kind in sorted(kinds):
        counts = script_facts(run({kind.value: 1.0})).mistakes
        assert set(counts) == {kind, "none"}
        found = counts[kind]
        # A bound may leave rows; a forgotten condition may be one that the memory cannot compare.
        assert found.made >= 3
        # A table too many repeats rows only where several of its rows refer to one.
        share = 0.6 if kind is Mistake.FAN_OUT else 0.9
        assert min(found.noticed, found.repaired, found.right) >= share * found.made
        assert found.share == found.made / len(specs)
        assert counts["none"].right == counts["none"].made == len(specs) - found.made
    assert set(script_facts(run({})).mistakes) == {"none"}


@pytest.mark.parametrize(("hints", "first"), [(False, "'rome'"), (True, "'ROME'")])
def test_a_value_that_the_prompt_shows_is_not_mistaken(shops, hints, first):
    spec = asking(spec_of(ROME), "Which shops are in rome?")
    config = ENVIRONMENT.model_copy(update={"value_hints": hints})
    scripts = ScriptConfig(**NEVER | {"wrong_case": 1.0})

    (one,) = POOLS.run(
        shops,
        lambda pool: scripted_trajectories(
            [spec], pool, config, LIMITS, scripts, seed=1, per_turn=1
        ),
    )
    assert first in one.trajectory.proposals[0].sql
    assert one.made == (set() if hints else {Mistake.WRONG_CASE})


def test_a_hint_lets_the_script_tell_a_value_that_is_stored_nowhere():
    always = ScriptConfig(**NEVER | {"empty_result": 1.0})
    spec = asking(spec_of(MOON), "What does it cost?")
    empty = {"columns": ["price"], "rows": [], "num_rows": 0, "note": "empty"}
    for hinted, is_told in [((), False), (("Blue Moon",), True)]:
        belief = Belief(spec, always, Random(1), hinted)
        assert belief.say() != MOON
        assert belief.mend_result(empty) is is_told
        assert (belief.say() == MOON) is is_told


def test_mistakes_are_counted_from_the_records(shops):
    plays = [
        record_script(shops, spec_of(ROME), wrong_case=1, execute=1, correct=1, verify_execution=1),
        record_script(shops, spec_of(ROME), wrong_case=1, wrong_column=1, execute=1),
        record_script(shops, spec_of(ROME)),
        record_script(shops, spec_of(MOON), empty_result=1),
    ]
    facts = script_facts(plays)
    assert facts.model_dump()["mistakes"] == {
        "wrong_case": {"made": 2, "share": 0.5, "noticed": 1, "repaired": 1, "right": 1},
        "wrong_column": {"made": 1, "share": 0.25, "noticed": 1, "repaired": 0, "right": 0},
        "empty_result": {"made": 1, "share": 0.25, "noticed": 0, "repaired": 0, "right": 0},
        "none": {"made": 1, "share": 0.25, "noticed": 0, "repaired": 0, "right": 1},
    }
    assert facts.shares == {
        "executed": 0.5,
        "verified": 0.25,
        "memory_verified": 0.0,
        "corrected": 0.25,
        "corrected_to_right": 1.0,
        "first_right": 0.25,
        "right": 0.5,
    }
    assert script_facts([]).model_dump() == {"mistakes": {}, "shares": {}}


def test_sparc_admits_the_new_kinds(shared_data, tmp_path):
    """A tenth of the official dev dialogues, played as the warm start plays them."""
    (tmp_path / "sparc").mkdir()
    for name in ("dev.json", "tables.json"):
        (tmp_path / "sparc" / name).symlink_to(shared_data / "sparc" / name)
    entry = {"database_id": "pets_1", "interaction": [{"utterance": "x", "query": "SELECT 1"}]}
    (tmp_path / "sparc" / "train.json").write_text(json.dumps([entry]))
    (tmp_path / "sparc" / "database").symlink_to(shared_data / "database")
    prepare("sparc", source=tmp_path / "sparc", out=tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    specs = [
        spec
        for dialogue in data.splits["test"][::10]
        for spec in turn_specs(dialogue, data.schemas[dialogue.db_id])
    ]

    def run(kind):
        shares = NEVER | {kind: 1.0, "execute": 1.0, "correct": 1.0}
        return POOLS.run_on(
            data.databases,
            lambda pool: scripted_trajectories(
                specs, pool, ENVIRONMENT, LIMITS, ScriptConfig(**shares), seed=1, per_turn=1
            ),
        )

    join = script_facts(run("missing_join")).mistakes["missing_join"]
    empty = script_facts(run("empty_result")).mistakes["empty_result"]
    assert join.share > 0.15
    assert join.made == join.noticed == join.repaired == join.right
    assert empty.share > 0.15
    assert min(empty.noticed, empty.repaired, empty.right) >= 0.9 * empty.made
