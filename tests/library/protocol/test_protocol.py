"""The wire format: what is read, what is forgiven, what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsql.protocol import (
    ACTIONS,
    ActionName,
    Answer,
    ParseFailure,
    ToolCall,
    parse_action,
    render_action,
)

PROPOSE_ONE = ToolCall(name=ActionName.PROPOSE, sql="SELECT 1")
EXECUTE = ToolCall(name=ActionName.EXECUTE)

# SQL as the parser hands it over: trimmed, not fenced, with at least one letter.
_sql = (
    st.text(min_size=1)
    .map(str.strip)
    .filter(lambda sql: any(map(str.isalpha, sql)) and not sql.startswith("```"))
)
actions = st.one_of(
    st.just(Answer()),
    st.just(EXECUTE),
    st.builds(ToolCall, name=st.sampled_from([ActionName.PROPOSE, ActionName.CORRECT]), sql=_sql),
    st.builds(
        ToolCall,
        name=st.just(ActionName.VERIFY),
        target=st.sampled_from(["execution", "memory"]),
        verdict=st.sampled_from(["pass", "fail", None]),
    ),
)
fragments = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "</think>",
        '{"name": "propose", "arguments": {"sql": "SELECT 1"}}',
        '{"name":',
        '"',
        "\\",
        "[" * 3000,
        "9" * 5000,
        ",}",
        "```sql",
        "\n",
    ]
)


def call(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@given(actions)
def test_a_rendered_action_is_read_back(action):
    assert parse_action(render_action(action)) == action


@given(actions, st.text(alphabet="ab {}\"'\n,"))
def test_free_text_around_the_call_changes_nothing(action, text):
    assert parse_action(f"<think>{text}</think>{text}{render_action(action)}{text}") == action


@given(st.one_of(st.text(), st.lists(st.one_of(fragments, st.text(max_size=5))).map("".join)))
def test_no_text_raises(text):
    assert isinstance(parse_action(text), ToolCall | Answer | ParseFailure)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (
            ToolCall(name=ActionName.PROPOSE, sql="SELECT 'é'"),
            '<tool_call>\n{"name": "propose", "arguments": {"sql": "SELECT \'é\'"}}\n</tool_call>',
        ),
        (
            ToolCall(name=ActionName.VERIFY, target="execution", verdict="fail"),
            '<tool_call>\n{"name": "verify", "arguments":'
            ' {"target": "execution", "verdict": "fail"}}\n</tool_call>',
        ),
        (Answer(), '<tool_call>\n{"name": "answer", "arguments": {}}\n</tool_call>'),
    ],
)
def test_the_canonical_text_is_fixed(action, text):
    assert render_action(action) == text


@pytest.mark.parametrize(
    "message",
    [
        '<tool_call>{"name": "propose", "arguments": {"sql": "SELECT 1"}}</tool_call>',
        '<tool_call>\n{"name": "propose", "arguments": {"sql": "SELECT 1"}}',
        call('{"arguments": {"sql": "SELECT 1",}, "name": "propose",}'),
        call('{"name": "propose", "arguments": {"sql": "```sql\\nSELECT 1\\n```"}}'),
        call('{"name": "propose", "arguments": {"sql": "```\nSELECT 1```"}}'),
        call('{"name": "propose", "arguments": {"sql": " SELECT 1\n"}}'),
    ],
)
def test_small_slips_are_forgiven(message):
    assert parse_action(message) == PROPOSE_ONE


def test_repair_leaves_text_inside_strings_alone():
    message = call('{"name": "propose", "arguments": {"sql": "SELECT \',}\' AS \\"a\\"",},}')
    assert parse_action(message) == ToolCall(name=ActionName.PROPOSE, sql="SELECT ',}' AS \"a\"")


def test_sql_may_hold_the_tags_themselves():
    action = ToolCall(
        name=ActionName.PROPOSE, sql="SELECT '</tool_call><tool_call></think><think>'"
    )
    assert parse_action(render_action(action)) == action


@pytest.mark.parametrize("thought", ["<think>{}</think>", "{}</think>"])
def test_a_call_inside_the_reasoning_does_not_count(thought):
    # Without its opening tag too: a chat template may already have written <think>.
    thinking = thought.format(render_action(Answer()))
    assert parse_action(f"{thinking}\n{render_action(EXECUTE)}") == EXECUTE
    assert isinstance(parse_action(thinking), ParseFailure)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("SELECT 1", "no tool call"),
        ("", "no tool call"),
        (f"<think>{render_action(Answer())}", "reasoning is not closed"),
        (render_action(EXECUTE) + render_action(EXECUTE), "one action per message"),
        (call("{oops}") + render_action(EXECUTE), "one action per message"),
        (call("{oops}"), "not valid JSON"),
        ("<tool_call>", "not valid JSON"),
        ('<tool_call>{"name": "propose", "arguments": {"sql": "SELECT', "not valid JSON"),
        (call("[" * 100_000), "not valid JSON"),
        (call("[]"), "valid dictionary"),
        (call('{"name": "drop", "arguments": {}}'), "name: Input should be 'propose'"),
        (call('{"arguments": {}}'), "name: Field required"),
        (call('{"name": "execute", "arguments": {"sql": "SELECT 1"}}'), "execute: sql: Extra"),
        (call('{"name": "answer", "arguments": {"sql": "SELECT 1"}}'), "answer: sql: Extra"),
        (call('{"name": "propose", "arguments": {}}'), "propose: sql: Field required"),
        (call('{"name": "propose", "arguments": {"sql": 1}}'), "propose: sql: Input should be"),
        (call('{"name": "propose", "arguments": {"sql": " "}}'), "no statement"),
        (call('{"name": "correct", "arguments": {"sql": "..."}}'), "no statement"),
        (call('{"name": "verify", "arguments": {}}'), "verify: target: Field required"),
        (
            call('{"name": "verify", "arguments": {"target": "memory", "verdict": "no_pass"}}'),
            "verify: verdict: Input should be 'pass' or 'fail'",
        ),
    ],
)
def test_what_cannot_be_read_says_why(message, reason):
    failure = parse_action(message)
    assert isinstance(failure, ParseFailure)
    assert reason in failure.reason
    assert len(failure.reason) <= 200


def test_a_missing_verdict_is_no_verdict():
    action = parse_action(call('{"name": "verify", "arguments": {"target": "execution"}}'))
    assert action == ToolCall(name=ActionName.VERIFY, target="execution", verdict=None)


def test_the_tool_schemas_describe_what_the_parser_takes():
    functions = {tool["function"]["name"]: tool["function"] for tool in ACTIONS.tools}
    assert list(functions) == [str(name) for name in ActionName]
    assert json.loads(json.dumps(ACTIONS.tools)) == list(ACTIONS.tools)
    example = {"sql": "SELECT 1", "target": "memory", "verdict": "pass"}
    for name, function in functions.items():
        parameters = function["parameters"]
        for keys in (parameters["required"], list(parameters["properties"])):
            arguments = {key: example[key] for key in keys}
            message = call(json.dumps({"name": name, "arguments": arguments}))
            assert not isinstance(parse_action(message), ParseFailure)
