"""What of a schema a query uses: tables, columns and the texts it compares; how much is known.

Letter case and signs do not count: `Stadium_ID`, `stadiumId` and `stadium id` are one name to a
model that has learned it, whichever database it comes from.
"""

from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import SqlglotError

from mtsql.query.names import Names
from mtsql.query.reading import parse_query
from mtsql.query.texts import Texts
from mtsql.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Each name once, as `plain_name` writes it.

    Example: SELECT T1.Name FROM singer AS T1 WHERE T1.Home_City = "Rome"
        tables singer, columns name and homecity, texts rome
    """

    tables: frozenset[str] = frozenset()
    columns: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    @property
    def num_names(self) -> int:
        """Tables and columns."""
        return len(self.tables) + len(self.columns)

    def __and__(self, other: "Used") -> "Used":
        return Used(
            tables=self.tables & other.tables,
            columns=self.columns & other.columns,
            texts=self.texts & other.texts,
        )


def plain_name(name: str) -> str:
    """Letters and digits in lower case; a name without any as it is."""
    return "".join(one for one in name.casefold() if one.isalnum()) or name


def names_in(schema: Schema) -> Used:
    """All tables and columns there are."""
    return Used(
        tables=frozenset(plain_name(table.name) for table in schema.tables),
        columns=frozenset(
            plain_name(column.name) for table in schema.tables for column in table.columns
        ),
    )


@lru_cache(maxsize=16384)
def used_by(sql: str, names: Names) -> Used | None:
    """What a query uses of a schema; a CTE, an alias and a computed output are none of it.

    Returns:
        None where the text is no query that can be read.
    """
    tree = parse_query(sql)
    if tree is None:
        return None
    try:
        texts = Texts(tree, sql, names)
        columns = [one for one in tree.find_all(exp.Column) if not texts.is_text(one)]
        keys = [texts.scopes.key_of(one)[1] for one in columns]
        conditions = texts.conditions()
    except (SqlglotError, RecursionError):
        return None
    return Used(
        tables=frozenset(
            plain_name(table.name)
            for table in tree.find_all(exp.Table)
            if table.name.lower() in names.columns
        ),
        columns=frozenset(plain_name(key) for key in keys if key in names.tables_by_column),
        texts=frozenset(one.value.casefold().strip() for one in conditions),
    )


SEEN_BANDS = ("none", "below half", "half or more", "all")
"""Of the tables and columns that a query uses: how many of them others have used, too."""


def share_seen(used: Used | None, seen: Used) -> float | None:
    """Tables and columns that are among `seen`; None where there are none, or none can be told."""
    if used is None or not used.num_names:
        return None
    return (used & seen).num_names / used.num_names


def seen_band(share: float) -> str:
    """Example: 0 is none, 0.4 below half, 0.5 half or more, 1 all."""
    if share in (0.0, 1.0):
        return SEEN_BANDS[0 if share == 0.0 else -1]
    return SEEN_BANDS[1 if share < 0.5 else 2]
