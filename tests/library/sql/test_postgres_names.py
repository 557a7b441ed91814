"""Spellings that try to slip past the rule on names, and texts that it must let through."""

import pytest

from mtsql.sql.postgres_names import FunctionNames

NAMES = FunctionNames(
    [
        ("abs", False),
        ("random", True),
        ("move_stock", True),
        ("Two Words", True),
        ("9to5", True),
        ("été", True),
        ("n" * 63, True),
    ]
)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM pg_stat_activity",
        "SELECT * FROM pg_catalog.pg_locks",
        'SELECT * FROM "pg_locks"',
        "SELECT 'a'||pg_read_file('x')",
        "SELECT 1pg_sleep",
        "SELECT 1e5pg_sleep",
        "SELECT $1pg_sleep",
        "SELECT $$ pg_sleep $$",  # it is a literal here; a lexer that differs might not see one
        "SELECT * FROM _pg_foreign_servers",
        "SELECT 'x' U&\"a\"",
        "SELECT lo_get(1)",
        "SELECT SET_CONFIG('a', 'b', true)",
        "SELECT database_to_xml_and_xmlschema(true, true, '')",
        "SELECT move_stock(1)",
        "SELECT Move_Stock (1)",
        'SELECT "move_stock"(1)',
        'SELECT "move_stock"\n\t (1)',
        "SELECT move_stock/* ( */(1)",
        "SELECT move_stock -- (\n(1)",
        "SELECT (1).move_stock",
        "SELECT (1) . \v move_stock",
        'SELECT (1)."move_stock"',
        "SELECT (1)./**/move_stock",
        "SELECT (1). -- x\n\n move_stock",
        'SELECT "Two Words"(1)',
        'SELECT "9to5"(1)',
        "SELECT ÉTÉ()",
        f"SELECT {'n' * 63}(1)",
        f"SELECT {'n' * 70}(1)",  # the server cuts it to 63
    ],
)
def test_no_spelling_hides_a_name(sql: str) -> None:
    assert NAMES.forbidden(sql) is not None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT abs(1), random()",
        "SELECT move_stock, 'move_stock' FROM stock",
        "SELECT rating FROM film WHERE rating = 'PG-13'",
        "SELECT pg_typeof(1), 1::pg_catalog.int4",
        "SELECT apg_locks, xlo_get, u & y FROM t",
        "SELECT 'DROP TABLE pet; DELETE'",
        f"SELECT {'n' * 62}(1)",
    ],
)
def test_harmless_texts_pass(sql: str) -> None:
    assert NAMES.forbidden(sql) is None
