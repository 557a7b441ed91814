"""Predictions as models write them: gold queries, edited in every way that a verdict may see.

The same seed gives the same predictions. Edits work on the text, so that also what no parser reads
comes out: broken SQL, comments, foreign quoting (`recipes.bench.perturbed_text`).
"""

import re
from collections.abc import Sequence
from random import Random

from mtsql.schema import Schema
from recipes.bench.perturbed_text import TEXT_EDITS, Edit, change_one

FLAGS = re.IGNORECASE | re.DOTALL
_CLAUSE = re.compile(r"\b(where|group by|having|order by|limit|union|intersect|except)\b", FLAGS)
_WHERE = re.compile(r"\bwhere\b", FLAGS)
_WHOLE_WHERE = re.compile(
    r"\bwhere\b.*?(?=\b(?:group|order|limit|union|intersect|except)\b|$)", FLAGS
)
_TWO_CONDITIONS = re.compile(
    r"\bwhere\s+(.*?)\s+and\s+(.*?)(?=\s+(?:group|order|limit|union|intersect|except)\b|\s*$)",
    FLAGS,
)
_JUNCTION = re.compile(r"\b(and|or)\b", FLAGS)
_COMPARE = re.compile(r"(?<![<>!])(?:[<>]=?|!=|=)(?!=)")
_NUMBER = re.compile(r"(?<![\w.'\"])\d+(?:\.\d+)?(?![\w.'\"])")
_STRING = re.compile(r"'[^']*'|\"[^\"]*\"")
_AGGREGATE = re.compile(r"\b(count|sum|avg|min|max)\s*\(", FLAGS)
_SELECT = re.compile(r"^\s*select\s+(distinct\s+)?(.*?)\s+from\s+(.*)$", FLAGS)
_SELECT_WORD = re.compile(r"\bselect\b", FLAGS)
_FIRST_COLUMN = re.compile(r"^(\s*select\s+(?:distinct\s+)?)(\w[\w.]*)", FLAGS)
_DISTINCT = re.compile(r"\bdistinct\b", FLAGS)
_DIRECTION = re.compile(r"\b(asc|desc)\b", FLAGS)
_ORDER = re.compile(r"\border\s+by\b.*?(?=\blimit\b|$)", FLAGS)
_GROUP = re.compile(r"\bgroup by\b", FLAGS)
_HAVING = re.compile(r"\bhaving\b.*?(?=\border\b|\blimit\b|$)", FLAGS)
_ALIAS = re.compile(r"\bT(\d)\b", FLAGS)
_TABLE = re.compile(r"\b(from|join)\s+(\w+)", FLAGS)
_JOIN = re.compile(r"\bjoin\b", FLAGS)
_ON = re.compile(r"\bon\s+(\S+)\s*=\s*(\S+)", FLAGS)
_TWO_TABLES = re.compile(r"\bfrom\s+(\w+)\s+as\s+(t\d)\s+join\s+(\w+)\s+as\s+(t\d)", FLAGS)
_ONE_TABLE = re.compile(r"\bfrom\s+(\w+)(?!\s*as\b|\w)", FLAGS)
VALUES = ("0", "1", "1.0", "-1", "1e3", ".5", "10")
TEXTS = ("'x'", "''", "'it''s'", "5", "'> ='", "'a value'", "'distinct; x'", "value")
OPERATORS = ("=", "==", "!=", "<>", "<", ">", "> =", "< =", "! =", ">=", "<=", "LIKE", "IS")
FUNCTIONS = ("count", "sum", "avg", "min", "max", "total", "group_concat", "length")


def perturb(sql: str, schema: Schema, others: Sequence[str], rng: Random) -> tuple[str, str]:
    """One prediction for a gold query, and the name of what was done to it.

    Args:
        others: gold queries of the same database.
    """
    name = rng.choice([*EDITS, "other", "same"])
    if name == "same":
        return name, sql
    if name == "other":
        return name, rng.choice(others)
    pred = EDITS[name](sql, schema, rng)
    if rng.random() < 0.3:
        second = rng.choice([*EDITS])
        name, pred = f"{name}+{second}", EDITS[second](pred, schema, rng)
    return name, pred


def _columns(schema: Schema) -> list[str]:
    return [column.name for table in schema.tables for column in table.columns]


def _condition(schema: Schema, rng: Random) -> str:
    column = rng.choice(_columns(schema))
    forms = (
        f"{column} = 1",
        f"{column} > 1",
        f"{column} != 'x'",
        f"{column} LIKE '%a%'",
        f"{column} NOT LIKE '%a%'",
        f"{column} IS NULL",
        f"{column} IS NOT NULL",
        f"{column} BETWEEN 1 AND 9",
        f"{column} IN (1, 2)",
        f"{column} IN (SELECT {column} FROM {rng.choice(schema.tables).name})",
        f"NOT {column} = 1",
        "1 = 1",
        "1 = 0",
    )
    return rng.choice(forms)


def _conditions(sql: str, schema: Schema, rng: Random) -> str:
    def other(match: re.Match[str]) -> str:
        return "OR" if match[0].lower() == "and" else "AND"

    condition = _condition(schema, rng)
    found = _CLAUSE.search(sql)
    place = found.start() if found else len(sql)
    match rng.randrange(5):
        case 0:
            return change_one(_JUNCTION, other, sql, rng)
        case 1:
            return _WHOLE_WHERE.sub(" ", sql, count=1)
        case 2:
            return _TWO_CONDITIONS.sub(r"WHERE \2 AND \1", sql, count=1)
        case _ if _WHERE.search(sql):
            joint = rng.choice(["AND", "AND", "OR", ""])
            return change_one(_WHERE, lambda _: f"WHERE {condition} {joint}", sql, rng)
        case _:
            return f"{sql[:place].rstrip()} WHERE {condition} {sql[place:]}"


def _values(sql: str, schema: Schema, rng: Random) -> str:
    def number(match: re.Match[str]) -> str:
        return rng.choice([*VALUES, f"{match[0]}.0", f"'{match[0]}'"])

    def text(match: re.Match[str]) -> str:
        return rng.choice([*TEXTS, match[0].upper(), match[0].lower()])

    if rng.random() < 0.5:
        return change_one(_NUMBER, number, sql, rng)
    return change_one(_STRING, text, sql, rng)


def _operators(sql: str, schema: Schema, rng: Random) -> str:
    return change_one(_COMPARE, lambda _: rng.choice(OPERATORS), sql, rng)


def _order(sql: str, schema: Schema, rng: Random) -> str:
    def other(match: re.Match[str]) -> str:
        return "ASC" if match[0].lower() == "desc" else "DESC"

    match rng.randrange(4):
        case 0:
            return change_one(_DIRECTION, other, sql, rng)
        case 1:
            return _ORDER.sub("", sql, count=1)
        case 2:
            return f"{sql} LIMIT {rng.choice(['1', '3', '0', '1 OFFSET 1', '2, 1'])}"
        case _:
            column = rng.choice([*_columns(schema), "1", "2", "count(*)"])
            ending = rng.choice(["", " ASC", " DESC", " DESC, 1", " LIMIT 2", " NULLS LAST"])
            return f"{sql} ORDER BY {column}{ending}"


def _distinct(sql: str, schema: Schema, rng: Random) -> str:
    if _DISTINCT.search(sql) and rng.random() < 0.5:
        return _DISTINCT.sub("", sql)
    match rng.randrange(3):
        case 0:
            return re.sub(r"\bcount\s*\(", "count(DISTINCT ", sql, flags=FLAGS)
        case 1:
            return f"SELECT DISTINCT * FROM ({sql})"
        case _:
            word = rng.choice(["SELECT DISTINCT", "select distinct"])
            return change_one(_SELECT_WORD, lambda _: word, sql, rng)


def _aggregates(sql: str, schema: Schema, rng: Random) -> str:
    new = rng.choice(FUNCTIONS)
    if _AGGREGATE.search(sql) and rng.random() < 0.7:
        return change_one(_AGGREGATE, lambda _: f"{new}(", sql, rng)
    return _FIRST_COLUMN.sub(rf"\1{new}(\2)", sql)


def _select_list(sql: str, schema: Schema, rng: Random) -> str:
    found = _SELECT.match(sql)
    if not found:
        return sql
    items = [item.strip() for item in re.split(r",(?![^(]*\))", found[2])]
    column = rng.choice(_columns(schema))
    number = rng.randrange(len(items))
    match rng.randrange(7):
        case 0:
            rng.shuffle(items)
        case 1:
            items.append(rng.choice([column, items[0], "1", "NULL", "count(*)", "'x'"]))
        case 2:
            items = items[:-1] or ["*"]
        case 3:
            items[number] = column
        case 4:
            items = ["*"]
        case 5:
            name = rng.choice(["AS n", "n", "AS total", 'AS "my name"'])
            items = [f"{item} {name}" for item in items]
        case _:
            items[number] += rng.choice([" + 0", " * 1.0", " || ''", " - 1", "+1"])
    return f"SELECT {found[1] or ''}{', '.join(items)} FROM {found[3]}"


def _aliases(sql: str, schema: Schema, rng: Random) -> str:
    match rng.randrange(4):
        case 0:
            return _ALIAS.sub(lambda match: f"x{match[1]}", sql)
        case 1:
            return re.sub(r"\bas\s+(?=t\d)", "", sql, flags=FLAGS)
        case 2:
            return re.sub(r"\bt\d\.", "", sql, flags=FLAGS)
        case _ if _ALIAS.search(sql):
            return _ALIAS.sub(lambda match: f"T{4 - int(match[1])}", sql)
        case _:
            return _TABLE.sub(lambda match: f"{match[0]} AS Z", sql, count=1)


def _joins(sql: str, schema: Schema, rng: Random) -> str:
    table = rng.choice(schema.tables)
    column = rng.choice(table.columns).name
    match rng.randrange(6):
        case 0:
            words = ["LEFT JOIN", "INNER JOIN", "CROSS JOIN", "NATURAL JOIN", ","]
            return _JOIN.sub(rng.choice(words), sql, count=1)
        case 1:
            return _ON.sub(r"ON \2 = \1", sql)
        case 2:
            return _ON.sub("", sql, count=1)
        case 3:
            return _TWO_TABLES.sub(r"FROM \3 AS \4 JOIN \1 AS \2", sql, count=1)
        case 4:
            return change_one(_TABLE, lambda match: f"{match[1]} {table.name}", sql, rng)
        case _:
            joined = rf"FROM \1 JOIN {table.name} ON \1.{column} = {table.name}.{column}"
            return _ONE_TABLE.sub(joined, sql, count=1)


def _subqueries(sql: str, schema: Schema, rng: Random) -> str:
    table = rng.choice(schema.tables)
    column = rng.choice(table.columns).name
    inner = f"SELECT {column} FROM {table.name}"
    word = rng.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT"])
    forms = (
        f"SELECT * FROM ({sql})",
        f"SELECT * FROM ({sql}) AS q",
        f"SELECT count(*) FROM ({sql})",
        f"{sql} {word} {sql}",
        f"{sql} EXCEPT {inner}",
        f"({sql})",
        f"{inner} WHERE {column} = ({inner} LIMIT 1)",
        f"{inner} WHERE EXISTS ({sql})",
        f"SELECT ({sql})",
    )
    return rng.choice(forms)


def _ctes(sql: str, schema: Schema, rng: Random) -> str:
    forms = (
        f"WITH q AS ({sql}) SELECT * FROM q",
        f"WITH q AS ({sql}), r AS (SELECT * FROM q) SELECT * FROM r",
        f"WITH q(a) AS ({sql}) SELECT a FROM q",
        f"WITH q AS ({sql}) SELECT count(*) FROM q",
        f"WITH q AS (SELECT 1) {sql}",
    )
    return rng.choice(forms)


def _grouping(sql: str, schema: Schema, rng: Random) -> str:
    column = rng.choice(_columns(schema))
    if _GROUP.search(sql) and rng.random() < 0.5:
        return change_one(_GROUP, lambda _: f"GROUP BY {column},", sql, rng)
    if _HAVING.search(sql):
        return _HAVING.sub("", sql, count=1)
    having = rng.choice(["", " HAVING count(*) > 1", " HAVING count(*) >= 1 AND 1 = 1"])
    return f"{sql} GROUP BY {column}{having}"


EDITS: dict[str, Edit] = {
    "conditions": _conditions,
    "values": _values,
    "operators": _operators,
    "order": _order,
    "distinct": _distinct,
    "aggregates": _aggregates,
    "select_list": _select_list,
    "aliases": _aliases,
    "joins": _joins,
    "subqueries": _subqueries,
    "ctes": _ctes,
    "grouping": _grouping,
    **TEXT_EDITS,
}
