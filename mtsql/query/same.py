"""When two texts are the same SQL: the one rule by which the environment and the rewards count.

Same are texts of the same words in the same order. Comments, blanks, semicolons at the end and the
case of names and keywords do not count. The case of text values does: the database looks at it.

    SELECT a FROM t      select A from T ; -- a    same
    SELECT 'a'           SELECT 'A'                different
    SELECT m = "May"     SELECT m = 'May'          same: SQLite compares with a text
    SELECT 1; SELECT 2   SELECT 1                  different: the first is refused when it runs

EX has its own rule (`mtsql.evaluation.ex.text.same_tokens`), because it gives a verdict
without running a query: there two texts may only be the same if nothing can tell their rows apart.
Here no schema is known, so a name in double quotes counts as a text wherever a comparison or a
list after IN has its value; it costs nothing but one more query or verdict if it is a column.
"""

from collections.abc import Sequence
from functools import lru_cache

from sqlglot import TokenType

from mtsql.query.reading import tokens_of
from mtsql.query.texts import texts_by_place


def same_statement(one: str, other: str) -> bool:
    """Whether both texts say the same; texts that cannot be cut into words may differ in blanks."""
    return one == other or words(one) == words(other)


def first_uses(proposals: Sequence[str]) -> tuple[int, ...]:
    """For each proposal the index of the first one that says the same.

    Example: SELECT 1, SELECT 2, select 1 -- again
        0 1 0
    """
    seen: dict[tuple[str, ...], int] = {}
    return tuple(seen.setdefault(words(sql), index) for index, sql in enumerate(proposals))


@lru_cache(maxsize=8192)
def words(sql: str) -> tuple[str, ...]:
    """Names and keywords in lower case, texts in single quotes; in one piece if it has no words."""
    tokens = tokens_of(sql)
    if tokens is None:
        return (" ".join(sql.split()),)
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    return tuple(
        f"'{token.text}'" if is_text else token.text.lower()
        for token, is_text in zip(tokens, texts_by_place(sql, tokens), strict=True)
    )
