"""Users and the dialogues that they play with an agent, on a real SQLite file."""

import asyncio
from random import Random

import pytest

from envs.play import GenerationFault
from envs.scripts.policy import ScriptedPolicy
from envs.users.dialogue import (
    DialogueSpec,
    ScriptedUser,
    Seen,
    SimulatedUser,
    play_dialogue,
    question,
)
from envs.users.goals import GoalUser, goal_turns
from helpers.messages import ANSWER, propose
from helpers.shops import DIALOGUE, IN_PARIS, SCHEMA, write_shops
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.learning import ScriptConfig
from mtsql.config.reward import RewardConfig
from mtsql.dialogue import PastTurn
from mtsql.errors import DataError
from mtsql.rewards.score import score
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus
from mtsql.trajectory.records import Ending

COUNT = "SELECT count(*) FROM shop WHERE city = 'Paris'"
HONEST = ScriptConfig(
    wrong_case=0, wrong_column=0, dropped_condition=0, execute=1, verify_execution=1
)


@pytest.fixture
def database(tmp_path):
    return write_shops(tmp_path / "shops.sqlite")


def played(database, user, agent, **options):
    async def run():
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            spec = DialogueSpec(dialogue_id="d", db_id="shops", schema=SCHEMA, **options)
            return await play_dialogue(spec, user, agent, pool, EnvironmentConfig(), QueryLimits())

    return asyncio.run(run())


def saying(*messages):
    """An agent that says the same messages in each turn."""

    def agent(spec):
        script = iter(messages)

        async def generate(seen):
            return next(script)

        return generate

    return agent


def honest(spec):
    return ScriptedPolicy(spec, HONEST, Random(1))


# Dialogues ------------------------------------------------------------------------------------


def test_predicted_history_holds_what_the_agent_said(database):
    wrong = "SELECT name FROM shop"
    turns = played(database, ScriptedUser(DIALOGUE.turns), saying(propose(wrong), ANSWER))
    assert [turn.spec.turn for turn in turns] == list(DIALOGUE.turns)
    assert [turn.spec.turn_index for turn in turns] == [0, 1]
    assert turns[1].spec.history == (PastTurn(question=DIALOGUE.turns[0].question, sql=wrong),)
    assert [turn.trajectory.judgements[-1].ex for turn in turns] == [False, False]


def test_gold_history_holds_gold_where_it_is_known(database):
    user = ScriptedUser([question("and ?", IN_PARIS), question("or ?"), question("so ?")])
    turns = played(database, user, saying(propose(COUNT), ANSWER), history="gold")
    assert turns[-1].spec.history == (
        PastTurn(question="and ?", sql=IN_PARIS),
        PastTurn(question="or ?", sql=COUNT),
    )
    assert [turn.spec.turn.turn_id for turn in turns] == ["d/0", "d/1", "d/2"]


def test_a_dialogue_goes_on_from_what_was_before(database):
    past = (PastTurn(question="before ?", sql=IN_PARIS),)
    [turn] = played(database, ScriptedUser(DIALOGUE.turns[1:]), honest, past=past)
    assert (turn.spec.turn_index, turn.spec.history) == (1, past)
    assert turn.trajectory.judgements[-1].ex is True


def test_a_turn_without_gold_is_unscored(database):
    user = ScriptedUser([question("which shops ?")])
    [turn] = played(database, user, saying(propose(IN_PARIS), ANSWER))
    assert turn.trajectory.ending is Ending.ANSWERED
    assert (turn.trajectory.judgements[0].ex, turn.trajectory.judgements[0].em) == (None, None)
    assert score(turn.trajectory, RewardConfig()) is None


# Users ----------------------------------------------------------------------------------------


def test_a_simulated_user_sees_what_a_user_sees(database):
    heard = []

    async def ask(seen):
        heard.append(seen)
        return ("who is in Paris ?", "how many ?", "  ")[len(seen)]

    turns = played(database, SimulatedUser(ask), saying(propose(IN_PARIS), ANSWER))
    assert [turn.spec.turn.question for turn in turns] == ["who is in Paris ?", "how many ?"]
    assert [len(seen) for seen in heard] == [0, 1, 2]
    first = heard[1][0]
    assert (first.question, first.sql) == ("who is in Paris ?", IN_PARIS)
    assert first.result.rows == (("Ada",), ("Bob",))


def test_a_user_who_never_ends_is_ended(database):
    async def ask(seen):
        return "and ?"

    turns = played(database, SimulatedUser(ask), saying(propose(COUNT), ANSWER), max_turns=3)
    assert len(turns) == 3


def test_a_broken_agent_gives_the_user_nothing_to_see(database):
    heard = []

    async def ask(seen):
        heard.append(seen)
        return None if seen else "who ?"

    async def broken(messages):
        raise GenerationFault("engine died")

    [turn] = played(database, SimulatedUser(ask), lambda spec: broken)
    assert turn.trajectory.ending is Ending.INFRA_FAULT
    assert heard[-1] == (Seen(question="who ?", sql="", result=None),)


def test_a_goal_is_reached_part_by_part(database):
    turns = played(database, GoalUser(goal_turns(COUNT, SCHEMA)), honest)
    assert [turn.spec.turn.question for turn in turns] == [
        "show all shops",
        "only those with city 'Paris'",
        "how many are there ?",
    ]
    assert [turn.spec.turn.gold_sql for turn in turns] == [
        "SELECT * FROM shop",
        "SELECT * FROM shop WHERE city = 'Paris'",
        COUNT,
    ]
    # Each is proposed, executed, judged right and answered: EX 1 + EM 1 + verdict 0.1.
    rewards = [score(turn.trajectory, RewardConfig()) for turn in turns]
    assert [reward.total for reward in rewards if reward] == pytest.approx([2.1, 2.1, 2.1])


def test_a_goal_user_asks_again_once_when_there_is_no_result(database):
    turns = played(database, GoalUser(goal_turns(COUNT, SCHEMA)), saying(propose("SELEC"), ANSWER))
    assert [turn.spec.turn.question for turn in turns] == [
        "show all shops",
        "that did not work : show all shops",
        "only those with city 'Paris'",
        "that did not work : only those with city 'Paris'",
        "how many are there ?",
        "that did not work : how many are there ?",
    ]


def test_patience_may_be_longer_or_none():
    parts = [question("one"), question("two")]
    empty = Seen(question="", sql="", result=None)
    fine = Seen(question="", sql="", result=QueryResult(status=QueryStatus.OK))

    async def asked(user, *seen):
        return [
            turn.question if (turn := await user.next_question(seen[:number])) else None
            for number in range(len(seen) + 1)
        ]

    again = "that did not work : one"
    assert asyncio.run(asked(GoalUser(parts, patience=2), empty, empty, empty)) == [
        "one", again, again, "two",
    ]  # fmt: skip
    assert asyncio.run(asked(GoalUser(parts, patience=0), empty, fine)) == ["one", "two", None]


@pytest.mark.parametrize(
    ("goal", "questions"),
    [
        ("SELECT name FROM shop", ["show the name of all shops"]),
        (
            "SELECT name, city FROM shop WHERE id >= 2 AND name LIKE 'A%' ORDER BY id DESC LIMIT 1",
            [
                "show the name and city of all shops",
                "only those with id at least 2",
                "only those with name like 'A%'",
                "show the one with the highest id",
            ],
        ),
        (
            "SELECT city, count(*) FROM shop GROUP BY city HAVING count(*) > 1 ORDER BY count(*)",
            [
                "show all shops",
                "count them for each city",
                "only those with count above 1",
                "sort them by count , lowest first",
            ],
        ),
        (
            "SELECT avg(id), max(id) FROM shop WHERE id = (SELECT max(id) FROM shop)",
            [
                "show all shops",
                "only those where id = (SELECT MAX(id) FROM shop)",
                "what is their average id and maximum id ?",
            ],
        ),
        (
            "SELECT city, max(id) FROM shop GROUP BY city LIMIT 2",
            [
                "show all shops",
                "show city and maximum id for each city",
                "show the first 2",
            ],
        ),
    ],
)
def test_goals_become_questions(goal, questions):
    turns = goal_turns(goal, SCHEMA)
    assert [turn.question for turn in turns] == questions
    assert turns[-1].gold_sql == goal


def test_an_or_keeps_its_brackets():
    goal = "SELECT name FROM shop WHERE id > 2 AND (city = 'Rome' OR city = 'Oslo') AND id < 9"
    turns = goal_turns(f"{goal} LIMIT 1", SCHEMA)
    assert [turn.gold_sql for turn in turns] == [
        "SELECT name FROM shop",
        "SELECT name FROM shop WHERE id > 2",
        "SELECT name FROM shop WHERE id > 2 AND (city = 'Rome' OR city = 'Oslo')",
        goal,
        f"{goal} LIMIT 1",
    ]
    assert turns[2].question == "only those where city = 'Rome' OR city = 'Oslo'"


@pytest.mark.parametrize(
    "goal", ["SELEC", "SELECT 1", "DROP TABLE shop", "SELECT id FROM shop UNION SELECT 1"]
)
def test_a_goal_that_cannot_be_taken_apart_is_refused(goal):
    with pytest.raises(DataError, match="goal: "):
        goal_turns(goal, SCHEMA)
