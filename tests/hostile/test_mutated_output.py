"""Messages as models write them, changed at random: no text raises, and nothing is read that the
model did not write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsql.protocol import (
    ACTIONS,
    CALL_FORMATS,
    DIALECTS,
    ActionName,
    Answer,
    Dialect,
    ToolCall,
)

SQL = "SELECT T1.name, count(*) FROM shop AS T1 WHERE T1.city = 'Oslo' AND note LIKE '%\"x\"_%'"
SAMPLED = [
    # The demo's policy at temperature 1, where it goes wrong and where it does not.
    'rowsSELECT color FROM team"}}\n</tool_call>',
    '<tool_call>\n{"name": "propose", "arguments": {"sql": "SELECT max(age) FROM patient GROUP BY '
    "age DESC LIMIT",
    '<tool_call>\n{"name": "correct", "arguments": {"sql": "SELECT type, count(*) FROM product '
    "JOIN shop ON product.shop_id = shop.id WHERE product.price < (SELECT avg(price",
    '<tool_call>\n{"name": "verify", "arguments": {"target": "memory", "verdict": "fail"}}\n'
    "</tool_call>",
]
MESSAGES = {
    "actions": [(ToolCall(name=ActionName.PROPOSE, sql=SQL),), (Answer(),)],
    "mtsql_r1": [
        (ToolCall(name=ActionName.PROPOSE, sql=SQL), ToolCall(name=ActionName.EXECUTE)),
    ],
    "cocte": [(ToolCall(name=ActionName.PROPOSE, sql=SQL, view="here"),), (Answer(),)],
    "short_horizon": [(ToolCall(name=ActionName.PROPOSE, sql=SQL), Answer())],
}
SPOKEN = [
    *((ACTIONS, text) for text in SAMPLED),
    *(
        (spoken, spoken.render(actions))
        for name, messages in MESSAGES.items()
        for spoken in [DIALECTS[name].in_format(one) for one in CALL_FORMATS.values()]
        for actions in messages
    ),
]
"""Each with the dialect that is to read it."""
PIECES = [
    *("'", '"', "\\", "`", "{", "}", "[", "]", "(", ")", ",", ":", "<", ">", "|", "\n", "\0"),
    *("\u201c", "\u2019", "```", "```sql\n", "~~~", "<tool_call>", "</tool_call>", "<think>"),
    *(
        "</think>",
        "<|im_end|>",
        "null",
        "--",
        "/*",
        "SELECT 1;",
        "Here is the query:\n",
        "```json\n",
    ),
]


def mutated(draw: st.DrawFn, text: str) -> str:
    """One to four places cut, doubled, replaced or joined by what models add."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 2, 9, len(text)])))
        put = draw(st.one_of(st.sampled_from(PIECES), st.just(""), st.just(text[start:end] * 2)))
        text = text[:start] + put + text[end:]
    return draw(st.sampled_from([text, text, text, text.upper(), text.replace('"', "'")]))


def is_written_in(sql: str, message: str) -> bool:
    """The letters, digits and marks of a query stand in the message in their order; white space,
    quotes and backslashes may have been spelled otherwise."""
    rest = iter(message)
    return all(one in rest for one in sql if not one.isspace() and one not in "'\"\\")


@settings(max_examples=400)
@given(data=st.data())
def test_nothing_is_read_that_was_not_written(data: st.DataObject) -> None:
    dialect, text = data.draw(st.sampled_from(range(len(SPOKEN))).map(SPOKEN.__getitem__))
    message = data.draw(st.composite(mutated)(text))
    check(dialect, message)


def check(dialect: Dialect, message: str) -> None:
    actions = dialect.parse(message).actions
    assert actions
    queries = [one.sql for one in actions if isinstance(one, ToolCall) and one.sql is not None]
    for sql in queries:
        assert is_written_in(sql, message)
    # What is read says the same in the canonical form.
    said = tuple(one for one in actions if isinstance(one, ToolCall | Answer))
    if len(said) == len(actions):
        assert dialect.parse(dialect.render(said)).actions == said


@pytest.mark.parametrize(("dialect", "text"), SPOKEN, ids=lambda one: getattr(one, "name", ""))
def test_what_is_not_changed_is_read_as_it_is(dialect: Dialect, text: str) -> None:
    check(dialect, text)


def test_the_measure_itself() -> None:
    assert is_written_in("SELECT 'a'", 'say "SELECT \\"a\\""')
    assert not is_written_in("SELECT b", "SELECT a")
    assert not is_written_in("SELECT a a", "SELECT a")
