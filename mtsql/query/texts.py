"""What in a query is a text, and which column it is compared with: one rule for the whole house.

SQLite takes a word in double quotes as a text where no column in its scope is called so: with
columns city and name, `WHERE city = "Rome"` is `WHERE city = 'Rome'`, and `WHERE city = "Name"`
compares two columns. To DuckDB and PostgreSQL it always is a name. So is, to all of them, a word in
backticks or brackets and one with its table before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import Token, TokenType, exp

from mtsql.query.names import Names
from mtsql.query.reading import parse_sql, tokens_of
from mtsql.query.scopes import ColumnKey, Scopes, subject_of
from mtsql.sql.quoting import quote_text


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCondition:
    """A text that is compared with a column, and its place: `sql[start:end]`, quotes included."""

    column: ColumnKey
    """The stored one, through derived tables, CTEs and aliases."""
    value: str
    start: int
    end: int
    mark: str
    """The quote around it."""
    looks_at_case: bool
    """A value is stored in just this spelling, or the comparison says no: =, IS, IN and their
    opposites, with nothing done to either side."""
    is_negated: bool
    """NOT, <> and the like: a text that nothing equals leaves all rows."""
    pattern: str = ""
    """like or glob: the text may hold its wildcards."""
    escape: str = ""
    """The character of ESCAPE, behind which a wildcard is none."""


class Texts:
    """The texts of one statement's tree."""

    def __init__(self, tree: exp.Expr, sql: str, names: Names | None = None) -> None:
        """
        Args:
            tree: of `sql`, and unchanged: its nodes know their places there.
            names: the columns there are. Without them a word in double quotes is a text by its
                place: where a comparison or a list has its value.
        """
        self._tree = tree
        self._sql = sql
        self._names = names
        self.scopes = Scopes(names)

    def is_text(self, node: exp.Expr) -> bool:
        """Whether a node is a text: in single quotes, or in double quotes as SQLite reads them."""
        if isinstance(node, exp.Literal):
            return node.is_string
        if not isinstance(node, exp.Column) or not in_double_quotes(node, self._sql):
            return False
        if self._names is None:
            return _is_value(node, self._sql) and not self.scopes.can_name(node)
        return self._names.has_texts_in_double_quotes and not self.scopes.can_name(node)

    def conditions(self) -> tuple[TextCondition, ...]:
        """Every text that is compared with a column, in the order of the SQL."""
        found = (one for pair in _pairs(self._tree) for one in self._conditions(pair))
        return tuple(sorted(found, key=lambda condition: condition.start))

    def _conditions(self, pair: "_Pair") -> Iterator[TextCondition]:
        column = subject_of(pair.subject)
        if column is None or self.is_text(column):
            return
        key = self.scopes.key_of(column)
        is_plain = pair.subject.unnest() is column
        for text in _leaves(pair.value):
            meta = (text.this if isinstance(text, exp.Column) else text).meta
            if "start" not in meta or not self.is_text(text):
                continue
            is_exact = isinstance(pair.test, _EXACT) and is_plain and pair.value.unnest() is text
            yield TextCondition(
                column=key,
                value=text.name,
                start=meta["start"],
                end=meta["end"] + 1,
                mark=self._sql[meta["start"]],
                looks_at_case=is_exact,
                is_negated=_is_negated(pair.test),
                pattern=pair.pattern,
                escape=pair.escape,
            )


@lru_cache(maxsize=8192)
def text_conditions(sql: str, names: Names | None = None) -> tuple[TextCondition, ...]:
    """`Texts.conditions` of a statement; () if it does not parse."""
    tree = parse_sql(sql)
    return () if tree is None else Texts(tree, sql, names).conditions()


def in_double_quotes(column: exp.Column, sql: str) -> bool:
    """Of a column without its table, in the tree of `sql`."""
    start = column.this.meta.get("start")
    return start is not None and not column.table and sql[start] == '"'


# Comparisons.

_EXACT = (exp.EQ, exp.NEQ, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.In, exp.Case)
_COMPARISONS = (
    exp.EQ,
    exp.NEQ,
    exp.Is,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.Like,
    exp.ILike,
    exp.Glob,
)
_AROUND_VALUE = (exp.Paren, exp.Collate, exp.Cast, exp.Lower, exp.Upper, exp.Trim)
_JOINED_VALUE = (exp.DPipe, exp.Concat)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """An expression and what it is compared with."""

    test: exp.Expr
    subject: exp.Expr
    value: exp.Expr
    pattern: str = ""
    escape: str = ""


def _pairs(tree: exp.Expr) -> Iterator[_Pair]:
    for test in tree.find_all(*_COMPARISONS, exp.In, exp.Between, exp.Case):
        sides: list[tuple[exp.Expr | None, exp.Expr | None]] = []
        if isinstance(test, exp.In):
            query = test.args.get("query")
            members = (*test.expressions, test.args.get("field"), query)
            sides = [side for one in members for side in _both(test.this, one)]
        elif isinstance(test, exp.Between):
            bounds = (test.args["low"], test.args["high"])
            sides = [side for one in bounds for side in _both(test.this, one)]
        elif isinstance(test, exp.Case):
            sides = [side for one in test.args["ifs"] for side in _both(test.this, one.this)]
        elif isinstance(test, exp.Like | exp.ILike | exp.Glob):
            around = test.parent
            escape = around.expression.name if isinstance(around, exp.Escape) else ""
            pattern = "glob" if isinstance(test, exp.Glob) else "like"
            yield _Pair(
                test=test,
                subject=test.this,
                value=test.expression,
                pattern=pattern,
                escape=escape,
            )
            sides = [(test.expression, test.this)]
        else:
            sides = _both(test.this, test.expression)
        for subject, value in sides:
            if subject is not None and value is not None:
                yield _Pair(test=test, subject=subject, value=value)


def _both(
    left: exp.Expr | None, right: exp.Expr | None
) -> list[tuple[exp.Expr | None, exp.Expr | None]]:
    """Either may be the column; of rows, (a, b) = ('x', 'y'), each member with its own."""
    if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
        pairs = zip(left.expressions, right.expressions, strict=False)
        return [side for pair in pairs for side in _both(*pair)]
    return [(left, right), (right, left)]


def _leaves(value: exp.Expr) -> Iterator[exp.Expr]:
    """The texts or names that a value is made of: `'%' || lower('Oslo')` has two."""
    if isinstance(value, _AROUND_VALUE):
        yield from _leaves(value.this)
    elif isinstance(value, exp.DPipe):
        yield from _leaves(value.left)
        yield from _leaves(value.right)
    elif isinstance(value, exp.Concat):
        for part in value.expressions:
            yield from _leaves(part)
    else:
        yield value


def _is_negated(test: exp.Expr) -> bool:
    is_negated = isinstance(test, exp.NEQ | exp.NullSafeNEQ) or bool(test.args.get("negate"))
    node = test.parent
    while isinstance(node, exp.Connector | exp.Paren | exp.Not | exp.Escape):
        is_negated ^= isinstance(node, exp.Not)
        node = node.parent
    return is_negated


def _is_value(column: exp.Column, sql: str) -> bool:
    """Whether a comparison or a list has its value there, as far as the text alone tells."""
    node: exp.Expr = column
    while isinstance(node.parent, (*_AROUND_VALUE, *_JOINED_VALUE, exp.Tuple)):
        node = node.parent
    test = node.parent
    if isinstance(test, exp.In | exp.Between | exp.Case):
        return node.arg_key != "this"
    if isinstance(test, exp.If):
        return (
            node.arg_key == "this" and isinstance(test.parent, exp.Case) and bool(test.parent.this)
        )
    if not isinstance(test, _COMPARISONS):
        return False
    if node.arg_key == "expression":
        return True
    other = subject_of(test.expression)
    return other is not None and not in_double_quotes(other, sql)


# Words, for what has no tree and no schema.

_BEFORE_VALUE = (
    TokenType.EQ,
    TokenType.NEQ,
    TokenType.LT,
    TokenType.LTE,
    TokenType.GT,
    TokenType.GTE,
    TokenType.LIKE,
    TokenType.ILIKE,
    TokenType.GLOB,
    TokenType.BETWEEN,
    TokenType.IS,
)
_IN_LIST = (TokenType.L_PAREN, TokenType.COMMA)


def texts_by_place(sql: str, tokens: Sequence[Token]) -> Iterator[bool]:
    """For each word whether it is a text; in double quotes, where a value stands by all that the
    words before it tell."""
    before, is_listed, is_between, is_awaited = TokenType.UNKNOWN, False, False, False
    for token in tokens:
        kind = token.token_type
        is_listed = kind is not TokenType.R_PAREN and (is_listed or before is TokenType.IN)
        is_awaited = (
            before in _BEFORE_VALUE
            or (is_between and before is TokenType.AND)
            or (is_awaited and before in (TokenType.L_PAREN, TokenType.NOT))
        )
        is_between = before is TokenType.BETWEEN or (is_between and before is not TokenType.AND)
        yield kind is TokenType.STRING or (
            kind is TokenType.IDENTIFIER
            and sql[token.start] == '"'
            and (is_awaited or (is_listed and before in _IN_LIST))
        )
        before = kind


def with_single_quotes(sql: str) -> str:
    """The statement with the texts that stand in double quotes, by their place, in single ones."""
    if '"' not in sql:
        return sql
    tokens = tokens_of(sql) or []
    places = zip(tokens, texts_by_place(sql, tokens), strict=True)
    for token in reversed([one for one, is_text in places if is_text]):
        if sql[token.start] == '"':
            sql = sql[: token.start] + quote_text(token.text) + sql[token.end + 1 :]
    return sql


def in_lower_case(sql: str) -> str:
    """The statement with its words in lower case; what stands in quotes and comments stays.

    Example: SELECT T1.Name FROM "Shop" AS T1 WHERE City = 'Rome'
        select t1.name from "Shop" as t1 where city = 'Rome'
    """
    pieces: list[str] = []
    end = 0
    for token in tokens_of(sql) or []:
        word = sql[token.start : token.end + 1]
        # SQLite folds the letters of ASCII only.
        is_plain = word.isascii() and not any(quote in word for quote in "'\"`[")
        pieces += [sql[end : token.start], word.lower() if is_plain else word]
        end = token.end + 1
    return "".join([*pieces, sql[end:]])
