"""Names that no query may hold: a rule about the text of a query, which no spelling evades.

PostgreSQL's own lexer is not imitated. A name can only be used where its letters stand in a row in
the text, in any case; so every run of letters is looked at, also inside of literals and comments,
and the one spelling that hides letters (U&"...") is refused. The price is that a few harmless
literals are refused too.
"""

import re
from collections.abc import Iterable, Iterator, Set

NAMES_SQL = """
SELECT proname, bool_or(
    pg_catalog.has_function_privilege(function.oid, 'EXECUTE')
    AND (provolatile = 'v' OR prosecdef OR part.is_volatile)
    AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    AND 'internal'::regtype <> ALL (proargtypes))
FROM pg_catalog.pg_proc AS function
LEFT JOIN (
    SELECT aggfnoid::oid AS oid, bool_or(provolatile = 'v' OR prosecdef) AS is_volatile
    FROM pg_catalog.pg_aggregate JOIN pg_catalog.pg_proc AS inner_function
    ON inner_function.oid IN (aggtransfn, aggfinalfn, aggmtransfn, aggminvtransfn, aggmfinalfn)
    GROUP BY aggfnoid
) AS part USING (oid)
GROUP BY proname
"""
"""Every function's name, and whether a call of it may do more than compute: it, or a part of an
aggregate, is volatile (the default for functions that users make) or runs as its owner."""

HARMLESS_CALLS = frozenset(
    {"clock_timestamp", "gen_random_uuid", "random", "random_normal", "timeofday"}
)
"""Volatile, and yet they only compute."""

FORBIDDEN_NAMES = re.compile(
    r"_*pg_(?!(?:catalog|typeof)$).*"  # other sessions and their SQL, files, locks, sleep, settings
    r"|lo_\w+|loread|lowrite"  # large objects
    r"|\w*_to_xml\w*|ts_stat|ts_rewrite|crosstab\w*|connectby|xpath_table|dblink\w*"  # SQL in text
    r"|set_config|current_setting|setseed|nextval|setval|currval|lastval|txid_\w+"
    r"|inet_(?:client|server)_\w+|getpgusername|current_query"
    r"|(?:foreign_\w+|user_mapping)_options"  # hosts, paths and passwords of other servers
)
NON_ASCII = "\x80-\U0010ffff"
WORD = re.compile(rf"[a-z_{NON_ASCII}][\w${NON_ASCII}]*")
AFTER_DIGIT = re.compile(r"(?<=[\d$])(?![\d$])")
"""`1e5name` is a number and a name to some versions of the server."""
CALL = re.compile(r"[\"\s]*(?:\(|--|/\*)")
MAX_NAME_BYTES = 63
"""The server cuts longer names."""


class FunctionNames:
    """What the catalog says about functions: which exist, and which no query may call."""

    def __init__(self, rows: Iterable[tuple[str, bool]]) -> None:
        """`rows` as `NAMES_SQL` gives them."""
        known = dict(rows)
        self.known: Set[str] = known.keys()
        forbidden = {name.lower() for name, may_do_more in known.items() if may_do_more}
        self._calls = frozenset(forbidden - HARMLESS_CALLS)
        # Such a name can only be quoted, and then it stands in the text letter by letter.
        self._odd = tuple(
            name.replace('"', '""') for name in self._calls if not WORD.fullmatch(name)
        )

    def forbidden(self, sql: str) -> str | None:
        """The first name in the text that is forbidden, or that stands where it may be called.

        A call is `name(` and also `.name`: to PostgreSQL `(2.0).sleep` is `sleep(2.0)`. A comment
        may hide either sign, so a comment counts as one.
        """
        text = sql.lower()
        for name in ('u&"', *self._odd):
            if name in text:
                return name
        for name, start, end in _names(text):
            if FORBIDDEN_NAMES.fullmatch(name):
                return name
            if name in self._calls:
                before = text[:start].rstrip('" \t\r\n\f\v')
                if CALL.match(text, end) or before.endswith((".", "*/")) or "--" in before:
                    return name
        return None


def _names(text: str) -> Iterator[tuple[str, int, int]]:
    """Each word and each ending of it that may be a name: `a1b` is `a1b` and `b`."""
    for match in WORD.finditer(text):
        word = match.group()
        for cut in (0, *(place.start() for place in AFTER_DIGIT.finditer(word))):
            name = word[cut:].encode()[:MAX_NAME_BYTES].decode(errors="ignore")
            yield name, match.start() + cut, match.end()
