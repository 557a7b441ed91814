"""Prompts: whole texts, and names in them that cannot speak the protocol."""

from typing import get_args

import pytest

from envs import prompts
from envs.prompts import prompt_messages, prompt_version
from helpers.shops import IN_PARIS, SALES_SCHEMA, SALES_SECOND
from mtsql.config.environment import DialectName
from mtsql.dialogue import PastTurn
from mtsql.protocol import DIALECTS, ActionName
from mtsql.schema import Column, Schema, Table
from mtsql.shown.harmless import neutral
from mtsql.shown.schema import compact_schema, full_schema

QUESTION = "show all shops in Paris"


def test_the_compact_prompt_is_one_short_message():
    messages = prompt_messages(
        "compact",
        schema=SALES_SCHEMA,
        history=SALES_SECOND.history,
        question=SALES_SECOND.turn.question,
        max_steps=8,
    )
    assert messages == [
        {
            "role": "user",
            "content": "shop : id , name , city | sale : id , shop_id = shop.id , price\n"
            f"q: show all shops in Paris a: {IN_PARIS}\n"
            "q: how many are there ?",
        }
    ]


def test_the_compact_prompt_of_a_short_horizon_goes_on_from_the_turn_before_it():
    def prompt(history: tuple[PastTurn, ...], question: str) -> list[dict[str, str]]:
        return prompt_messages(
            "compact",
            dialect="short_horizon",
            schema=SALES_SCHEMA,
            history=history,
            question=question,
            max_steps=1,
        )

    first = PastTurn(question="all  shops ?", sql="SELECT name FROM shop")
    second = PastTurn(question="only in <Paris>", sql=IN_PARIS)
    asked = "shop : id , name , city | sale : id , shop_id = shop.id , price\nq: all shops ?"
    assert prompt((), first.question) == [{"role": "user", "content": asked}]
    conversation = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": "```sql\nSELECT name FROM shop\n```"},
        {"role": "user", "content": "q: only in < Paris>"},
        {"role": "assistant", "content": f"```sql\n{IN_PARIS}\n```"},
        {"role": "user", "content": "q: how many ?"},
    ]
    assert prompt((first,), second.question) == conversation[:3]
    assert prompt((first, second), "how many ?") == conversation


def test_the_full_prompt_tells_the_task_and_the_data():
    system, user = prompt_messages(
        "full",
        schema=SALES_SCHEMA,
        history=SALES_SECOND.history,
        question=SALES_SECOND.turn.question,
        max_steps=6,
    )
    assert (system["role"], user["role"]) == ("system", "user")
    assert all(f"- {name}(" in system["content"] for name in ActionName)
    assert "at most 6 messages" in system["content"]
    assert user["content"] == (
        "Database schema:\n"
        "shop(id number primary key, name text, city text)\n"
        "sale(id number primary key, shop_id number -> shop.id, price number)\n\n"
        "Earlier questions of this dialogue:\n"
        f"Q: show all shops in Paris\nSQL: {IN_PARIS}\n\n"
        "Question: how many are there ?"
    )


def test_an_earlier_turn_without_an_answer_says_so():
    history = (PastTurn(question="any ?", sql=""),)
    _, user = prompt_messages(
        "full", schema=SALES_SCHEMA, history=history, question="?", max_steps=8
    )
    assert "Q: any ?\nSQL: (no answer)\n" in user["content"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a<b  <|im_end|>", "a< b < |im_end|>"),
        ("x < 5 AND y <= 6 OR z <> 'a' AND w<5", "x < 5 AND y <= 6 OR z <> 'a' AND w<5"),
        ("</tool_call>\n<<think>", "< /tool_call> << think>"),
        (" a\u2028b\U000e0041\x00c ", "a b c"),
        ("<\u200b|im_end|>", "< |im_end|>"),
        ("a\ufe01\ufe0fb", "a b"),
    ],
)
def test_prompt_text_cannot_open_a_token(text, line):
    assert neutral(text) == line
    assert neutral(line) == line


def test_schema_names_are_neutral_too():
    column = Column(name="<|im_end|>", type="text")
    schema = Schema(db_id="x", tables=(Table(name="</tool_response>", columns=(column,)),))
    assert compact_schema(schema) == '"< /tool_response>" : "< |im_end|>"'
    assert full_schema(schema) == '"< /tool_response>"("< |im_end|>" text)'


@pytest.mark.parametrize("prompt", ["full", "m_schema"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_tells_its_tools_and_tags(prompt, dialect):
    messages = prompt_messages(
        prompt,
        dialect=dialect,
        schema="THE SCHEMA",
        history=SALES_SECOND.history,
        question=SALES_SECOND.turn.question,
        max_steps=6,
    )
    text = "\n".join(message["content"] for message in messages)
    assert f"schema:\nTHE SCHEMA\n\nEarlier questions of this dialogue:\nQ: {QUESTION}" in text
    assert text.lower().endswith("question: how many are there ?")
    for tool in DIALECTS[dialect].tools:
        assert tool["function"]["name"] in text
    assert ("at most 6 messages" in text) is (dialect != "short_horizon")
    tags = ("<exec_verify>", "<memory_verify>", "<answer_sql>")
    assert [tag in text for tag in tags] == [dialect == "mtsql_r1"] * 3
    # MTSQL-R1 has no system message.
    assert len(messages) == (1 if dialect == "mtsql_r1" else 2)


def test_a_prompt_has_a_version():
    dialects = get_args(DialectName)
    versions = {prompt_version("compact"), *(prompt_version("full", one) for one in dialects)}
    assert len(versions) == 1 + len(dialects)
    assert all(len(version) == 12 for version in versions)
    for dialect in dialects:
        # The data that a prompt shows, and how, is the recipe's business.
        assert prompt_version("m_schema", dialect) == prompt_version("full", dialect)
        assert prompt_version("compact", dialect) == prompt_version("compact")


def test_the_words_of_a_reply_are_part_of_the_version(monkeypatch):
    version = prompt_version("full", "mtsql_r1")
    original = prompts.prompt_file
    monkeypatch.setattr(
        prompts,
        "prompt_file",
        lambda name: original(name) + ("!" if name == "mtsql_r1_replies" else ""),
    )
    assert prompt_version("full", "mtsql_r1") != version
