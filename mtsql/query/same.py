"""When two texts are the same SQL."""

from collections.abc import Sequence
from functools import lru_cache

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError


def first_uses(proposals: Sequence[str]) -> tuple[int, ...]:
    """For each proposal the index of the first one that says the same.

    Example: SELECT 1, SELECT 2, select 1 -- again
        0 1 0
    """
    seen: dict[tuple[str, ...], int] = {}
    return tuple(seen.setdefault(_words(sql), index) for index, sql in enumerate(proposals))


_COMPARISONS = (
    TokenType.EQ,
    TokenType.NEQ,
    TokenType.LT,
    TokenType.LTE,
    TokenType.GT,
    TokenType.GTE,
    TokenType.LIKE,
    TokenType.BETWEEN,
)
_LIST = (TokenType.L_PAREN, TokenType.COMMA)


@lru_cache(maxsize=8192)
def _words(sql: str) -> tuple[str, ...]:
    try:
        tokens = sqlglot.tokenize(sql, read="sqlite")
    except SqlglotError:
        return (" ".join(sql.split()),)
    words: list[str] = []
    before, is_listed = TokenType.UNKNOWN, False
    for one in tokens:
        kind = one.token_type
        is_listed = kind is not TokenType.R_PAREN and (is_listed or before is TokenType.IN)
        # SQLite reads a name in double quotes as text where no column is called so.
        is_text = kind is TokenType.STRING or (
            kind is TokenType.IDENTIFIER
            and sql[one.start] == '"'
            and (before in _COMPARISONS or (is_listed and before in _LIST))
        )
        words.append(f"'{one.text}'" if is_text else one.text.lower())
        before = kind
    return tuple(words[:-1] if words[-1:] == [";"] else words)
