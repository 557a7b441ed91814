"""Every dialect in tokens: tools in the prompt, replies in the template's frame, exact masks."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mtsql.dialogue import TurnSpec

pytest.importorskip("torch", reason="the core install holds no tokenizers")

from actors.rollout.codec import Codec, codec_for, token_counter
from actors.rollout.play import Sampled, encode, play
from actors.tiny_model import train_tokenizer
from envs.turn import TurnEnv
from helpers.shops import FIRST, IN_PARIS, SECOND, write_shops
from helpers.tokenizers import TEXTS, qwen_tokenizer
from mtsql.config.environment import EnvironmentConfig
from mtsql.protocol import DIALECTS, ActionName, Answer, ToolCall, Verdict, VerifyTarget
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits
from mtsql.trajectory.records import Ending, Trajectory
from mtsql.trajectory.tokens import TokenSequence

PARIS = ToolCall(name=ActionName.PROPOSE, sql=IN_PARIS)
RUN = ToolCall(name=ActionName.EXECUTE)
LOOK = ToolCall(name=ActionName.VERIFY, target="memory")


def verdict(target: VerifyTarget, value: Verdict) -> ToolCall:
    return ToolCall(name=ActionName.VERIFY, target=target, verdict=value)


PLAYS: dict[str, list[tuple[ToolCall | Answer, ...]]] = {
    "actions": [(PARIS,), (RUN,), (verdict("execution", "pass"),), (Answer(),)],
    "mtsql_r1": [
        (PARIS, RUN),
        (verdict("execution", "pass"), PARIS, LOOK),
        (verdict("memory", "pass"), PARIS, Answer()),
    ],
    "cocte": [
        (ToolCall(name=ActionName.PROPOSE, sql=IN_PARIS, view="here"),),
        (RUN,),
        (ToolCall(name=ActionName.PROPOSE, sql="SELECT * FROM here", view="result"),),
        (Answer(),),
    ],
    "short_horizon": [(PARIS, Answer())],
}


@pytest.fixture(scope="module")
def qwen() -> Any:
    return qwen_tokenizer()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shops(tmp_path_factory.mktemp("dialects") / "shops.sqlite")


def run(
    database: Path,
    tokenizer: Any,
    messages: Sequence[str],
    spec: TurnSpec = SECOND,
    **options: Any,
) -> tuple[Trajectory, TokenSequence, list[dict[str, str]]]:
    """Say the messages; the record, its tokens, and the messages before the first one."""
    config = EnvironmentConfig(**options)
    codec = codec_for(DIALECTS[config.dialect], tokenizer, thinking=False)
    script = iter([codec.written(message) for message in messages])

    async def sample(prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
        ids = tuple(next(script)[:max_tokens])
        return Sampled(token_ids=ids, logprobs=())

    async def one() -> tuple[Trajectory, TokenSequence, list[dict[str, str]]]:
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            counter = token_counter(tokenizer)
            env = TurnEnv(spec, pool, config, QueryLimits(), count_tokens=counter)
            start = await env.start()
            return *await play(env, codec, sample, config), start

    return asyncio.run(one())


def says(dialect: str) -> list[str]:
    return [DIALECTS[dialect].render(actions) for actions in PLAYS[dialect]]


@pytest.mark.parametrize("prompt", ["compact", "full", "m_schema"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_flat_tokens_are_the_rendering_of_the_whole_conversation(
    database: Path, qwen: Any, dialect: str, prompt: str
) -> None:
    thought = "<think>\nIn Paris.\n</think>\n\n"
    messages = [thought + message for message in says(dialect)]
    trajectory, sequence, conversation = run(
        database, qwen, messages, dialect=dialect, prompt=prompt
    )
    assert trajectory.ending is Ending.ANSWERED
    assert [step.message for step in trajectory.steps] == messages
    for step in trajectory.steps:
        conversation.append({"role": "assistant", "content": step.message})
        if step.observation is not None:
            conversation.append({"role": "tool", "content": step.observation})
    text = qwen.apply_chat_template(
        conversation, tools=list(DIALECTS[dialect].tools) or None, tokenize=False
    )
    ids = [*sequence.prompt_ids, *sequence.response_ids]
    # Without thinking the prompt of a message ends in an empty block, which a rendering lacks.
    block = "<think>\n\n</think>\n\n"
    assert qwen.decode(ids).replace(block, "") == text.removesuffix("\n")
    assert ("<tools>" in text) is bool(DIALECTS[dialect].tools)
    for tool in DIALECTS[dialect].tools:
        assert f'"name": "{tool["function"]["name"]}"' in text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_mask_is_on_what_was_sampled_and_on_nothing_else(
    database: Path, qwen: Any, dialect: str
) -> None:
    trajectory, sequence, _ = run(database, qwen, says(dialect), dialect=dialect)
    codec = codec_for(DIALECTS[dialect], qwen, thinking=False)
    mask: list[int] = []
    ids: list[int] = []
    ends: list[int] = []
    for step in trajectory.steps:
        message = codec.written(step.message)
        ids += message
        mask += [1] * len(message)
        ends.append(len(ids) - 1)
        if step.observation is not None:
            reply = codec.reply(step.observation, is_closed=True)
            ids += reply
            mask += [0] * len(reply)
    assert sequence.response_ids == tuple(ids)
    assert sequence.response_mask == tuple(mask)
    assert sequence.step_ends == tuple(ends)
    written = encode(trajectory, sequence.prompt_ids, codec)
    assert (written.response_ids, written.response_mask) == (tuple(ids), tuple(mask))
    assert written.step_ends == sequence.step_ends


def texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    return ["END" if one == tokenizer.eos_token_id else tokenizer.decode([one]) for one in ids]


SQL = ["SELECT", " name", " FROM", " shop", " WHERE", " city", " =", " '", "Paris", "'"]
BEFORE = [("\n", 0), ("<|im_start|>user\n", 0), ("<tool_response>\n", 0)]
AFTER = [("\n</tool_response>", 0), ("END", 0), ("\n", 0), ("<|im_start|>assistant\n", 0)]


def test_mtsql_r1_token_by_token(database: Path) -> None:
    fixed_texts = DIALECTS["mtsql_r1"].fixed_texts
    tokenizer: Any = train_tokenizer(TEXTS, 500, fixed_texts)
    messages = [
        DIALECTS["mtsql_r1"].render((PARIS, RUN)),
        DIALECTS["mtsql_r1"].render((verdict("execution", "pass"), PARIS, Answer())),
    ]
    trajectory, sequence, _ = run(
        database, tokenizer, messages, FIRST, dialect="mtsql_r1", prompt="compact"
    )
    assert trajectory.steps[0].observation == (
        '{"columns": ["name"], "rows": [["Ada"], ["Bob"]], "num_rows": 2}'
    )
    result = '{"|columns|":| ["|name|"],| "|rows|":| [["|Ada|"],| ["|Bob|"]],| "|num|_|rows|":| 2|}'
    assert list(
        zip(texts(tokenizer, sequence.response_ids), sequence.response_mask, strict=True)
    ) == [
        ('<tool_call>\n{"name": "exec_sql", "arguments": {"code": "', 1),
        *((word, 1) for word in SQL),
        ('"}}\n</tool_call>', 1),
        ("END", 1),
        *BEFORE,
        *((text, 0) for text in result.split("|")),
        *AFTER,
        ("<exec_verify>pass</exec_verify>\n", 1),
        ("<answer_sql>", 1),
        *((word, 1) for word in SQL),
        ("</answer_sql>", 1),
        ("END", 1),
    ]


def test_short_horizon_token_by_token(database: Path) -> None:
    tokenizer: Any = train_tokenizer(TEXTS, 500, DIALECTS["short_horizon"].fixed_texts)
    # A template that knows no tool replies serves a dialect that has none.
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message.role == 'tool'", "message.role == 'nobody'"
    ).replace("<tool_response>", "")
    trajectory, sequence, _ = run(
        database,
        tokenizer,
        says("short_horizon"),
        FIRST,
        dialect="short_horizon",
        prompt="compact",
    )
    assert trajectory.ending is Ending.ANSWERED
    assert texts(tokenizer, sequence.response_ids) == [
        "```sql\n",
        *SQL,
        "\n```",
        "END",
    ]
    assert sequence.response_mask == (1,) * 13
    assert sequence.step_ends == (12,)


def test_a_codec_without_replies_gives_none(qwen: Any) -> None:
    with pytest.raises(AssertionError, match="without replies"):
        Codec(qwen, [], has_replies=False).reply("{}", is_closed=True)


def test_little_room_is_announced_in_words(database: Path, qwen: Any) -> None:
    run_it = DIALECTS["mtsql_r1"].render((PARIS, RUN))
    for max_tokens, is_told in ((2840, True), (2860, False)):
        trajectory, sequence, _ = run(
            database,
            qwen,
            [run_it] * 9,
            dialect="mtsql_r1",
            max_response_tokens=max_tokens,
            max_step_tokens=1400,
        )
        first = trajectory.steps[0].observation or ""
        left = max_tokens - sequence.step_ends[0] - 1
        told = f"Fewer than {left} tokens are left: write the final SQL now"
        # 47 tokens are used; two messages of 1,400 fit into the rest or do not.
        assert (told in first) is is_told is (left < 2800)


def test_the_budget_of_the_schema_is_in_the_models_tokens(database: Path, qwen: Any) -> None:
    count = token_counter(qwen)
    whole = "shop(id number primary key, name text, city text)"
    for budget, is_whole in ((count(whole), True), (count(whole) - 1, False)):
        _, _, (_, user) = run(database, qwen, says("actions"), max_schema_tokens=budget)
        assert (whole in user["content"]) is is_whole
        assert ("Not shown: " in user["content"]) is not is_whole
