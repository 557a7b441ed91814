"""SQL as it stands in a model's message: where it begins, where it ends, and whether it is any."""

import re

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.errors import SqlglotError

_FENCE = re.compile(r"`{3,}|~{3,}")
_LANGUAGE = re.compile(
    r"\s*(?:sql|sqlite|postgres(?:ql)?|psql|mysql|mariadb|duckdb|tsql|plsql|query|code|text)\d*"
    r"(?![A-Za-z0-9_.(])",
    re.IGNORECASE,
)
"""What models write after a fence; `sqlite3` too."""
_LABEL = re.compile(r"[^\S\n]*[\w+#.-]+[^\S\n]*(?:[({].*)?")
_OPENER = (
    r"(?:select(?![\w$.])|values(?=\s*(?:\(|--|/\*))"
    r"|with(?=\s+(?:recursive\s+)?(?:--|/\*|[\"`\[]|\w+\s*(?:\(|--|/\*|as\b))))"
)
_QUERY = re.compile(rf"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*+{_OPENER}", re.IGNORECASE | re.DOTALL)
_PROSE_END = re.compile(r":[*_]*[^\S\n]*\n")
_QUERY_START = re.compile(rf"(?:^|:[*_]*)[^\S\n]*(?=\(*{_OPENER})", re.IGNORECASE | re.MULTILINE)
_FENCE_AT_END = re.compile(r"\n[^\S\n]*(?:`{3,}|~{3,})\s*\Z")
_QUOTED = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
_MAX_PARSED_CHARS = 10_000
_CONTENT = re.compile(r"[\w\"'`*]")


def bare_sql(sql: str) -> str:
    """The statement without a code fence around it, or with half of one."""
    text = sql.strip()
    opening = _FENCE.match(text)
    if opening is None:
        query = _FENCE_AT_END.sub("", text)
        return query.strip() if is_query(query) else text
    body, _ = _fenced(text, opening)
    return _unlabelled(body)


def fenced_blocks(text: str) -> list[str]:
    """The code blocks of a text in Markdown, without their labels; an unclosed one ends with it.

    A fence is three or more back ticks or tildes. It is closed by one that is as long, or, where
    none comes, by a shorter one.

    Example: `Draft:\\n~~~sql (SQLite)\\nSELECT 1\\n~~~` -> `SELECT 1`
    """
    blocks: list[str] = []
    position = 0
    while opening := _FENCE.search(text, position):
        body, position = _fenced(text, opening)
        blocks.append(_unlabelled(body))
    return blocks


def _fenced(text: str, opening: re.Match[str]) -> tuple[str, int]:
    """What follows an opening fence, and where the text goes on."""
    mark = opening[0]
    fence = re.compile(re.escape(mark[0]) + "{3,}")
    first = fence.search(text, opening.end())
    closing = first
    while closing is not None and len(closing[0]) < len(mark):
        closing = fence.search(text, closing.end())
    closing = closing or first
    if closing is None:
        return _FENCE_AT_END.sub("", text[opening.end() :]), len(text)
    return text[opening.end() : closing.start()], closing.end()


def _unlabelled(body: str) -> str:
    """A block without what follows its fence: a language, a name in brackets, attributes."""
    text = body.strip()
    if is_query(text):
        return text
    head, _, rest = body.partition("\n")
    language = _LANGUAGE.match(head)
    if is_query(rest) or (rest.strip() and (language or _LABEL.fullmatch(head))):
        return rest.strip()
    word = language or _LANGUAGE.match(text)
    return text if word is None else text.removeprefix(word[0].strip()).lstrip(": \t\r\n")


def query_in(text: str) -> str | None:
    """The query that a text without fences ends with; None if that is not certain.

    The whole text, or what follows prose: after a colon, or from the beginning of a line on.
    What follows the first semicolon is left out, and so is a paragraph that spoils the query.

    Example: `The final SQL is:\\nSELECT name FROM shop;` -> `SELECT name FROM shop`
    """
    if is_query(text) and is_query(whole := first_statement(text.strip())):
        return _without_prose(whole)
    for part in reversed(_PROSE_END.split(text)):
        for start in _QUERY_START.finditer(part):
            sql = _without_prose(first_statement(part[start.end() :].strip()))
            if is_query(sql) and _is_sql(sql):
                return sql
    quoted: list[str] = [sql.strip() for sql in _QUOTED.findall(text) if is_query(sql)]
    return first_statement(quoted[-1]) if quoted else None


def _without_prose(sql: str) -> str:
    """The statement without the paragraphs after it, if only then it is one."""
    paragraphs = _PARAGRAPH.split(sql)
    if len(paragraphs) == 1 or _is_sql(sql):
        return sql
    for number in range(len(paragraphs) - 1, 0, -1):
        shorter = "\n\n".join(paragraphs[:number]).strip()
        if _is_sql(shorter):
            return shorter
    return sql


def _is_sql(sql: str) -> bool:
    if len(sql) > _MAX_PARSED_CHARS:
        return False
    try:
        return isinstance(sqlglot.parse_one(sql, read="sqlite"), exp.Query | exp.Values)
    except (SqlglotError, RecursionError):
        return False


def holds_statement(sql: str) -> bool:
    """False for nothing at all and for a placeholder such as `...`."""
    return any(character.isalpha() for character in sql)


def is_query(text: str) -> bool:
    """It opens as a query does (comments, parentheses, then SELECT, WITH or VALUES) and goes on.

    Example: `SQL`, `...`, `SELECT ...` and `your query` are placeholders, not queries, and
    `With pleasure` and `Values: 1` are prose.
    """
    opening = _QUERY.match(text)
    return opening is not None and _CONTENT.search(text, opening.end()) is not None


def first_statement(sql: str) -> str:
    """The text before its first semicolon, those inside strings and comments not counted."""
    try:
        tokens = sqlglot.tokenize(sql, read="sqlite")
    except SqlglotError:
        return sql
    end = next((token.start for token in tokens if token.token_type is TokenType.SEMICOLON), None)
    return sql[:end].strip()
