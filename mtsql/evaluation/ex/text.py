"""SQL as text: its tokens, its first statement, and what EX changes before it runs a query.

The official evaluator prepares texts with the package sqlparse, so its verdicts depend on where
that package cuts words and statements. This is the part of its rules that a verdict can show.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from mtsql.evaluation.rules import OFFICIAL, Rules

_TOKEN = re.compile(
    r"""
      (?P<block> /\*.*?\*/ )
    | (?P<literal> (?<![\w"$]) (?P<tag>\$(?:[_A-ZÀ-Ü]\w*)?\$) .*? (?-i:(?P=tag)) )
    | (?P<line> (?:--|\#[ ]) [^\r\n]* (?:\r\n|\r|\n|\Z) )
    | (?P<newline> \r\n|\r|\n )
    | (?P<space> \s )
    | := | ::
    | \*
    | `(?:``|[^`])*` | \u00b4(?:\u00b4\u00b4|[^\u00b4])*\u00b4
    | \? | %(?:\(\w+\))?s | (?<!\w)[$:?]\w+ | \\\w+
    | (?P<keyword> (?:CASE|IN|VALUES|USING|FROM|AS)\b )
    | (?:@|\#\#|\#)[A-ZÀ-Ü]\w+
    | (?P<name> [A-ZÀ-Ü]\w*(?=\s*\.(?!\d)) | (?<=\.)[A-ZÀ-Ü]\w* | [A-ZÀ-Ü]\w*(?=\() )
    | -?0x[\dA-F]+
    | -?\d+(?:\.\d+)?E-?\d+
    | (?![_A-ZÀ-Ü])-?(?:\d+\.\d*|\.\d+)(?![_A-ZÀ-Ü])
    | (?![_A-ZÀ-Ü])-?\d+(?![_A-ZÀ-Ü])
    | (?P<string> '(?:''|\\'|[^'])*' )
    | (?P<symbol> "(?:""|\\"|[^"])*" )
    | (?<![\w\])])\[[^\]\[]+\]
    | (?P<end> END(?:\s+(?:IF|LOOP|WHILE|FOR|CASE))?\b )
    | (?P<word> \w[$#\w]* )
    | (?P<mark> [;()] ) | [:\[\],.]
    | ->>? | \#>>? | @> | <@ | \?[|&]? | - | \#-
    | [<>=~!]+ | [+/@#%^&|-]+ | .
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_SQLITE_TOKEN = re.compile(
    r"""
      (?P<blank> [ \t\r\n\f]+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] | .
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_TOKEN = re.compile(
    r"""
      --[^\n]* | /\*.*?\*/
    | [xX]?'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\]
    | \d[\w.]*(?:(?<=[eE])[-+]\d+)? | [\w.$]+
    | [(),;] | (?:(?!--|/\*)[^\w\s.$'"`\[(),;])+ | \S
    """,
    re.VERBOSE | re.DOTALL,
)
"""Cuts nowhere inside of one of SQLite's tokens."""
_HARD = re.compile(r";|--|/\*|[`\u00b4\[\\$@#:?%]|\bGO\b|\ddistinct", re.IGNORECASE)
_DISTINCT = re.compile(r"""('(?:''|[^'])*'|"(?:""|[^"])*")|(?<!\w)distinct(?!\w)""", re.IGNORECASE)
"""Enough for a text without anything hard."""
_SPECIAL = re.compile(r";|distinct|\bGO\b", re.IGNORECASE)
_SPARING = re.compile(
    r"""
      (?P<kept> '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\] | --[^\n]* | /\*.*?\*/ )
    | (?P<distinct> \bdistinct\b )
    | (?P<operator> [<>!])[ ]=
    | (?P<rest> ; .* )
    | year\s*\(\s*curdate\s*\(\s*\)\s*\)\s*
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_CURRENT_YEAR = re.compile(r"year\s*\(\s*curdate\s*\(\s*\)\s*\)\s*", re.IGNORECASE)
CURRENT_YEAR = "2020"
_QUOTES = "'\"`["


def comparable_sql(sql: str, rules: Rules = OFFICIAL) -> str:
    """The text that is executed for EX, for gold and prediction alike.

    Joins `> =`, `< =` and `! =`, removes DISTINCT unless it is kept, and puts 2020 for
    YEAR(CURDATE()). What follows the first `;` is dropped, unless DISTINCT is kept: the official
    evaluator judges the first statement, as a side effect of removing DISTINCT.
    """
    if rules.keep_literals:
        return _sparing_literals(sql, rules.keep_distinct)
    return put_year(plain_sql(sql, rules.keep_distinct))


def plain_sql(sql: str, keep_distinct: bool) -> str:
    """Operators joined everywhere, then the first statement without DISTINCT."""
    sql = sql.replace("> =", ">=").replace("< =", "<=").replace("! =", "!=")
    if keep_distinct or not _SPECIAL.search(sql):
        return sql
    if not _HARD.search(sql):
        return _DISTINCT.sub(r"\1", sql)
    return "".join(word for _, word in first_statement(sql) if word.lower() != "distinct")


def put_year(sql: str) -> str:
    return _CURRENT_YEAR.sub(CURRENT_YEAR, sql)


def first_statement(sql: str) -> Iterator[tuple[str | None, str]]:
    """(kind, text) of each token up to the `;` or GO that ends it, and blanks and comments after.

    A `;` inside of brackets ends nothing. Kinds that matter have a name; texts join to `sql`.
    """
    depth = 0
    has_ended = False
    for match in _TOKEN.finditer(sql):
        kind, word = match.lastgroup, match[0]
        if has_ended and kind not in ("space", "line"):
            return
        if kind == "mark":
            depth += (word == "(") - (word == ")")
            has_ended = has_ended or (word == ";" and depth <= 0)
        elif kind == "end":
            depth -= len(word) == len("END")
        elif kind == "word":
            has_ended = has_ended or word == "GO"
        yield kind, word


@lru_cache(maxsize=1024)
def holds_two_statements(sql: str) -> bool:
    """Whether anything but blanks and comments follows a statement's `;`, even another `;`.

    Python's sqlite3 refuses such a text. A `;` before the statement ends nothing.
    """
    if ";" not in sql.rstrip("; \t\r\n\f") and sql.count(";") < 2:
        return False
    has_begun = has_ended = False
    for match in _SQLITE_TOKEN.finditer(sql):
        if match.lastgroup == "blank":
            continue
        if has_ended:
            return True
        if match[0] != ";":
            has_begun = True
        elif has_begun:
            has_ended = True
    return False


def same_tokens(sql: str) -> str:
    """A text that two queries share only if SQLite reads both alike.

    Case, blanks and comments between tokens go, and a `;` at the end: the rows are the same without
    running both. A query with random() or letters beyond ASCII is compared as it is written. Quotes
    stay as they are, unlike in `mtsql.query.same`: a wrong "same" would be a wrong verdict here.
    """
    if not sql.isascii() or "random" in sql.lower():
        return sql
    words = [
        word if word[0] in _QUOTES else word.lower()
        for word in _PLAIN_TOKEN.findall(sql)
        if not word.startswith(("--", "/*"))
    ]
    if words and words[-1] == ";":  # one: to Python's sqlite3 a second is another statement
        words.pop()
    return "\n".join(words)


def _sparing_literals(sql: str, keep_distinct: bool) -> str:
    def change(match: re.Match[str]) -> str:
        if match["kept"] is not None:
            return match[0]
        if match["distinct"] is not None or match["rest"] is not None:
            return match[0] if keep_distinct else ""
        if match["operator"] is not None:
            return match["operator"] + "="
        return CURRENT_YEAR

    return _SPARING.sub(change, sql)
