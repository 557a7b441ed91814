"""Scripted play against the real environment, the real pool and a real database."""

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest

from envs.scripts.policy import scripted_trajectories
from helpers.shops import CHEAP_ROME, ROME, asking, spec_of, write_prices
from helpers.turns import ENVIRONMENT, LIMITS, NEVER, POOLS, names, play_script
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.learning import ScriptConfig
from mtsql.config.reward import RewardConfig
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.dialogue import turn_specs
from mtsql.query.edits import flip_case, guessed_columns
from mtsql.rewards.abilities import ability_metrics
from mtsql.rewards.score import score
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.records import Ending


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    return write_prices(tmp_path_factory.mktemp("shops") / "shops.sqlite")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("embedded") / "data"
    generate(out, seed=1, num_train=80, num_valid=1, num_test=1, num_test_ood=1)
    return load_dataset(out)


def test_without_mistakes_gold_is_answered(shops):
    trajectory = play_script(shops, spec_of(ROME))
    assert names(trajectory) == "propose answer"
    assert trajectory.statements == (ROME,)
    assert trajectory.ending is Ending.ANSWERED
    reward = score(trajectory, RewardConfig())
    assert reward is not None
    assert reward.total == 2.0
    assert names(play_script(shops, spec_of(ROME), execute=1)) == "propose execute answer"


def test_a_wrong_guess_is_seen_and_corrected(shops):
    trajectory = play_script(shops, spec_of(ROME), wrong_case=1, execute=1, correct=1)
    assert names(trajectory) == "propose execute correct execute answer"
    assert trajectory.statements == (ROME.replace("ROME", "Rome"), ROME)
    assert [judgement.ex for judgement in trajectory.judgements] == [False, True]


def test_verdicts_say_what_the_observation_shows(shops):
    trajectory = play_script(
        shops, spec_of(ROME), wrong_case=1, execute=1, correct=1, verify_execution=1
    )
    expected = "propose execute verify:fail correct execute verify:pass answer"
    assert names(trajectory) == expected
    reward = score(trajectory, RewardConfig())
    assert reward is not None
    assert reward.step_rewards == (0.0, 0.0, 0.05, 0.0, 0.0, 0.05, 2.0)


def test_a_failing_proposal_may_be_answered_anyway_or_blindly(shops):
    seen = play_script(shops, spec_of(ROME), wrong_case=1, execute=1)
    assert names(seen) == "propose execute answer"
    blind = play_script(shops, spec_of(ROME), wrong_case=1, correct=1)
    assert names(blind) == "propose answer"
    assert {one.judgements[-1].ex for one in (seen, blind)} == {False}


def test_a_column_whose_values_stand_in_the_history_is_no_guess(shops):
    spec = spec_of(CHEAP_ROME, past="SELECT price FROM shop WHERE city = 'OSLO'")
    assert play_script(shops, spec, wrong_case=1).statements == (CHEAP_ROME,)
    other = spec_of(ROME, past="SELECT price FROM shop WHERE name = 'Apex'")
    assert play_script(shops, other, wrong_case=1).statements == (ROME.replace("ROME", "Rome"),)


def test_a_value_that_the_question_spells_as_stored_is_never_mistaken(shops):
    spec = spec_of(ROME)
    asked = asking(spec, "Which shops are in 'ROME'?")
    assert play_script(shops, asked, wrong_case=1).statements == (ROME,)
    title = asking(spec, "Which shops are in 'Rome'?")
    assert play_script(shops, title, wrong_case=1).statements == (ROME.replace("ROME", "Rome"),)


def test_a_wrong_column_is_corrected_before_the_case_is_known(shops):
    trajectory = play_script(
        shops, spec_of(ROME), wrong_column=1, wrong_case=1, execute=1, correct=1
    )
    assert names(trajectory) == "propose execute correct execute correct execute answer"
    assert trajectory.steps[1].result_class == "error"
    # The error says nothing about the case, so the guess stays until an empty result is seen.
    assert trajectory.statements[1:] == (ROME.replace("ROME", "Rome"), ROME)


def test_a_forgotten_condition_is_found_in_memory(shops):
    spec = spec_of(CHEAP_ROME, past=ROME)
    forgotten = "SELECT name FROM shop WHERE price < 5"
    trajectory = play_script(shops, spec, dropped_condition=1, verify_memory=1)
    assert names(trajectory) == "propose verify:memory correct answer"
    assert trajectory.statements == (forgotten, CHEAP_ROME)
    unseen = play_script(shops, spec, dropped_condition=1, execute=1, correct=1)
    assert (names(unseen), unseen.statements) == ("propose execute answer", (forgotten,))
    first_turn = play_script(shops, spec_of(CHEAP_ROME), dropped_condition=1, verify_memory=1)
    assert (names(first_turn), first_turn.statements) == ("propose answer", (CHEAP_ROME,))


def test_memory_that_shows_nothing_dropped_leads_to_no_correction(shops):
    trajectory = play_script(shops, spec_of(CHEAP_ROME, past=ROME), verify_memory=1, execute=1)
    assert names(trajectory) == "propose verify:memory execute answer"


def test_a_right_guess_with_an_empty_result_is_kept(shops):
    # The reply shows that the column stores nothing like it in another form.
    nowhere = "SELECT name FROM shop WHERE city = 'PARIS'"
    trajectory = play_script(shops, spec_of(nowhere), execute=1, correct=1)
    assert names(trajectory) == "propose execute answer"
    assert trajectory.statements == (nowhere,)
    assert trajectory.judgements[-1].ex is True
    known = spec_of(nowhere, past=ROME)
    assert names(play_script(shops, known, execute=1, correct=1)) == "propose execute answer"


@pytest.mark.parametrize("max_steps", [2, 3, 4, 5, 6])
def test_the_last_message_is_the_answer(shops, max_steps):
    config = EnvironmentConfig(prompt="compact", max_steps=max_steps)
    trajectory = play_script(
        shops,
        spec_of(ROME),
        config=config,
        wrong_case=1,
        execute=1,
        correct=1,
        verify_execution=1,
    )
    assert trajectory.ending is Ending.ANSWERED
    assert len(trajectory.steps) == max_steps


def test_every_behaviour_has_its_share(shops):
    # 400 plays of a turn with the default shares; the bounds are four standard deviations.
    played = POOLS.run(
        shops,
        lambda pool: scripted_trajectories(
            [spec_of(ROME)], pool, ENVIRONMENT, LIMITS, ScriptConfig(), seed=1, per_turn=400
        ),
    )
    metrics = ability_metrics([one.trajectory for one in played])
    assert metrics["ending_answered"] == 400
    # right at first: half of the guesses, less 3 % wrong columns
    assert metrics["first_right"] == pytest.approx(0.5 * 0.97, abs=0.1)
    assert metrics["executed"] == pytest.approx(0.5, abs=0.1)
    # 0.5 executed x (1 - 0.5 x 0.97) failing x 0.6 corrected
    assert metrics["corrected"] == pytest.approx(0.5 * 0.515 * 0.6, abs=0.075)
    assert metrics["memory_verified"] == 0.0


def test_attempts_depend_on_seed_turn_and_number_only(dataset):
    specs = [
        spec
        for dialogue in dataset.splits["train"][:10]
        for spec in turn_specs(dialogue, dataset.schemas[dialogue.db_id])
    ]

    async def run(specs, seed, max_concurrent):
        calls = []
        async with LocalPool(dataset.databases, num_workers=1) as pool:
            trajectories = await scripted_trajectories(
                specs,
                pool,
                ENVIRONMENT,
                LIMITS,
                ScriptConfig(),
                seed=seed,
                per_turn=2,
                max_concurrent=max_concurrent,
                progress=lambda done, total: calls.append((done, total)),
            )
        assert calls == [(n + 1, 2 * len(specs)) for n in range(2 * len(specs))]
        return trajectories

    many = asyncio.run(run(specs, 1, 64))
    one_by_one = asyncio.run(run(specs[::-1], 1, 1))
    assert [one.trajectory.turn_id for one in many] == [
        s.turn.turn_id for s in specs for _ in range(2)
    ]
    assert sorted(many, key=repr) == sorted(one_by_one, key=repr)
    assert many != asyncio.run(run(specs, 2, 64))


def test_embedded_turns_are_played_honestly(dataset):
    """A trap is what the script guesses at; only a wrong guess or a planted mistake is wrong."""
    specs = {
        spec.turn.turn_id: spec
        for dialogue in dataset.splits["train"]
        for spec in turn_specs(dialogue, dataset.schemas[dialogue.db_id])
    }
    shares = NEVER | {"wrong_case": 1.0, "execute": 0.5, "correct": 1.0, "verify_execution": 1.0}

    played = POOLS.run_on(
        dataset.databases,
        lambda pool: scripted_trajectories(
            specs.values(), pool, ENVIRONMENT, LIMITS, ScriptConfig(**shares), seed=1, per_turn=2
        ),
    )
    counts = Counter()
    for one in played:
        trajectory = one.trajectory
        turn = specs[trajectory.turn_id].turn
        is_trap = "trap" in turn.tags
        is_executed = any(step.result_class for step in trajectory.steps)
        assert trajectory.ending is Ending.ANSWERED
        if not is_trap:
            assert trajectory.judgements[-1].ex is True
        if not is_trap and "empty_gold" not in turn.tags:
            assert trajectory.statements == (turn.gold_sql,)
        if is_executed:
            assert trajectory.judgements[-1].ex is True
            counts["executed"] += 1
        if is_trap:
            counts["trap"] += 1
            counts["trap, first right"] += trajectory.judgements[0].ex is True
        for step in trajectory.steps:
            if step.observation is not None:
                json.loads(step.observation)
    # Half of the databases store a value as the question spells it; with two values, fewer do.
    assert 0.3 < counts["trap, first right"] / counts["trap"] < 0.55
    assert counts["executed"] > 100


# The other dialects ------------------------------------------------------------------------------


def messages(trajectory):
    """`propose execute | verify:fail correct execute | answer`: actions, message by message."""
    return " | ".join(
        names(replace(trajectory, steps=[replace(step, action=one) for one in step.actions]))
        for step in trajectory.steps
    )


R1 = EnvironmentConfig(dialect="mtsql_r1")
COMPACT_R1 = EnvironmentConfig(dialect="mtsql_r1", prompt="compact")


def test_in_mtsql_r1_a_message_judges_and_acts(shops):
    trajectory = play_script(
        shops, spec_of(ROME), config=R1, wrong_case=1, execute=1, correct=1, verify_execution=1
    )
    assert messages(trajectory) == (
        "propose execute | verify:fail correct execute | verify:pass answer"
    )
    assert trajectory.statements == (ROME.replace("ROME", "Rome"), ROME)
    assert [judgement.ex for judgement in trajectory.judgements] == [False, True]
    assert trajectory.steps[1].message == (
        "<exec_verify>no_pass</exec_verify>\n<tool_call>\n"
        f'{{"name": "exec_sql", "arguments": {{"code": "{ROME}"}}}}\n</tool_call>'
    )
    assert trajectory.steps[2].message == (
        f"<exec_verify>pass</exec_verify>\n<answer_sql>{ROME}</answer_sql>"
    )
    assert messages(play_script(shops, spec_of(ROME))) == "propose | answer"
    blind = play_script(shops, spec_of(ROME), wrong_case=1, config=R1)
    assert messages(blind) == "propose answer"


def test_in_mtsql_r1_the_result_comes_before_the_dialogue(shops):
    spec = spec_of(CHEAP_ROME, past=ROME)
    trajectory = play_script(
        shops,
        spec,
        config=R1,
        dropped_condition=1,
        execute=1,
        correct=1,
        verify_execution=1,
        verify_memory=1,
    )
    assert messages(trajectory) == (
        "propose execute | verify:pass verify:memory | verify:fail correct execute"
        " | verify:pass answer"
    )
    assert trajectory.statements == ("SELECT name FROM shop WHERE price < 5", CHEAP_ROME)
    assert messages(play_script(shops, spec, config=COMPACT_R1, verify_memory=1)) == (
        "propose execute verify:memory | verify:pass answer"
    )


@pytest.mark.parametrize("prompt", ["full", "compact"])
@pytest.mark.parametrize("max_steps", [2, 3, 4])
def test_in_mtsql_r1_too_the_last_message_is_the_answer(shops, prompt, max_steps):
    config = EnvironmentConfig(dialect="mtsql_r1", prompt=prompt, max_steps=max_steps)
    trajectory = play_script(
        shops,
        spec_of(CHEAP_ROME, past="SELECT name FROM shop WHERE price < 5"),
        config=config,
        wrong_case=1,
        wrong_column=1,
        execute=1,
        correct=1,
        verify_memory=1,
        verify_execution=1,
    )
    assert trajectory.ending is Ending.ANSWERED
    assert len(trajectory.steps) == max_steps
    # The last message still judges and corrects; each needs no further message.
    assert [step.num_ignored for step in trajectory.steps] == [0] * max_steps
    assert trajectory.judgements[-1].ex is (max_steps > 2)


def test_a_chain_of_one_view(shops):
    config = EnvironmentConfig(dialect="cocte")
    trajectory = play_script(
        shops,
        spec_of(ROME),
        config=config,
        wrong_case=1,
        execute=1,
        correct=1,
        verify_execution=1,
    )
    expected = "propose | execute | verify:fail | correct | execute | verify:pass | answer"
    assert messages(trajectory) == expected
    assert trajectory.statements == (ROME.replace("ROME", "Rome"), ROME)


def test_a_short_horizon_is_the_first_guess(shops):
    config = EnvironmentConfig(dialect="short_horizon")
    trajectory = play_script(shops, spec_of(ROME), config=config, execute=1, correct=1)
    assert messages(trajectory) == "propose answer"
    assert trajectory.steps[0].message == f"```sql\n{ROME}\n```"
    assert trajectory.judgements[-1].ex is True


@pytest.mark.parametrize("dialect", ["mtsql_r1", "cocte", "short_horizon"])
@pytest.mark.parametrize("prompt", ["full", "compact"])
def test_embedded_turns_are_played_in_every_dialect(dataset, dialect, prompt):
    specs = [
        spec
        for dialogue in dataset.splits["train"][:30]
        for spec in turn_specs(dialogue, dataset.schemas[dialogue.db_id])
    ]

    played = POOLS.run_on(
        dataset.databases,
        lambda pool: scripted_trajectories(
            specs,
            pool,
            EnvironmentConfig(dialect=dialect, prompt=prompt),
            LIMITS,
            ScriptConfig(verify_memory=0.5),
            seed=1,
            per_turn=2,
        ),
    )
    trajectories = [one.trajectory for one in played]
    assert {trajectory.ending for trajectory in trajectories} == {Ending.ANSWERED}
    for trajectory in trajectories:
        assert all(step.is_accepted and not step.num_ignored for step in trajectory.steps)
    right = [trajectory.judgements[-1].ex is True for trajectory in trajectories]
    assert 0.3 < sum(right) / len(right) < 1


def test_flipping_embedded_gold_twice_gives_it_back(dataset):
    for dialogue in dataset.splits["train"]:
        for turn in dialogue.turns:
            columns = guessed_columns(turn.gold_sql)
            flipped = flip_case(turn.gold_sql, columns)
            assert (flipped == turn.gold_sql) == (not columns)
            assert flip_case(flipped, columns) == turn.gold_sql
