"""The dialects beside `actions`: what is read, what is forgiven, what is refused."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from mtsql.protocol.sql_text import first_statement, is_query
from mtsql.shown.harmless import begins_a_tag, neutral, to_json

ONE = "SELECT 1"
PROPOSE = ToolCall(name=ActionName.PROPOSE, sql=ONE)
EXECUTE = ToolCall(name=ActionName.EXECUTE)
LOOK = ToolCall(name=ActionName.VERIFY, target="memory")
PASS = ToolCall(name=ActionName.VERIFY, target="execution", verdict="pass")
FAIL = ToolCall(name=ActionName.VERIFY, target="execution", verdict="fail")
COHERENT = ToolCall(name=ActionName.VERIFY, target="memory", verdict="pass")


def call(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


EXEC_ONE = call('{"name": "exec_sql", "arguments": {"code": "SELECT 1"}}')


# Reading back what was rendered -----------------------------------------------------------------

_sql = (
    st.text(min_size=1)
    .map(str.strip)
    .filter(lambda sql: any(map(str.isalpha, sql)) and not sql.startswith("```"))
)
# Bare SQL stands between tags or fences, so it cannot hold these; no query does.
_bare = st.builds(
    lambda text: f"SELECT '{text}'",
    st.text().filter(lambda text: not any(one in text for one in ("'", "`", "<", "\\", "\x00"))),
)
_verdict = st.sampled_from(["pass", "fail"])
_verdicts = st.lists(st.sampled_from(["execution", "memory"]), unique=True, max_size=2).flatmap(
    lambda targets: st.tuples(
        *(
            st.builds(
                ToolCall, name=st.just(ActionName.VERIFY), target=st.just(one), verdict=_verdict
            )
            for one in sorted(targets)
        )
    )
)
_proposal = st.builds(ToolCall, name=st.just(ActionName.PROPOSE), sql=_sql)
_bare_proposal = st.builds(ToolCall, name=st.just(ActionName.PROPOSE), sql=_bare)
_name = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
_single = [
    st.just(Answer()),
    st.just(EXECUTE),
    st.builds(
        ToolCall,
        name=st.just(ActionName.VERIFY),
        target=st.sampled_from(["execution", "memory"]),
        verdict=st.sampled_from(["pass", "fail", None]),
    ),
]
MESSAGES = {
    "actions": st.tuples(
        st.one_of(
            *_single,
            st.builds(
                ToolCall, name=st.sampled_from([ActionName.PROPOSE, ActionName.CORRECT]), sql=_sql
            ),
        )
    ),
    "mtsql_r1": st.one_of(
        st.tuples(_verdicts, _proposal, st.sampled_from([EXECUTE, LOOK])),
        st.tuples(_verdicts, _bare_proposal, st.just(Answer())),
    ).map(lambda parts: (*parts[0], *parts[1:])),
    "cocte": st.tuples(
        st.one_of(
            *_single,
            st.builds(
                ToolCall,
                name=st.just(ActionName.CORRECT),
                sql=_sql.filter(lambda sql: not sql.endswith(";")),
            ),
            st.builds(
                ToolCall,
                name=st.just(ActionName.PROPOSE),
                sql=_sql.filter(lambda sql: not sql.endswith(";")),
                view=_name,
            ),
        )
    ),
    "short_horizon": st.tuples(_bare_proposal, st.just(Answer())),
}


@pytest.mark.parametrize("name", DIALECTS)
@given(data=st.data())
def test_rendered_actions_are_read_back(name, data):
    actions = data.draw(MESSAGES[name])
    dialect = DIALECTS[name]
    reading = dialect.parse(dialect.render(actions))
    assert (reading.actions, reading.ignored) == (actions, ())
    thinking = f"<think>\n{dialect.render(actions)}\n</think>\n\n"
    assert dialect.parse(thinking + dialect.render(actions)).actions == actions
    assert isinstance(dialect.parse(thinking).actions[0], ParseFailure)


fragments = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "</think>",
        "<exec_verify>",
        "</exec_verify>",
        "<memory_verify>no_pass",
        "<answer_sql>",
        "</answer_sql>",
        '{"name": "exec_sql", "arguments": {"code": "SELECT 1"}}',
        "{'name': 'propose', 'arguments': {'name': 'a', 'sql': 'SELECT 1'}}",
        '{"name": "exec_sql", "arguments": "',
        "pass",
        '"',
        "'",
        "\\",
        "[" * 3000,
        "(" * 3000,
        "9" * 5000,
        ",}",
        "```sql",
        "```",
        "SELECT 1;",
        "\n",
    ]
)


@pytest.mark.parametrize("name", DIALECTS)
@given(text=st.one_of(st.text(), st.lists(st.one_of(fragments, st.text(max_size=5))).map("".join)))
def test_no_text_raises(name, text):
    actions = DIALECTS[name].parse(text).actions
    assert actions
    assert all(isinstance(one, ToolCall | Answer) for one in actions) or len(actions) == 1


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "text",
    [
        "<exec_verify>pass" + " " * 20_000 + "x",
        "<exec_verify>" * 2_000,
        "<answer_sql>" * 2_000,
        "<tool_call>{" * 2_000,
        "<tool_call>{'" + "\\'" * 20_000,
        "<tool_call>{" + "'\\'" * 20_000,
        "```" * 7_000,
        "/*" * 10_000,
        "(" * 20_000,
    ],
    ids=lambda text: text[:20].strip(),
)
def test_long_nonsense_is_read_in_no_time(name, text):
    start_s = time.process_time()
    DIALECTS[name].parse(text)
    assert time.process_time() - start_s < 1


@pytest.mark.parametrize("name", ["actions", "mtsql_r1", "cocte"])
def test_the_tool_schemas_describe_what_the_parser_takes(name):
    dialect = DIALECTS[name]
    assert json.loads(json.dumps(dialect.tools)) == list(dialect.tools)
    example = {"sql": ONE, "code": ONE, "name": "a", "target": "memory", "verdict": "pass"}
    for tool in dialect.tools:
        function = tool["function"]
        parameters = function["parameters"]
        for keys in (parameters["required"], list(parameters["properties"])):
            arguments = {key: example[key] for key in keys}
            message = call(json.dumps({"name": function["name"], "arguments": arguments}))
            assert not isinstance(dialect.parse(message).actions[0], ParseFailure)


def test_the_fixed_texts_are_those_of_the_wire():
    rendered = {
        "actions": [(PROPOSE,), (EXECUTE,), (Answer(),), (FAIL,), (LOOK,)],
        "mtsql_r1": [(PASS, PROPOSE, LOOK), (COHERENT, PROPOSE, EXECUTE), (PROPOSE, Answer())],
        "cocte": [
            (ToolCall(name=ActionName.PROPOSE, sql=ONE, view="a"),),
            (EXECUTE,),
            (LOOK,),
            (FAIL,),
        ],
        "short_horizon": [(PROPOSE, Answer())],
    }
    for name, messages in rendered.items():
        dialect = DIALECTS[name]
        for actions in messages:
            assert any(text in dialect.render(actions) for text in dialect.fixed_texts)
    assert SHORT_HORIZON.tools == ()
    assert ACTIONS.fixed_texts[-1] == '"}}\n</tool_call>'


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_question_and_no_cell_holds_a_fixed_text(dialect: str) -> None:
    for text in DIALECTS[dialect].fixed_texts:
        assert begins_a_tag(text)
        for said in (text, f"a{text}b", text * 2, f"<{text}`", f"``{text}"):
            assert not begins_a_tag(neutral(said))
            assert text not in f"\n{neutral(said)}\n"
            if DIALECTS[dialect].reply_role:
                assert text not in to_json({"rows": [[said], [said]]})


# What models really write -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        EXEC_ONE,
        EXEC_ONE.removesuffix("\n</tool_call>"),
        f"```json\n{EXEC_ONE}\n```",
        call('```json\n{"name": "exec_sql", "arguments": {"code": "SELECT 1"}}\n```'),
        call('{"name": "exec_sql", "arguments": {"code": "SELECT 1",},}'),
        call("{'name': 'exec_sql', 'arguments': {'code': 'SELECT 1'}}"),
        call("```json\n{'name': 'exec_sql', 'arguments': {'code': 'SELECT 1',}}\n```"),
        call('{"name": "exec_sql", "arguments": "{\\"code\\": \\"SELECT 1\\"}"}'),
        call('{"name": "exec_sql", "arguments": {"code": "```sql\\nSELECT 1\\n```"}}'),
        call('{"name": "exec_sql", "arguments": {"code": "```sql\nSELECT 1"}}'),
        f"I count.\n{EXEC_ONE}\nNow I wait.",
        f"I thought of <answer_sql>.</think>{EXEC_ONE}",
    ],
)
def test_slips_around_a_call_are_forgiven(message):
    assert MTSQL_R1.parse(message).actions == (PROPOSE, EXECUTE)
    other = message.replace("exec_sql", "propose").replace("code", "sql")
    assert ACTIONS.parse(other).actions == (PROPOSE,)


@pytest.mark.parametrize(
    ("code", "sql"),
    [
        (r"'SELECT \'a\''", "SELECT 'a'"),
        (r"""'SELECT "a"'""", 'SELECT "a"'),
        (r"""'SELECT \"a\"'""", 'SELECT "a"'),
        ("\"SELECT 'a'\"", "SELECT 'a'"),
        (r"'SELECT\n1'", "SELECT\n1"),
        ("'SELECT ,}'", "SELECT ,}"),
    ],
)
def test_single_quotes_keep_the_sql(code, sql):
    message = call(f"{{'name': 'exec_sql', 'arguments': {{'code': {code}}}}}")
    assert MTSQL_R1.parse(message).actions[0] == ToolCall(name=ActionName.PROPOSE, sql=sql)


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("<exec_verify>pass</exec_verify>", (PASS,)),
        ("<exec_verify>\n no_pass \n</exec_verify>", (FAIL,)),
        ("<exec_verify>No Pass", (FAIL,)),
        ("<exec_verify> pass\nThe result fits.", (PASS,)),
        ('<EXEC_VERIFY>"pass".</EXEC_VERIFY>', (PASS,)),
        ("<exec_verify>no_pass</exec_verify> no: <exec_verify>pass</exec_verify>", (PASS,)),
        ("<memory_verify>pass</memory_verify><exec_verify>pass</exec_verify>", (PASS, COHERENT)),
        ("<exec_verify>pass/no_pass</exec_verify>", ()),
        ("<exec_verify>...</exec_verify>", ()),
        ("<exec_verify></exec_verify>", ()),
        ("<exec_verify>passes the test</exec_verify>", ()),
        ("<think><exec_verify>pass</exec_verify></think>", ()),
        ("exec_verify: pass", ()),
    ],
)
def test_verdicts(text, verdicts):
    # A missing verdict is no verdict.
    assert MTSQL_R1.parse(text + EXEC_ONE).actions == (*verdicts, PROPOSE, EXECUTE)
    answer = f"{text}\n<answer_sql>SELECT 1</answer_sql>"
    assert MTSQL_R1.parse(answer).actions == (*verdicts, PROPOSE, Answer())


def test_nothing_behind_a_call_is_believed():
    invented = (
        "\n<tool_response>1</tool_response><exec_verify>pass</exec_verify>"
        f"<answer_sql>SELECT 2</answer_sql>{EXEC_ONE}"
    )
    reading = MTSQL_R1.parse(EXEC_ONE + invented)
    assert reading.actions == (PROPOSE, EXECUTE)
    assert reading.ignored == (
        "only the first tool call of a message is run",
        "an answer beside a tool call is not read",
        "a verdict behind a tool call is not read",
    )


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("<answer_sql>SELECT 1</answer_sql>", ONE),
        ("<answer_sql>\n```sql\nSELECT 1;\n```\n</answer_sql>", ONE),
        ("<answer_sql>SELECT 1", ONE),
        ("<answer_sql>SELECT 2</answer_sql> or <answer_sql>SELECT 1</answer_sql>", ONE),
        ("<answer_sql>SELECT 1</answer_sql>, that is <answer_sql>...</answer_sql>", ONE),
        ("<think><answer_sql>SELECT 2</answer_sql></think><answer_sql>SELECT 1</answer_sql>", ONE),
        ("<answer_sql>(select 1)</answer_sql>", "(select 1)"),
        ("<answer_sql>-- one\nSELECT 1</answer_sql>", "-- one\nSELECT 1"),
    ],
)
def test_the_last_answer_that_holds_a_query_counts(text, sql):
    proposal = ToolCall(name=ActionName.PROPOSE, sql=sql)
    assert MTSQL_R1.parse(text).actions == (proposal, Answer())


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "no tool call and no answer"),
        ("SELECT 1", "no tool call and no answer"),
        ("<exec_verify>pass</exec_verify><answer_sql>SQL</answer_sql>", "holds no query"),
        *(
            (f"<answer_sql>{text}</answer_sql>", "answer_sql holds no query")
            for text in ("", "...", "SQL", "your SQL here", "SELECT ...", "```sql\n```")
        ),
        (f"<think>{EXEC_ONE}", "reasoning is not closed"),
        (call("{oops}"), "not valid JSON"),
        (call("[" * 100_000), "not valid JSON"),
        (call("[]"), "valid dictionary"),
        (call('{"name": "propose", "arguments": {"sql": "SELECT 1"}}'), "'exec_sql' or"),
        (call('{"name": "exec_sql", "arguments": {}}'), "exec_sql: code: Field required"),
        (call('{"name": "exec_sql", "arguments": {"text": "SELECT 1"}}'), "exec_sql: code:"),
        (call('{"name": "exec_sql", "arguments": "SELECT 1"}'), "arguments: Input should be"),
        *(
            (call(json.dumps({"name": name, "arguments": {"code": code}})), "holds no statement")
            for name in ("exec_sql", "memory_retrieve")
            for code in ("", "...", "SQL", "<your sql>")
        ),
    ],
)
def test_what_cannot_be_read_says_why(message, reason):
    (failure,) = MTSQL_R1.parse(message).actions
    assert isinstance(failure, ParseFailure)
    assert reason in failure.reason
    assert len(failure.reason) <= 200


# SQL only ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        ONE,
        " SELECT 1 ;\n",
        "```sql\nSELECT 1\n```",
        "```\nSELECT 1```",
        "```sql\nSELECT 1",
        "SQL: SELECT 1",
        "Final SQL query: SELECT 1",
        "SELECT 1; this counts",
        "I first thought of\n```sql\nSELECT 2\n```\nbut it is\n```sql\nSELECT 1\n```\n",
        "The query:\n```sql\nSELECT 1\n```\nIts result:\n```\n1\n```",
        "<think>SELECT 2</think>SELECT 1",
        "SELECT 2</think>\n\nSELECT 1",
    ],
)
def test_one_query_is_the_answer(message):
    assert SHORT_HORIZON.parse(message).actions == (PROPOSE, Answer())


@pytest.mark.parametrize(
    "message",
    [
        "",
        "...",
        "SQL",
        "There are two.",
        "<think>SELECT 1",
        "```sql\n```",
        "SELECT ...",
        "withal 1",
    ],
)
def test_a_message_without_a_query_is_no_answer(message):
    assert isinstance(SHORT_HORIZON.parse(message).actions[0], ParseFailure)


def test_where_a_statement_ends():
    assert first_statement("SELECT ';' -- ;\n; SELECT 2") == "SELECT ';' -- ;"
    assert first_statement("SELECT 'open") == "SELECT 'open"
    assert is_query("/* a */ WITH a AS (SELECT 1) SELECT * FROM a")
    assert not is_query("DROP TABLE shop")


def test_a_view_loses_the_semicolon_that_would_end_the_chain():
    message = call('{"name": "propose", "arguments": {"name": " a ", "sql": "SELECT 1;\\n"}}')
    assert COCTE.parse(message).actions == (ToolCall(name=ActionName.PROPOSE, sql=ONE, view="a"),)
