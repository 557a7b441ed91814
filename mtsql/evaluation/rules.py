"""By which rules two queries are compared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The defaults give the verdicts of the official evaluator (taoyds/test-suite-sql-eval).

    `keep_distinct` and `plug_value` are its own options. What follows them are saner rules of ours,
    each off unless it is asked for by name: a score made with one is not official.

    What differs in any case:
    - A statement that does more than read is wrong, whatever it would return, and a limit of time
      or size ends what the official script would wait for.
    - Two queries that are equal but for case, blanks and comments match without running both, even
      where a second run would give other rows: `SELECT random()` matches itself.
    - Of two texts, one with U+FFFD may equal one without: the engines put that mark for bytes that
      are not UTF-8, and the official script drops such bytes. Officially the mark itself counts.
    - Gold that fails leaves EX open (None); the official script ends.
    """

    keep_distinct: bool = False
    """EX: DISTINCT stays in both queries, and a second statement is an error."""
    plug_value: bool = False
    """EX: a prediction also matches if it does so with its values replaced by gold's."""
    keep_value_word: bool = False
    """The text "value" stays in predictions. The official script writes "1" for it, so that a
    column such as market_value cannot be predicted."""
    keep_literals: bool = False
    """EX: strings, quoted names and comments stay as they are. Officially `> =` is joined and
    YEAR(CURDATE()) is replaced inside of them too."""
    numbers_by_value: bool = False
    """EX: a row with 1 next to 10 equals one with 1.0 next to 10. Officially cells are sorted by
    their text before rows are compared, and this pair is lost."""
    empty_is_wrong: bool = False
    """EX: a prediction without rows does not match a gold without rows."""


OFFICIAL = Rules()
SANER = ("keep_value_word", "keep_literals", "numbers_by_value", "empty_is_wrong")
"""Options that depart from the official verdicts."""


def judged_text(pred_sql: str, rules: Rules) -> str:
    """The prediction that EX and EM look at."""
    return pred_sql if rules.keep_value_word else pred_sql.replace("value", "1")
