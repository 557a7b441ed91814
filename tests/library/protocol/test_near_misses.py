"""Model output that is nearly right: read where its meaning is certain, else told where and why."""

import time
from contextlib import suppress

import pytest

from mtsql.protocol import (
    ACTIONS,
    COCTE,
    DIALECTS,
    MTSQL_R1,
    SHORT_HORIZON,
    ActionName,
    Answer,
    ParseFailure,
    ToolCall,
)
from mtsql.protocol.lenient_json import UnreadableJson, read_json, read_python_call
from mtsql.protocol.sql_text import bare_sql

NAMES = "SELECT name FROM shop"
OSLO = f"{NAMES} WHERE city = 'Oslo'"


def call(body):
    return f"<tool_call>\n{body}\n</tool_call>"


def proposal(sql):
    return ToolCall(name=ActionName.PROPOSE, sql=sql)


# JSON -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql_in_json", "sql"),
    [
        (rf"{NAMES} WHERE city = \'Oslo\'", OSLO),
        (
            r"SELECT a FROM t WHERE n LIKE '%\_%' ESCAPE '\\'",
            r"SELECT a FROM t WHERE n LIKE '%\_%' ESCAPE '\'",
        ),
        (r"SELECT '\d+', '\s', '\%'", r"SELECT '\d+', '\s', '\%'"),
        (r"SELECT '\x41 \u12 \q'", r"SELECT '\x41 \u12 \q'"),
        (
            "SELECT name\n\tFROM shop WHERE city = \\'Oslo\\'",
            "SELECT name\n\tFROM shop WHERE city = 'Oslo'",
        ),
        ("SELECT name \\\nFROM shop", "SELECT name \nFROM shop"),
        (r"SELECT '\u00e9 \ud83d\ude00 \_'", "SELECT '\u00e9 \U0001f600 \\_'"),
        ('SELECT "name", "city" FROM shop', 'SELECT "name", "city" FROM shop'),
        ('SELECT count("name") FROM "shop"', 'SELECT count("name") FROM "shop"'),
        (r"SELECT '</tool_call>' WHERE '\_'", r"SELECT '</tool_call>' WHERE '\_'"),
    ],
)
def test_slips_inside_a_string(sql_in_json, sql):
    body = f'{{"name": "propose", "arguments": {{"sql": "{sql_in_json}"}}}}'
    assert ACTIONS.parse(call(body)).actions == (proposal(sql),)
    other = body.replace("propose", "exec_sql").replace('"sql"', '"code"')
    assert MTSQL_R1.parse(call(other)).actions[0] == proposal(sql)


@pytest.mark.parametrize(
    "body",
    [
        "{“name”: “propose”, “arguments”: {“sql”: “SELECT 1”}}",
        "{‘name’: ‘propose’, ‘arguments’: {‘sql’: ‘SELECT 1’}}",  # noqa: RUF001 - what is tested
        "{'name': 'propose', 'arguments': {'sql': 'SELECT 1'}, 'id': None}",
        '{name: "propose", arguments: {sql: "SELECT 1"}}',
        '{"name": "propose", "arguments": {"sql": """SELECT 1"""}}',
        '{"name": "propose", "arguments": {"sql": "SELECT 1"}',
        '{"name": "propose", "arguments": {"sql": "SELECT 1"',
        '{"name": "propose", "arguments": {"sql": "SELECT 1"}}}',
        '{"name": "propose", "arguments": {"sql": "SELECT 1"}} I wait for the reply.',
        '~~~json\n{"name": "propose", "arguments": {"sql": "SELECT 1",}}\n~~~',
        '````\n{"name": "propose", "arguments": {"sql": "SELECT 1"}}\n````',
        '[{"name": "propose", "arguments": {"sql": "SELECT 1"}}]',
        '{"name": "propose", "arguments": "{\\"sql\\": \\"SELECT 1\\",}"}',
        '{"name": "propose", "arguments": {"sql": "~~~sqlite3\\nSELECT 1\\n~~~"}}',
        '{"name": "propose", "arguments": {"sql": "SELECT 1\\n```"}}',
    ],
)
def test_slips_around_strings(body):
    assert ACTIONS.parse(call(body)).actions == (proposal("SELECT 1"),)


@pytest.mark.parametrize(
    "body",
    [
        '{"tool": "propose", "args": {"query": "SELECT 1"}}',
        '{"tool_name": "propose", "parameters": {"statement": "SELECT 1"}}',
        '{"function": "propose", "input": {"code": "SELECT 1"}}',
        '{"name": "functions.propose", "arguments": {"sql_query": "SELECT 1"}}',
        '{"name": "Propose()", "arguments": {"SQL": "SELECT 1"}}',
        '{"Name": "PROPOSE", "Arguments": {"Query": "SELECT 1"}}',
        '{"id": "call_1", "type": "function", "function": {"name": "propose", "arguments":'
        ' "{\\"sql\\": \\"SELECT 1\\"}"}}',
        '{"name": "propose", "sql": "SELECT 1"}',
        '{"propose": {"sql": "SELECT 1"}}',
    ],
)
def test_keys_that_say_the_same(body):
    assert ACTIONS.parse(call(body)).actions == (proposal("SELECT 1"),)
    run = ToolCall(name=ActionName.EXECUTE)
    other = body.replace("propose", "exec_sql").replace("PROPOSE", "EXEC_SQL")
    assert MTSQL_R1.parse(call(other.replace("Propose", "Exec_SQL"))).actions == (
        proposal("SELECT 1"),
        run,
    )


def test_the_other_words_of_a_view_and_a_verdict():
    body = '{"tool": "propose", "args": {"view_name": "big", "query": "SELECT 1"}}'
    view = ToolCall(name=ActionName.PROPOSE, sql="SELECT 1", view="big")
    assert COCTE.parse(call(body)).actions == (view,)
    body = '{"name": "verify", "arguments": {"Target": "Execution", "verdict": " PASS"}}'
    verdict = ToolCall(name=ActionName.VERIFY, target="execution", verdict="pass")
    assert ACTIONS.parse(call(body)).actions == (verdict,)
    for nothing in ("null", '""', "[]", "{}"):
        body = f'{{"name": "answer", "arguments": {nothing}}}'
        assert ACTIONS.parse(call(body)).actions == (Answer(),)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        # Two words for one key: which of them is meant is not certain.
        (
            '{"name": "propose", "arguments": {"query": "SELECT 1", "code": "SELECT 2"}}',
            "sql: Field required",
        ),
        (
            '{"name": "propose", "arguments": {"sql": "SELECT 1", "query": "SELECT 2"}}',
            "query: Extra",
        ),
        ('{"name": "propose", "tool": "answer", "arguments": {"sql": "SELECT 1"}}', "tool: Extra"),
        (
            '{"name": "propose", "arguments": {"sql": "SELECT 1"}, "parameters": {}}',
            "parameters: Extra",
        ),
        ('{"name": "execute", "sql": "SELECT 1"}', "sql: Extra"),
        (
            '{"name": "propose", "arguments": {"sql": "SELECT 1}}',
            "string that does not end at character 42",
        ),
        (
            '{"name": "propose", "arguments": {"sql": SELECT 1}}',
            "a value without quotes at character 42, in",
        ),
        ('{"name" "propose"}', "no colon behind 'name' at character 9, in"),
        ('{"name": "propose" "arguments": {}}', "no comma and no } at character 20, in"),
    ],
)
def test_what_is_not_certain_is_refused_with_place_and_reason(body, reason):
    (failure,) = ACTIONS.parse(call(body)).actions
    assert isinstance(failure, ParseFailure)
    assert reason in failure.reason
    assert len(failure.reason) <= 220


def test_a_call_that_was_cut_off_is_not_completed():
    for end in ("", "}", "}}"):
        message = f'<tool_call>\n{{"name": "propose", "arguments": {{"sql": "SELECT 1"{end}'
        (action,) = ACTIONS.parse(message).actions
        assert isinstance(action, ParseFailure) is (end != "}}")


@pytest.mark.parametrize(
    "text",
    [
        '{"' + '"' * 100_000,
        '{"a": "' + '",x' * 30_000,
        '{"a": "' + '" ' * 30_000,
        '{"a": "' + '" ,"aaaaaaaa' * 10_000,
        '{"a": "' + "\\" * 100_000,
        "[" * 100_000,
        "{'a': '" + "\\'" * 50_000,
        "{\u201ca" * 10_000,
    ],
    ids=lambda text: text[:12],
)
def test_long_nonsense_is_read_in_no_time(text):
    start_s = time.process_time()
    with suppress(UnreadableJson):
        read_json(text, stop=len(text))
    with suppress(UnreadableJson):
        read_python_call(f"f(a={text}")
    assert time.process_time() - start_s < 2


def test_a_call_in_python():
    text = "propose(sql='it\\'s \"x\"', n=-1.5, flag=True)"
    assert read_python_call(text) == (
        "propose",
        {"sql": 'it\'s "x"', "n": -1.5, "flag": True},
        len(text),
    )
    assert read_python_call("a.b.f()")[:2] == ("a.b.f", {})
    assert read_python_call("f(sql='SELECT 'a' FROM t')")[1] == {"sql": "SELECT 'a' FROM t"}
    for text in ("f('a')", "f(a=b)", "f(a=1", "f", "f(a=g())"):
        with pytest.raises(UnreadableJson):
            read_python_call(text)


# Fences and prose -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        f"```sqlite3\n{NAMES}\n```",
        f"```sql (SQLite)\n{NAMES}\n```",
        f"```SQL\n{NAMES}\n```",
        f"```sql title=\"answer.sql\" hl_lines='1'\n{NAMES}\n```",
        f"```{{.sql .numberLines}}\n{NAMES}\n```",
        f"```postgresql-16\n{NAMES}\n```",
        f"~~~\n{NAMES}\n~~~",
        f"~~~ sql\n{NAMES};\n~~~",
        f"````sql\n{NAMES}\n````",
        f"````sql\n{NAMES}\n```",
        f"```sql\n{NAMES}\n````",
        f"   ```sql\n   {NAMES}\n   ```",
        f"```sql {NAMES}```",
        f"```{NAMES}```",
        f"```\nsql\n{NAMES}\n```",
        f"```sql\nThe query is:\n{NAMES}\n```",
        f"```sql\n{NAMES}",
        f"{NAMES}\n```",
        f"~~~sql\n{NAMES}\n```",
        f"```text\nno query\n```\n```sqlite\n{NAMES}\n```",
    ],
)
def test_a_query_in_any_fence(message):
    assert SHORT_HORIZON.parse(message).actions == (proposal(NAMES), Answer())


def test_a_fence_holds_a_shorter_one():
    sql = "SELECT '```' AS fence"
    assert SHORT_HORIZON.parse(f"````sql\n{sql}\n````").actions[0] == proposal(sql)
    assert SHORT_HORIZON.parse(f"~~~sql\n{sql}\n~~~").actions[0] == proposal(sql)


@pytest.mark.parametrize(
    ("message", "sql"),
    [
        (f"The final SQL is:\n{NAMES};", NAMES),
        (f"The final SQL is: {NAMES}", NAMES),
        (f"**Final SQL:** {NAMES};", NAMES),
        (f"Here it comes\n\n{NAMES};\n\nIt lists all shops.", NAMES),
        (f"To list them, I look at shop.\n{NAMES}\n\nThis lists the names.", NAMES),
        (f"{NAMES}\n\nThis lists the names of all shops.", NAMES),
        (f"First I thought of this:\nSELECT 2\nBut it is this:\n{NAMES}\n", NAMES),
        (f"First SELECT 2; but then:\n{NAMES};", NAMES),
        (f"With the schema in mind:\n{NAMES}", NAMES),
        (f"The query is `{NAMES};`.", NAMES),
        ("It is:\nSELECT id FROM shop\nUNION\nSELECT 2", "SELECT id FROM shop\nUNION\nSELECT 2"),
        (
            "It is:\nWITH a AS (\nSELECT 1\n)\nSELECT * FROM a",
            "WITH a AS (\nSELECT 1\n)\nSELECT * FROM a",
        ),
        ("It is:\nSELECT ': SELECT 1'", "SELECT ': SELECT 1'"),
    ],
)
def test_prose_before_and_behind_the_query(message, sql):
    assert SHORT_HORIZON.parse(message).actions == (proposal(sql), Answer())


@pytest.mark.parametrize(
    "message",
    [
        "I would select the names from the shop table.",
        "The answer is: select",
        "Values: Oslo, Paris.",
        "With pleasure:\nthere are two.",
        "<think>It is:\nSELECT 1</think>There are two.",
        "The query is:\nDELETE FROM shop",
        "`SELECT`",
    ],
)
def test_prose_alone_is_no_query(message):
    (failure,) = SHORT_HORIZON.parse(message).actions
    assert isinstance(failure, ParseFailure)
    assert "no query; write one SQL query" in failure.reason


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("```sqlite3\nDELETE FROM shop\n```", "DELETE FROM shop"),
        ("```sql\nDELETE FROM shop", "DELETE FROM shop"),
        ("~~~ sql (draft)\nDELETE FROM shop\n~~~", "DELETE FROM shop"),
        ("DELETE FROM shop", "DELETE FROM shop"),
        ("```DELETE FROM shop```", "DELETE FROM shop"),
        ("SELECT '\n```'", "SELECT '\n```'"),
    ],
)
def test_a_fence_around_any_statement(text, sql):
    assert bare_sql(text) == sql


@pytest.mark.parametrize("name", DIALECTS)
def test_json_without_a_tag_is_no_call(name):
    for key in ("arguments", "parameters"):
        body = f'{{"name": "propose", "{key}": {{"sql": "SELECT 1 AS a"}}}}'
        assert isinstance(DIALECTS[name].parse(body).actions[0], ParseFailure)
