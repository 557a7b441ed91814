"""One turn in tokens, played by a script on a real environment, pool and database."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mtsql.dialogue import TurnSpec

pytest.importorskip("torch", reason="the core install holds no tokenizers")

from actors.rollout.codec import Codec
from actors.rollout.play import ModelFault, Sampled, encode, play
from envs.turn import TurnEnv
from helpers.messages import ANSWER, EXECUTE, correct, judge, propose
from helpers.shops import ALL, FIRST, IN_PARIS, SECOND, write_shops
from helpers.tokenizers import tiny_tokenizer
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.reward import RewardConfig
from mtsql.protocol import ACTIONS, ActionName, ToolCall, render_action
from mtsql.rewards.score import score
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryResult
from mtsql.trajectory.records import Ending, Fault, FaultKind, Trajectory
from mtsql.trajectory.tokens import TokenSequence

PROPOSE_OPEN = '<tool_call>\n{"name": "propose", "arguments": {"sql": "'


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(tiny_tokenizer(), list(ACTIONS.tools))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shops(tmp_path_factory.mktemp("rollout") / "shops.sqlite")


class Script:
    """A `Sample` that says what it was given, cut to `max_tokens` like a model's server.

    Each sampled token has the log-probability -0.5, the next message's -1.0 and so on.
    """

    def __init__(self, codec: Codec, messages: Sequence[str], *, wait_s: float = 0) -> None:
        self._messages = iter([codec.written(message) for message in messages])
        self._wait_s = wait_s
        self.seen: list[list[int]] = []
        self.rooms: list[int] = []

    async def __call__(self, prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
        await asyncio.sleep(self._wait_s)
        self.seen.append(list(prompt_ids))
        self.rooms.append(max_tokens)
        ids = tuple(next(self._messages)[:max_tokens])
        return Sampled(token_ids=ids, logprobs=(-0.5 * len(self.seen),) * len(ids))


def run(
    database: Path, codec: Codec, sample: Script, *, spec: TurnSpec = FIRST, **options: Any
) -> tuple[Trajectory, TokenSequence]:
    settings: dict[str, Any] = {"prompt": "compact"} | options
    config = EnvironmentConfig(**settings)

    async def one() -> tuple[Trajectory, TokenSequence]:
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            env = TurnEnv(spec, pool, config, QueryLimits())
            return await play(env, codec, sample, config)

    return asyncio.run(one())


def texts(codec: Codec, ids: Sequence[int]) -> list[str]:
    return ["END" if one == codec.end_of_turn else codec.message([one]) for one in ids]


# A reply's frame, token by token.
BEFORE = [("\n", 0), ("<|im_start|>user\n", 0), ("<tool_response>\n", 0)]
AFTER = [("\n</tool_response>", 0), ("END", 0), ("\n", 0), ("<|im_start|>assistant\n", 0)]
OK = [('{"', 0), ("ok", 0), ('":', 0), (" true", 0), ("}", 0)]


def test_the_whole_mask_token_by_token(database: Path, codec: Codec) -> None:
    script = Script(codec, [propose(ALL), EXECUTE, ANSWER])
    trajectory, sequence = run(database, codec, script)
    assert trajectory.steps[1].observation == (
        '{"columns": ["name"], "rows": [["Ada"], ["Bob"], ["Cy"]], "num_rows": 3}'
    )
    result = '{"|columns|":| ["|name|"],| "|rows|":| [["|Ada|"],| ["|Bob|"],| ["|C|y|"]],'
    result += '| "|num|_|rows|":| |3|}'
    assert list(zip(texts(codec, sequence.response_ids), sequence.response_mask, strict=True)) == [
        (PROPOSE_OPEN, 1),
        ("SELECT", 1),
        (" name", 1),
        (" FROM", 1),
        (" shop", 1),
        ('"}}\n</tool_call>', 1),
        ("END", 1),
        *BEFORE,
        *OK,
        *AFTER,
        (EXECUTE, 1),
        ("END", 1),
        *BEFORE,
        *((text, 0) for text in result.split("|")),
        *AFTER,
        (ANSWER, 1),
        ("END", 1),
    ]
    # 7 sampled, 12 replied, 2 sampled, 7 + 27 replied, 2 sampled.
    assert sequence.response_mask == (1,) * 7 + (0,) * 12 + (1,) * 2 + (0,) * 34 + (1,) * 2
    assert sequence.step_ends == (6, 20, 56)
    assert sequence.logprobs == (
        (-0.5,) * 7 + (0.0,) * 12 + (-1.0,) * 2 + (0.0,) * 34 + (-1.5,) * 2
    )


def test_each_message_is_sampled_behind_all_tokens_before_it(database: Path, codec: Codec) -> None:
    script = Script(codec, [propose(ALL), EXECUTE, ANSWER])
    _, sequence = run(database, codec, script)
    prompt, response = list(sequence.prompt_ids), list(sequence.response_ids)
    assert script.seen == [prompt, prompt + response[:19], prompt + response[:55]]
    assert codec.message(prompt).endswith("in Paris<|im_end|>\n<|im_start|>assistant\n")


def test_a_steps_number_lies_on_all_its_sampled_tokens(database: Path, codec: Codec) -> None:
    messages = [propose(ALL), EXECUTE, judge("fail"), correct(IN_PARIS), ANSWER]
    trajectory, sequence = run(database, codec, Script(codec, messages))
    reward = score(trajectory, RewardConfig())
    assert reward is not None
    assert reward.step_rewards == (0.0, 0.0, 0.1, 0.0, 2.0)
    spread = sequence.spread(reward.step_rewards)
    assert len(spread) == len(sequence.response_ids)
    # Two sampled tokens of the verdict, two of the answer; nothing on observations and the rest.
    third = sequence.step_ends[2]
    sampled = [index for index, one in enumerate(sequence.response_mask) if one]
    verdict = [index for index in sampled if sequence.step_ends[1] < index <= third]
    answer = [index for index in sampled if index > sequence.step_ends[3]]
    found = {index: value for index, value in enumerate(spread) if value}
    assert found == dict.fromkeys(verdict, 0.1) | dict.fromkeys(answer, 2.0)
    assert (verdict[-1], answer[-1]) == (third, len(spread) - 1)
    assert all(sequence.response_ids[end] == codec.end_of_turn for end in sequence.step_ends)
    with pytest.raises(ValueError, match="1 numbers for 5 steps"):
        sequence.spread([1.0])


def test_every_kind_of_reward_lies_on_its_step(database: Path, codec: Codec) -> None:
    look = render_action(ToolCall(name=ActionName.VERIFY, target="memory"))
    coherent = render_action(ToolCall(name=ActionName.VERIFY, target="memory", verdict="pass"))
    mended = SECOND.turn.gold_sql
    messages = [
        propose("SELECT count(*) FROM shop"),  # F1 2 * 2 / (2 * 2 + 1) = 0.8
        EXECUTE,
        judge("fail"),
        correct(mended),
        look,
        coherent,
        ANSWER,
    ]
    trajectory, sequence = run(database, codec, Script(codec, messages), spec=SECOND)
    config = RewardConfig(preset="mtsql_r1")
    spread = score(trajectory, config)
    whole = score(trajectory, config.model_copy(update={"attribution": "last"}))
    assert spread is not None
    assert whole is not None
    earned = [0.64, 0.0, 0.1, 0.16, 0.0, 0.1, 2.0]
    assert spread.step_rewards == pytest.approx(earned)
    assert whole.step_rewards == pytest.approx([0.0] * 6 + [3.0])
    # Each run of sampled tokens is a step.
    mask = sequence.response_mask
    runs = [index for index in range(len(mask)) if mask[index] and not (index and mask[index - 1])]
    expected = [
        earned[sum(start <= index for start in runs) - 1] if sampled else 0.0
        for index, sampled in enumerate(mask)
    ]
    assert sequence.spread(spread.step_rewards) == pytest.approx(expected)


def test_text_gives_the_ids_and_mask_that_sampling_gives(database: Path, codec: Codec) -> None:
    messages = [propose(ALL), EXECUTE, judge("fail"), correct(IN_PARIS), ANSWER]
    trajectory, played = run(database, codec, Script(codec, messages))
    written = encode(trajectory, played.prompt_ids, codec)
    assert written.prompt_ids == played.prompt_ids
    assert written.response_ids == played.response_ids
    assert written.response_mask == played.response_mask
    assert written.step_ends == played.step_ends
    assert written.logprobs == ()


def test_a_prompt_that_is_too_long_is_never_sampled(database: Path, codec: Codec) -> None:
    script = Script(codec, [])
    trajectory, sequence = run(database, codec, script, max_prompt_tokens=3)
    assert trajectory.ending is Ending.MAX_TOKENS
    assert trajectory.steps == trajectory.judgements == ()
    assert len(sequence.prompt_ids) > 3
    assert sequence.response_ids == sequence.step_ends == ()
    assert script.seen == []
    reward = score(trajectory, RewardConfig())
    assert reward is not None
    assert (reward.total, reward.step_rewards) == (0.0, ())


def test_a_reply_without_room_for_a_token_behind_it_is_left_out(
    database: Path, codec: Codec
) -> None:
    # 7 tokens of the proposal and 12 of the reply: 19, so the next message's first is the 20th.
    messages = [propose(IN_PARIS), EXECUTE]
    num_first = len(codec.written(messages[0]))
    trajectory, sequence = run(
        database, codec, Script(codec, messages), max_response_tokens=num_first + 12
    )
    assert trajectory.ending is Ending.MAX_TOKENS
    assert sequence.response_mask == (1,) * num_first
    assert sequence.step_ends == (num_first - 1,)
    # The current proposal is scored: it is right.
    assert [one.ex for one in trajectory.judgements] == [True]

    script = Script(codec, messages)
    trajectory, sequence = run(database, codec, script, max_response_tokens=num_first + 13)
    assert script.rooms == [num_first + 13, 1]
    assert sequence.response_mask == (1,) * num_first + (0,) * 12 + (1,)
    assert trajectory.ending is Ending.MAX_TOKENS
    # One token is the whole call in this vocabulary, its end is missing: it was run.
    assert trajectory.steps[1].result_class == "ok"


def test_a_message_cut_by_its_limit_is_ended_unsampled(database: Path, codec: Codec) -> None:
    # Five tokens: the call is opened and never closed.
    script = Script(codec, [propose(ALL), propose(ALL)])
    trajectory, sequence = run(database, codec, script, max_step_tokens=5)
    assert script.rooms == [5, 5]
    assert trajectory.ending is Ending.MALFORMED
    assert texts(codec, sequence.response_ids)[4:7] == [" shop", "END", "\n"]
    assert sequence.response_mask[:7] == (1, 1, 1, 1, 1, 0, 0)
    assert sequence.response_mask[-5:] == (1,) * 5
    assert sequence.step_ends == (4, len(sequence.response_ids) - 1)


def test_the_step_limit_ends_the_turn(database: Path, codec: Codec) -> None:
    trajectory, sequence = run(
        database, codec, Script(codec, [propose(ALL), EXECUTE, ANSWER]), max_steps=2
    )
    assert trajectory.ending is Ending.MAX_STEPS
    assert len(trajectory.steps) == len(sequence.step_ends) == 2
    assert [one.ex for one in trajectory.judgements] == [False]
    assert texts(codec, sequence.response_ids)[-2:] == [EXECUTE, "END"]


def test_unreadable_messages_end_the_turn(database: Path, codec: Codec) -> None:
    trajectory, sequence = run(database, codec, Script(codec, ["shop", "city", ANSWER]))
    assert trajectory.ending is Ending.MALFORMED
    assert len(trajectory.steps) == len(sequence.step_ends) == 2
    reward = score(trajectory, RewardConfig())
    assert reward is not None
    assert reward.total == 0.0


def test_a_model_that_does_not_answer_is_our_fault(database: Path, codec: Codec) -> None:
    trajectory, sequence = run(
        database, codec, Script(codec, [propose(ALL)], wait_s=30), call_timeout_s=0.05
    )
    assert trajectory.ending is Ending.INFRA_FAULT
    assert trajectory.fault == Fault(
        kind=FaultKind.MODEL_SERVER, message="the model gave no message in 0.05 s"
    )
    assert sequence.response_ids == ()
    assert score(trajectory, RewardConfig()) is None


class Stuck:
    """An executor that does not answer."""

    async def execute_many(self, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        await asyncio.sleep(30)
        return []


def test_an_environment_that_does_not_reply_is_our_fault(codec: Codec) -> None:
    config = EnvironmentConfig(prompt="compact", call_timeout_s=0.05)

    async def one() -> tuple[Trajectory, TokenSequence]:
        env = TurnEnv(FIRST, Stuck(), config, QueryLimits())
        return await play(env, codec, Script(codec, [propose(ALL), EXECUTE]), config)

    trajectory, sequence = asyncio.run(one())
    assert (trajectory.ending, trajectory.fault) == (
        Ending.INFRA_FAULT,
        Fault(
            kind=FaultKind.ENVIRONMENT_TIMEOUT,
            message="the environment gave no reply in 0.05 s",
        ),
    )
    # The message that got no reply is there in tokens only.
    assert len(trajectory.steps) == 1
    assert len(sequence.step_ends) == 2
    assert score(trajectory, RewardConfig()) is None


def test_a_server_that_fails_is_our_fault(database: Path, codec: Codec) -> None:
    async def broken(prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
        raise ModelFault("the model server failed: gone")

    trajectory, _ = run(database, codec, broken)  # pyright: ignore[reportArgumentType]
    assert (trajectory.ending, trajectory.fault) == (
        Ending.INFRA_FAULT,
        Fault(kind=FaultKind.MODEL_SERVER, message="the model server failed: gone"),
    )


def test_a_server_that_gives_no_token_is_our_fault(database: Path, codec: Codec) -> None:
    script = Script(codec, [])
    script._messages = iter([codec.written(propose(ALL)), []])
    trajectory, sequence = run(database, codec, script)
    assert (trajectory.ending, trajectory.fault) == (
        Ending.INFRA_FAULT,
        Fault(kind=FaultKind.MODEL_SERVER, message="the model server gave no token"),
    )
    assert trajectory.judgements == ()
    assert len(trajectory.steps) == len(sequence.step_ends) == 1


def test_arrays_that_do_not_fit_are_refused() -> None:
    fits: dict[str, Any] = {
        "prompt_ids": (1, 2),
        "response_ids": (7, 8, 4, 9),
        "response_mask": (1, 1, 0, 1),
        "logprobs": (),
        "step_ends": (1, 3),
    }
    assert TokenSequence(**fits).spread([0.1, 2.0]) == [0.1, 0.1, 0.0, 2.0]
    with pytest.raises(ValueError, match=r"differ in length: \[3, 4\]"):
        TokenSequence(**fits | {"response_mask": (1, 1, 0)})
    with pytest.raises(ValueError, match=r"differ in length: \[2, 4\]"):
        TokenSequence(**fits | {"logprobs": (0, 0)})
    with pytest.raises(ValueError, match="not sampled"):
        TokenSequence(**fits | {"step_ends": (2, 3)})
