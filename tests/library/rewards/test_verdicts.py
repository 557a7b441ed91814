"""Every branch of the process rewards, with numbers that can be redone by hand."""

from dataclasses import replace

import pytest

from helpers.steps import (
    LOOSE,
    RIGHT,
    WRONG,
    answered,
    corrected,
    executed,
    looked,
    proposed,
    scored,
    trajectory_of,
    verified,
)
from mtsql.chains.chain import Chain, Query, View
from mtsql.chains.truth import Truth
from mtsql.config.reward import RewardConfig
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, Answer, ParseFailure, ToolCall
from mtsql.rewards.abilities import ability_metrics
from mtsql.rewards.generation import generation_rewards, generation_values
from mtsql.rewards.verdicts import execution_values, memory_rewards, memory_values, verdict_rewards
from mtsql.sql.records import ResultClass
from mtsql.trajectory.records import Ending, Step

GOLD = RewardConfig(verdicts="each")
MEAN = RewardConfig(verify=0.1, coherence=0.1, verdicts="mean")
REFERENCE = RewardConfig(verdict_table="reference")
ALL = RewardConfig(verify=0.2, coherence=0.2, generation=0.5)
UNKNOWN = Judgement(ex=None, em=None, status="gold_failed")


def executed_as(shown):
    """An execute step of each class, as the environment reports it."""
    num_rows = {"empty": 0}.get(shown, 1) if shown in RAN else None
    return executed(result_class=shown, num_rows=num_rows)


RAN = ("ok", "cut", "empty", "all_null", "zero")
FAILED = ("error", "refused", "timeout", "capped")


@pytest.mark.parametrize(
    ("shown", "judgement", "passed", "failed"),
    [
        *((shown, RIGHT, 1, -1) for shown in ("ok", "cut")),
        *((shown, RIGHT, 1, None) for shown in ("empty", "all_null", "zero")),
        *((shown, WRONG, -1, 1) for shown in RAN),  # "ok": wrong but runnable
        # Judged by its first statement, say, a query may be right and yet not run.
        *((shown, judgement, -1, 1) for shown in FAILED for judgement in (RIGHT, WRONG)),
        *((shown, UNKNOWN, None, None) for shown in (*RAN, *FAILED)),
        ("ok", LOOSE, 1, -1),
    ],
)
def test_the_table_of_execution_verdicts(shown, judgement, passed, failed):
    for verdict, value in (("pass", passed), ("fail", failed)):
        steps = (proposed(), executed_as(shown), verified(verdict), answered())
        trajectory = trajectory_of(*steps, judgements=(judgement,))
        assert execution_values(trajectory, GOLD) == (None, None, value, None)


@pytest.mark.parametrize(
    ("shown", "truth", "passed", "failed"),
    [
        *((shown, Truth.SUFFICIENT, 1, -1) for shown in ("ok", "cut")),
        *((shown, Truth.SUFFICIENT, 1, None) for shown in ("empty", "all_null", "zero")),
        *((shown, Truth.INSUFFICIENT, -1, 1) for shown in RAN),
        *((shown, truth, None, None) for shown in RAN for truth in (Truth.UNKNOWN, None)),
        # Nothing follows from a view that fails, whatever it was to show.
        *((shown, truth, -1, 1) for shown in FAILED for truth in (*Truth, None)),
    ],
)
@pytest.mark.parametrize("judgement", [RIGHT, WRONG])
def test_the_table_of_verdicts_on_views(shown, truth, passed, failed, judgement):
    chain = Chain((View(name="a", sql="SELECT 1"),))
    for verdict, value in (("pass", passed), ("fail", failed)):
        steps = proposed(), executed_as(shown), verified(verdict), answered()
        # Gold's word on the whole query is not asked: a view is not an answer yet.
        trajectory = trajectory_of(*steps, judgements=[judgement], proposals=[chain])
        trajectory = replace(trajectory, truths=() if truth is None else (truth,))
        assert execution_values(trajectory, GOLD) == (None, None, value, None)


def test_verdicts_on_the_views_of_a_chain_share_the_weight():
    a, b = View(name="a", sql="SELECT x FROM t"), View(name="b", sql="SELECT x FROM a")
    steps = (
        proposed(0),
        executed_as("ok"),
        verified("pass"),
        proposed(1),
        replace(executed_as("ok"), proposal=1),
        verified("pass", 1),
        answered(1),
    )
    trajectory = replace(
        trajectory_of(*steps, judgements=(WRONG, WRONG), proposals=[Chain((a,)), Chain((a, b))]),
        truths=(Truth.SUFFICIENT, Truth.INSUFFICIENT),
    )
    assert verdict_rewards(trajectory, MEAN) == (None, None, 0.05, None, None, -0.05, None)
    # A pass on what is then replaced earns nothing; what it costs, it costs all the same.
    other = Chain((View(name="a", sql="SELECT y FROM t"),))
    replaced = replace(trajectory, proposals=(*trajectory.proposals[:1], other))
    assert verdict_rewards(replaced, MEAN) == (None, None, None, None, None, -0.1, None)
    # One that is not proven is not judged, and the other has all of it.
    half = replace(trajectory, truths=(Truth.SUFFICIENT, Truth.UNKNOWN))
    assert verdict_rewards(half, MEAN) == (None, None, 0.1, None, None, None, None)


@pytest.mark.parametrize(
    ("shown", "passed", "failed"),
    [
        *((shown, 0.0, 1.0) for shown in FAILED),
        ("empty", 0.0, 0.1),
        *((shown, 1.0, 0.0) for shown in ("ok", "cut", "all_null", "zero")),
    ],
)
@pytest.mark.parametrize("judgement", [RIGHT, WRONG])
def test_the_reference_table_never_asks_gold(shown, passed, failed, judgement):
    for verdict, value in (("pass", passed), ("fail", failed)):
        steps = (proposed(), executed_as(shown), verified(verdict), answered())
        trajectory = trajectory_of(*steps, judgements=(judgement,))
        assert execution_values(trajectory, REFERENCE) == (None, None, value, None)


@pytest.mark.parametrize("table", ["gold", "reference"])
def test_a_missing_verdict_is_no_verdict(table):
    config = RewardConfig(verdict_table=table)
    steps = (proposed(), executed(), verified(None), answered())
    assert execution_values(trajectory_of(*steps), config) == (None,) * 4
    memory = (proposed(), looked(), verified(None, target="memory"), answered())
    assert memory_values(trajectory_of(*memory, f1s=(1.0,)), config) == (None,) * 4


def test_what_a_class_of_results_says():
    assert {one for one in ResultClass if one.has_run} == set(RAN)
    assert {one for one in ResultClass if not one.has_run} == set(FAILED)
    assert {one for one in ResultClass if one.is_suspicious} == {"empty", "all_null", "zero"}
    assert executed_as("zero").is_suspicious
    assert not executed_as("cut").is_suspicious
    assert not proposed().is_suspicious


LOUD = (
    "no rows",
    "[]",
    "error",
    "no such column: x",
    "<exec_verify>pass</exec_verify>",
    "count: 0",
)


@pytest.mark.parametrize("phrase", LOUD)
@pytest.mark.parametrize("config", [ALL, RewardConfig(verdict_table="reference")])
def test_no_phrase_changes_a_reward(phrase, config):
    # The phrase stands in messages, in observations (cells, echoed questions) and in the SQL.
    steps = (
        proposed(),
        executed_as("ok"),
        verified("fail"),
        looked(),
        verified("fail", target="memory"),
    )
    plain = trajectory_of(*steps, answered(), judgements=(WRONG,), f1s=(0.5,))
    loud = replace(
        plain,
        proposals=(Query(f"SELECT '{phrase}'"),),
        steps=tuple(
            replace(step, message=phrase, observation=step.observation and phrase)
            for step in plain.steps
        ),
    )
    assert scored(loud, config) == scored(plain, config)


def test_a_verdict_is_about_the_observation_before_it():
    # No result of the corrected proposal was seen: the old one says nothing about it.
    steps = (proposed(0), executed(0), corrected(1), verified("pass", 1), answered(1))
    assert execution_values(trajectory_of(*steps, judgements=(WRONG, RIGHT)), GOLD) == (None,) * 5
    memory = (
        proposed(0),
        looked(0),
        corrected(1),
        verified("pass", 1, target="memory"),
        answered(1),
    )
    trajectory = trajectory_of(*memory, judgements=(WRONG, RIGHT), f1s=(0.5, 1.0))
    assert memory_values(trajectory, GOLD) == (None,) * 5


def test_each_kind_of_verdict_has_its_own_observation():
    steps = (proposed(), executed(), looked(), verified("pass"), verified("fail", target="memory"))
    trajectory = trajectory_of(*steps, answered(), f1s=(1.0,))
    assert execution_values(trajectory, GOLD) == (None, None, None, 1.0, None, None)
    assert memory_values(trajectory, GOLD) == (None, None, None, None, -1.0, None)
    crossed = trajectory_of(
        proposed(), executed(), verified("pass", target="memory"), answered(), f1s=(1.0,)
    )
    assert memory_values(crossed, GOLD) == (None,) * 4


def test_only_the_first_verdict_counts():
    spam = (verified("fail"), verified("pass"), verified("pass"))
    values = execution_values(trajectory_of(proposed(), executed(), *spam, answered()), GOLD)
    assert values == (None, None, -1.0, None, None, None)
    memory = [verified(word, target="memory") for word in ("pass", "fail", "pass")]
    values = memory_values(
        trajectory_of(proposed(), looked(), *memory, answered(), f1s=(1.0,)), GOLD
    )
    assert values == (None, None, 1.0, None, None, None)


def test_running_or_looking_again_gives_no_second_verdict():
    again = (proposed(), executed(), verified("pass"), executed(), verified("pass"), answered())
    assert verdict_rewards(trajectory_of(*again), GOLD) == (None, None, 0.1, None, None, None)
    word = verified("pass", target="memory")
    twice = trajectory_of(proposed(), looked(), word, looked(), word, answered(), f1s=(1.0,))
    assert memory_rewards(twice, MEAN) == (None, None, 0.1, None, None, None)


@pytest.mark.parametrize(
    "same", ["SELECT 0", "select 0;", "SELECT  0 -- no rows", "/* a */SELECT 0"]
)
def test_the_same_text_is_no_new_proposal(same):
    steps = (
        proposed(0),
        executed(0),
        verified("fail", 0),
        corrected(1),
        executed(1),
        verified("fail", 1),
    )
    trajectory = trajectory_of(
        *steps,
        answered(1),
        judgements=(WRONG, WRONG),
        proposals=("SELECT 0", same),
        f1s=(0.5, 0.5),
    )
    assert verdict_rewards(trajectory, GOLD) == (None, None, 0.1, None, None, None, None)
    assert generation_values(trajectory) == (0.5, None, None, None, None, None, None)


def test_after_a_right_result_was_passed_nothing_more_is_earned():
    steps = (
        proposed(0),
        executed(0),
        verified("pass", 0),
        corrected(1),
        executed(1),
        verified("fail", 1),
        corrected(2),
        executed(2),
        verified("pass", 2),
        answered(2),
    )
    trajectory = trajectory_of(*steps, judgements=(RIGHT, WRONG, WRONG))
    # The true verdict on a later mistake earns nothing; the false one still costs.
    earned = [None, None, 0.1, None, None, None, None, None, -0.1, None]
    assert list(verdict_rewards(trajectory, GOLD)) == earned


def test_with_mean_all_verdicts_of_one_kind_share_the_weight():
    steps = (
        proposed(0),
        executed(0),
        verified("fail", 0),
        corrected(1),
        executed(1),
        verified("pass", 1),
    )
    mended = trajectory_of(*steps, answered(1), judgements=(WRONG, RIGHT), f1s=(0.5, 1.0))
    assert verdict_rewards(mended, MEAN) == (None, None, 0.05, None, None, 0.05, None)
    mixed = trajectory_of(*steps, answered(1), judgements=(RIGHT, RIGHT), f1s=(1.0, 1.0))
    assert verdict_rewards(mixed, MEAN) == (None, None, -0.05, None, None, 0.05, None)
    unverified = trajectory_of(*steps[:2], *steps[3:], answered(1), judgements=(WRONG, RIGHT))
    # A result without a verdict is no verdict: looking around costs nothing.
    assert verdict_rewards(unverified, MEAN) == (None, None, None, None, 0.1, None)


def test_a_mistake_made_on_purpose_pays_no_more_than_a_right_proposal():
    direct = trajectory_of(proposed(), executed(), verified("pass"), answered(), f1s=(1.0,))
    steps = (
        proposed(0),
        executed(0),
        verified("fail", 0),
        corrected(1),
        executed(1),
        verified("pass", 1),
    )
    staged = trajectory_of(*steps, answered(1), judgements=(WRONG, RIGHT), f1s=(0.2, 1.0))
    config = RewardConfig(preset="mtsql_r1")
    assert scored(staged, config).total == pytest.approx(scored(direct, config).total)


@pytest.mark.parametrize(
    ("coherence", "judgement", "passed", "failed"),
    [
        (1.0, RIGHT, 1, -1),
        (1.0, WRONG, 1, -1),  # the dialogue is kept; what is wrong is not its clauses
        (0.8, WRONG, -1, 1),
        (0.8, RIGHT, None, None),  # right, but written differently from gold
        (0.8, UNKNOWN, None, None),
        (0.0, WRONG, -1, 1),  # cannot be read
        (None, WRONG, None, None),  # gold cannot be read
    ],
)
def test_the_table_of_memory_verdicts(coherence, judgement, passed, failed):
    for verdict, value in (("pass", passed), ("fail", failed)):
        steps = (proposed(), looked(), verified(verdict, target="memory"), answered())
        trajectory = trajectory_of(*steps, judgements=(judgement,), f1s=(coherence,))
        assert memory_values(trajectory, GOLD) == (None, None, value, None)


def test_the_threshold_of_coherence_is_a_key():
    steps = (proposed(), looked(), verified("pass", target="memory"), answered())
    trajectory = trajectory_of(*steps, judgements=(WRONG,), f1s=(0.8,))
    assert memory_values(trajectory, RewardConfig(coherent_from=0.8))[2] == 1.0
    assert memory_values(trajectory, RewardConfig(coherent_from=0.81))[2] == -1.0


def test_memory_that_shows_no_comparison_is_not_judged():
    verdict = verified("pass", target="memory")
    first_turn = trajectory_of(proposed(), looked(num_kept=None), verdict, answered(), f1s=(1.0,))
    assert memory_values(first_turn, GOLD) == (None,) * 4
    unseen = trajectory_of(proposed(), looked(verdict="pass"), answered(), f1s=(1.0,))
    assert memory_values(unseen, GOLD) == (None,) * 3
    old = trajectory_of(proposed(), looked(), verdict, answered())
    assert memory_values(old, GOLD) == (None,) * 4


def test_generation_is_the_gain_in_clause_f1():
    steps = (proposed(0), executed(0), corrected(1), executed(1), answered(1))
    trajectory = trajectory_of(*steps, judgements=(WRONG, RIGHT), f1s=(0.5, 0.75))
    assert generation_values(trajectory) == (0.5, None, 0.25, None, None)
    config = RewardConfig(generation=0.8)
    assert generation_rewards(trajectory, config) == (0.4, None, 0.2, None, None)


def total_gain(*f1s, proposals=None, observed=True):
    moves = [proposed(0), *(corrected(number) for number in range(1, len(f1s)))]
    if not observed:
        moves[-1] = replace(moves[-1], observation=None)
    judgements = [WRONG] * len(f1s)
    trajectory = trajectory_of(*moves, judgements=judgements, f1s=f1s, proposals=proposals)
    return sum(value or 0.0 for value in generation_values(trajectory))


def test_a_first_try_never_lowers_a_corrected_trajectory():
    assert total_gain(1.0) == 1.0
    for first in (0.0, 0.25, 1.0):
        assert total_gain(first, 1.0) == 1.0


def test_going_back_and_forth_or_exploring_pays_nothing():
    back_and_forth = ("SELECT a", "SELECT b", "SELECT a", "SELECT b", "SELECT a")
    assert total_gain(0.75, 0.25, 0.75, 0.25, 0.75, proposals=back_and_forth) == 0.75
    assert total_gain(0.25, 0.5, 0.0, 1.0, 0.5) == 0.5


def test_the_last_message_can_lose_but_not_gain():
    # Nobody replied to it; EX and EM judge it all the same.
    assert total_gain(0.5, 1.0, observed=False) == 0.5
    assert total_gain(1.0, 0.25, observed=False) == 0.25
    assert total_gain(1.0, observed=False) == 0.0


def test_a_gold_that_cannot_be_read_gives_no_generation_reward():
    trajectory = trajectory_of(
        proposed(0), corrected(1), judgements=(WRONG, RIGHT), f1s=(None, None)
    )
    assert generation_values(trajectory) == (None, None)
    assert generation_values(trajectory_of(proposed(), answered())) == (
        None,
        None,
    )  # an older record


def test_a_call_without_an_observation_scores_nothing():
    # The last message asks to execute; nothing is run, and no verdict can follow.
    lost = replace(executed(result_class=None), observation=None)
    steps = (proposed(), lost)
    trajectory = trajectory_of(*steps, ending=Ending.MAX_STEPS, f1s=(1.0,))
    assert scored(trajectory, ALL).step_rewards == (0.5, 2.0)
    assert (
        execution_values(trajectory_of(proposed(), lost, verified("pass"), answered()), GOLD)
        == (None,) * 4
    )


def test_a_proposal_nobody_judged_is_passed_over():
    # The machinery may break between the step and its judgement.
    trajectory = trajectory_of(
        proposed(), executed(), verified("pass"), judgements=(), proposals=("SELECT 0",)
    )
    assert execution_values(trajectory, GOLD) == (None, None, None)
    memory = trajectory_of(proposed(), looked(), verified("pass", target="memory"), judgements=())
    assert memory_values(memory, GOLD) == (None, None, None)


def test_a_verdict_before_a_proposal_in_one_message_is_about_the_one_before():
    def says(*calls, **facts):
        *earlier, action = calls
        return Step(message="", action=action, observation="{}", earlier=tuple(earlier), **facts)

    def sql(number):
        return ToolCall(name=ActionName.PROPOSE, sql=f"SELECT {number}")

    def word(target, verdict=None):
        return ToolCall(name=ActionName.VERIFY, target=target, verdict=verdict)

    run = ToolCall(name=ActionName.EXECUTE)
    trajectory = trajectory_of(
        says(sql(0), run, proposal=0, result_class=ResultClass.OK),
        says(word("execution", "fail"), sql(1), run, proposal=1, result_class=ResultClass.OK),
        says(word("execution", "pass"), word("memory"), proposal=1, num_kept=2),
        says(word("memory", "pass"), word("memory"), proposal=1, num_kept=2),
        answered(1),
        judgements=(WRONG, RIGHT),
        f1s=(0.5, 1.0),
    )
    assert execution_values(trajectory, GOLD) == (None, 1.0, 1.0, None, None)
    assert memory_values(trajectory, GOLD) == (None, None, None, 1.0, None)
    assert generation_values(trajectory) == (0.5, 0.5, None, None, None)
    assert verdict_rewards(trajectory, GOLD) == (None, 0.1, 0.1, None, None)


def test_the_same_play_in_mtsql_r1_and_in_actions_earns_the_same():
    first, second, look_up = proposed(0).action, corrected(1).action, looked().action
    fail, passed = verified("fail").action, verified("pass").action
    coherent = verified("pass", target="memory").action
    run = executed().action

    def says(*acts, number, **facts):
        *earlier, action = acts
        return replace(answered(number), action=action, earlier=tuple(earlier), **facts)

    r1 = trajectory_of(
        says(first, run, number=0, result_class=ResultClass.OK, observation="{}"),
        says(fail, second, run, number=1, result_class=ResultClass.OK, observation="{}"),
        says(passed, look_up, number=1, num_kept=2, observation="{}"),
        says(coherent, Answer(), number=1),
        judgements=(WRONG, RIGHT),
        f1s=(0.8, 1.0),
    )
    actions = trajectory_of(
        proposed(),
        executed(),
        verified("fail"),
        corrected(1),
        executed(1),
        verified("pass", 1),
        looked(1),
        verified("pass", 1, "memory"),
        answered(1),
        judgements=(WRONG, RIGHT),
        f1s=(0.8, 1.0),
    )
    for config in (GOLD, MEAN, ALL):
        assert scored(r1, config).total == pytest.approx(scored(actions, config).total)
    for name in ("verified", "executed", "corrected", "memory_verified", "verdict_right"):
        assert ability_metrics([r1])[name] == ability_metrics([actions])[name] == 1.0
    assert ability_metrics([r1])["blind_answer"] == ability_metrics([r1])["verdict_missing"] == 0


def test_a_verdict_that_was_asked_for_and_not_given_is_counted():
    ran = replace(executed(), earlier=(proposed().action,))
    silent = trajectory_of(ran, replace(answered(), lacks_verdict=True))
    assert execution_values(silent, GOLD) == (None, None)
    assert ability_metrics([silent])["verdict_missing"] == 1


def test_padding_neither_pays_nor_costs():
    noise = Step(message="?", action=ParseFailure(reason="?"), observation="{}", proposal=0)
    steps = (proposed(), executed(), verified("pass"), answered())
    plain = trajectory_of(*steps, f1s=(1.0,))
    padded = trajectory_of(
        steps[0], noise, executed(), looked(), executed(), noise, steps[2], executed(), answered(),
        f1s=(1.0,),
    )  # fmt: skip
    assert scored(padded, ALL).total == scored(plain, ALL).total
