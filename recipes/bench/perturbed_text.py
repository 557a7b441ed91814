"""Edits of a query as text, blind to its meaning: quoting, case, comments, spacing, broken SQL."""

import re
from collections.abc import Callable
from random import Random

from mtsql.schema import Schema

Edit = Callable[[str, Schema, Random], str]
_WORD = re.compile(r"""'[^']*'|"[^"]*"|\s+|[A-Za-z_][\w.]*|\d+(?:\.\d+)?|[<>!]=|.""", re.DOTALL)
COMMENTS = (
    "-- the answer; done\n",
    "/* a; 'b */",
    " -- x",
    "# x\n",
    "/* DISTINCT */",
    "/* open",
    "-- ' \n",
)


def change_one(
    pattern: re.Pattern[str], new: Callable[[re.Match[str]], str], sql: str, rng: Random
) -> str:
    """Replace one match, drawn at random; without a match the query stays as it is."""
    found = list(pattern.finditer(sql))
    if not found:
        return sql
    match = rng.choice(found)
    return sql[: match.start()] + new(match) + sql[match.end() :]


def _words(sql: str) -> list[str]:
    return _WORD.findall(sql)


def _quoting(sql: str, schema: Schema, rng: Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return sql.replace('"', "'") if '"' in sql else sql.replace("'", '"')
    left, right = ("``", "[]", '""')[kind - 1]
    names = {column.name.lower() for table in schema.tables for column in table.columns}
    return "".join(
        f"{left}{word}{right}" if word.lower() in names else word for word in _words(sql)
    )


def _case(sql: str, schema: Schema, rng: Random) -> str:
    change = rng.choice([str.upper, str.lower, str.swapcase])
    is_sparing = rng.random() < 0.7
    words = _words(sql)
    return "".join(word if is_sparing and word[:1] in "'\"" else change(word) for word in words)


def _comments(sql: str, schema: Schema, rng: Random) -> str:
    words = _words(sql)
    place = rng.randint(0, len(words))
    return "".join([*words[:place], " ", rng.choice(COMMENTS), *words[place:]])


def _spacing(sql: str, schema: Schema, rng: Random) -> str:
    if rng.random() < 0.5:
        blanks = ["\n", "  ", " \n "]
        return "".join(rng.choice(blanks) if word.isspace() else word for word in _words(sql))
    spread = rng.choice([r"\1", r" \1 ", r"\1 ", r" \1"])
    return re.sub(r"\s*([,=<>()])\s*", spread, sql)


def _broken(sql: str, schema: Schema, rng: Random) -> str:
    words = _words(sql) or ["x"]
    place = rng.randrange(len(words))
    before, after = "".join(words[:place]), "".join(words[place:])
    forms = (
        before or "SELECT",
        before + "".join(words[place + 1 :]) or "x",
        before + words[place] + after,
        f"{before};{after}",
        f"{before}é \u201c{after}",
        f"{sql})",
        f"({sql}",
        f"{sql} '",
        f"{sql}; SELECT 1",
        f"{sql};;",
        f"; {sql}",
        f"{sql} ;",
        f"SELECT * FROM ({sql}); -- x",
        f"The answer is {sql}",
        f"```sql {sql} ```",
        f"{sql} WHERE",
        f"{sql} GROUP BY",
        "SELECT",
        "-- nothing",
        ";",
        "".join(rng.sample(words, len(words))),
    )
    return rng.choice(forms)


TEXT_EDITS: dict[str, Edit] = {
    "quoting": _quoting,
    "case": _case,
    "comments": _comments,
    "spacing": _spacing,
    "broken": _broken,
}
