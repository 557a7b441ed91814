"""Words for a statement that the SQLite engine refuses."""

import re
import sqlite3

ROW_ACTIONS = {
    sqlite3.SQLITE_INSERT: "INSERT",
    sqlite3.SQLITE_UPDATE: "UPDATE",
    sqlite3.SQLITE_DELETE: "DELETE",
}
"""What may follow WITH."""
SCHEMA_TABLES = ("sqlite_master", "sqlite_temp_master")

COMMENTS = re.compile(r"--[^\n]*|/\*.*?(\*/|$)", re.DOTALL)
FIRST_WORD = re.compile(r"\W*(?:explain\s+(?:query\s+plan\s+)?)?(\w+)", re.IGNORECASE)
LITERALS = re.compile(r"'(?:[^']|'')*'")
FAILED_TABLE = re.compile(r"^vtable constructor failed: (.+)", re.DOTALL)
PRAGMA_TABLE = re.compile(r"\bpragma_\w+", re.IGNORECASE)


def explain_refusal(action: int, name: str, sql: str, error: str) -> str:
    """What may not be done, in the statement's own word.

    The action may be an inner one: CREATE TABLE first inserts into the schema, and a read of a
    virtual table that is not connected yet first declares it there.
    """
    if action == sqlite3.SQLITE_FUNCTION:
        return f"only reading is allowed, not the function {name}"
    first = FIRST_WORD.match(COMMENTS.sub(" ", sql))
    word = first[1].upper() if first else ""
    if word not in ("SELECT", "VALUES", "WITH"):
        return f"only reading is allowed, not {word}"
    if action in ROW_ACTIONS and name not in SCHEMA_TABLES:
        return f"only reading is allowed, not {ROW_ACTIONS[action]}"
    table = FAILED_TABLE.search(error)
    if table:
        return f"only reading tables is allowed, not {table[1]}"
    # SQLite does not say which; a literal that looks like one is the second guess.
    pragma = PRAGMA_TABLE.search(LITERALS.sub(" ", sql)) or PRAGMA_TABLE.search(sql)
    return f"only reading tables is allowed, not {pragma[0] if pragma else 'this one'}"
