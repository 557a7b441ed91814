"""Database files below a folder, by db_id, as people have them.

A db_id is looked up among names that are listed, and never becomes part of a path. What an
operating system or an engine leaves beside a database is no database:

    pets/pets.sqlite        yes, and .db, .sqlite3, .duckdb in its place, or pets.sqlite alone
    pets/._pets.sqlite      no: macOS, as __MACOSX and .DS_Store
    pets/pets.sqlite-wal    no: SQLite, as -journal and -shm
    pets/~$pets.sqlite      no: an office program
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

SUFFIXES = (".sqlite", ".sqlite3", ".db", ".duckdb")
"""The first that is there counts."""
SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
_LEFTOVER = re.compile(r"\.|~\$|__MACOSX$|(Thumbs\.db|desktop\.ini)$", re.IGNORECASE)


def is_leftover(path: Path) -> bool:
    """Whether a file or folder is one that an operating system leaves beside others."""
    return _LEFTOVER.match(path.name) is not None


def find_databases(root: Path, *, suffixes: tuple[str, ...] = SUFFIXES) -> dict[str, Path]:
    """Files of databases by db_id: `root/DB/DB.sqlite`, or `root/DB.sqlite` where there is none.

    A folder and the file in it may differ in case; the folder names the database.
    """
    found: dict[str, Path] = {}
    places = _entries(root)
    for place in places:
        if place.is_dir():
            files = [path for path in _entries(place) if path.is_file()]
            path = _database_in(files, place.name, suffixes)
            if path is not None:
                found[place.name] = path
    files = [place for place in places if place.is_file()]
    for suffix in suffixes:
        for path in files:
            if path.suffix.lower() == suffix:
                found.setdefault(path.name[: -len(suffix)], path)
    return found


def database_of(db_id: str, databases: Mapping[str, Path]) -> Path | None:
    """The file of a db_id: under its own name, else under the only one that is spelled alike.

    Example: `Pets_1` finds `pets_1` and `pets-1`, if only one of them is there.
    """
    if db_id in databases:
        return databases[db_id]
    alike = [path for name, path in databases.items() if _spelling(name) == _spelling(db_id)]
    return alike[0] if len(alike) == 1 else None


def database_files(folder: Path, *, suffix: str = ".sqlite") -> Iterator[Path]:
    """All database files of one folder, as a test suite has them, by name."""
    for path in _entries(folder):
        if path.suffix == suffix and path.is_file():
            yield path


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_leftover(path))


def _database_in(files: list[Path], name: str, suffixes: tuple[str, ...]) -> Path | None:
    by_name = {path.name: path for path in files}
    for suffix in suffixes:
        if f"{name}{suffix}" in by_name:
            return by_name[f"{name}{suffix}"]
    alike = [
        path
        for path in files
        if path.suffix.lower() in suffixes and _spelling(path.stem) == _spelling(name)
    ]
    return alike[0] if len(alike) == 1 else None


def _spelling(name: str) -> str:
    return re.sub(r"[-_ .]+", "_", name.strip()).casefold()
