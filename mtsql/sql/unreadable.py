"""Why a file cannot be opened as a database: what it is instead, and what to do about it.

The one place that says so, for every command. The texts name no path, for an observation may hold
them; who knows the path puts it in front.
"""

import codecs
import json
import re
from pathlib import Path
from typing import Literal

EngineName = Literal["SQLite", "DuckDB"]

HEAD_BYTES = 4096
SQLITE_MAGIC = b"SQLite format 3\0"
DUCKDB_MAGIC = b"DUCK"
DUCKDB_MAGIC_AT = 8
AS_TABLE = "load it into a database first, e.g. duckdb NEW.duckdb \"CREATE TABLE t AS FROM 'FILE'\""

SIGNS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive (or a file of an office program): unpack it first"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ\0", "compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"PAR1", f"a Parquet file: {AS_TABLE}"),
    (b"\x00\x05\x16\x07", "a file that macOS leaves beside another: take the one without ._"),
    (b"** This file contains an SQLite 2", "a database of SQLite 2: dump it with sqlite2 first"),
    (b"\x00\x01\x00\x00Standard ", "a database of Microsoft Access: export it first"),
    (b"PGDMP", "a dump of PostgreSQL: restore it with pg_restore and give the server's URL"),
)
"""How a file begins, and what it then is."""
TAR_SIGN_AT = 257

TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE),
        "a web page or XML, as a failed download leaves it: fetch the file again",
    ),
    (
        re.compile(
            r"\s*(--|/\*|create\s|insert\s|begin\b|pragma\s|drop\s|set\s|start\s)", re.IGNORECASE
        ),
        "a script of SQL: run it first, e.g. sqlite3 NEW.sqlite < FILE",
    ),
    (re.compile(r"\s*[\[{]"), f"JSON: {AS_TABLE}"),
    (re.compile(r"[^\n]*[,;\t|][^\n]*(\n|$)"), f"text, perhaps CSV: {AS_TABLE}"),
)
"""How a text begins, and what it then is."""


def why_no_file(path: Path) -> str:
    """What stands at a path where a file should be, in words."""
    if path.is_dir():
        return "is a folder, not a file"
    if path.is_fifo():
        return "is a pipe, not a file"
    return "is a device or a socket, not a file" if path.exists() else "no such file"


def why_no_database(path: Path, engine: EngineName) -> str:
    """What is wrong with a file as a database of `engine`, seen without opening it as one.

    Returns:
        "" where nothing is: it may be damaged further in, or locked.
    """
    try:
        num_bytes = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except PermissionError as error:
        return f"it may not be read ({error.strerror}): chmod +r, or ask its owner"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not head:
        return "it is empty (0 bytes): fetch or copy it again"
    found = _engine_of(head)
    if found is None:
        return f"it is {_kind_of(head, num_bytes)}"
    if found != engine:
        end = found.lower()
        article = "an" if found == "SQLite" else "a"
        return (
            f"it is {article} {found} database: let its name end in .{end}, "
            f"or give it as {end}:///PATH"
        )
    whole = _sqlite_bytes(head) if engine == "SQLite" else None
    if whole is not None and num_bytes < whole:
        return f"it is cut off after {num_bytes} of {whole} bytes: fetch or copy it again"
    return ""


def _engine_of(head: bytes) -> EngineName | None:
    if head.startswith(SQLITE_MAGIC):
        return "SQLite"
    is_duckdb = head.startswith(DUCKDB_MAGIC, DUCKDB_MAGIC_AT)
    return "DuckDB" if is_duckdb else None


def _sqlite_bytes(head: bytes) -> int | None:
    """The size that the header of an SQLite file tells; None where it tells none.

    Source: "The Database File Format" of SQLite, sections 1.3.2 and 1.3.7: page size at 16, number
    of pages at 28, which counts only where the change counter at 24 equals the one at 92.
    """
    if len(head) < 100 or head[24:28] != head[92:96]:
        return None
    page_bytes = int.from_bytes(head[16:18], "big")
    num_pages = int.from_bytes(head[28:32], "big")
    return (65536 if page_bytes == 1 else page_bytes) * num_pages


def _kind_of(head: bytes, num_bytes: int) -> str:
    for sign, kind in SIGNS:
        if head.startswith(sign):
            return kind
    if head.startswith(b"ustar", TAR_SIGN_AT):
        return "a tar archive: unpack it first"
    if not head.strip(b"\0"):
        return "full of zeros, as a download that broke off leaves it: fetch it again"
    text = _text_of(head)
    if text is None:
        can_be_encrypted = num_bytes % 512 == 0
        return (
            "encrypted, damaged or of another program: no known header"
            if can_be_encrypted
            else "damaged or of another program: no known header"
        )
    return next((kind for sign, kind in TEXTS if sign.match(text)), "text, not a database")


def _text_of(head: bytes) -> str | None:
    """The beginning of a text file, which may end within a character; None for other files."""
    try:
        text = codecs.getincrementaldecoder(json.detect_encoding(head))().decode(head)
    except UnicodeDecodeError:
        return None
    text = text.removeprefix("\ufeff")
    is_text = all(sign.isprintable() or sign.isspace() for sign in text)
    return text if is_text else None
