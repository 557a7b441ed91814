"""The prepared dataset: one folder that everything downstream reads.

    OUT/dataset.json    name, seed, splits, databases, skipped turns; written last
    OUT/train.jsonl     one Dialogue a line; also valid, test and any further split
    OUT/schemas.json    a list of Schema, one for each database
    OUT/databases/...   only where the data is generated; real databases stay where they are

Paths of databases are relative to OUT when they lie inside it, else absolute. A db_id is looked up
in dataset.json and never becomes part of a path.
"""

import shutil
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mtsql.dialogue import Dialogue
from mtsql.errors import DataError, first_mistake
from mtsql.schema import Schema
from mtsql.sql.registry import file_sha256

MANIFEST = "dataset.json"
SCHEMAS = "schemas.json"
SPLITS = ("train", "valid", "test", "test_unseen_db", "test_ood")
"""The usual splits, in the order in which they are shown."""

T = TypeVar("T")
_SCHEMA_LIST = TypeAdapter(list[Schema])


class SkippedTurn(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """A turn of the source that is in no split, and why."""

    dialogue_id: str
    turn_id: str | None
    """None: the dialogue as a whole, because it has no turns."""
    db_id: str
    reason: str
    """`KIND: DETAIL`."""

    @property
    def kind(self) -> str:
        """The part of the reason that reports count."""
        return self.reason.split(":", 1)[0]


class SplitEntry(BaseModel, frozen=True, extra="forbid"):
    file: str = Field(pattern=r"^\w+\.jsonl$")
    num_dialogues: int
    num_turns: int
    sha256: str


class DatabaseEntry(BaseModel, frozen=True, extra="forbid"):
    path: str
    sha256: str


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """What dataset.json holds."""

    name: str
    seed: int
    splits: dict[str, SplitEntry]
    databases: dict[str, DatabaseEntry]
    skipped: tuple[SkippedTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A prepared folder in memory: every file was read, checked and compared with its hash."""

    folder: Path
    name: str
    seed: int
    splits: Mapping[str, tuple[Dialogue, ...]]
    schemas: Mapping[str, Schema]
    databases: Mapping[str, Path]
    """Absolute path of each database file."""
    skipped: tuple[SkippedTurn, ...] = ()

    def split(self, name: str) -> tuple[Dialogue, ...]:
        """The dialogues of one split; DataError names the splits there are."""
        if name not in self.splits:
            known = ", ".join(self.splits)
            raise DataError(f"{self.folder / MANIFEST}: no split {name!r}; choose one of: {known}")
        return self.splits[name]


@contextmanager
def staging_folder(out: Path) -> Generator[Path]:
    """An empty sibling of `out` that takes its place when the block ends without an error.

    Write databases and call `write_dataset` inside the block. An earlier dataset at `out` is
    replaced whole; a folder that holds anything else is refused with DataError at once.
    """
    out = out.absolute()
    if out.exists() and not _is_replaceable(out):
        raise DataError(
            f"{out}: exists and is no prepared dataset (no {MANIFEST}); "
            "choose another --out, or remove it yourself"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(mkdtemp(prefix=f".{out.name}.", suffix=".staging", dir=out.parent))
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from error
    try:
        staging.chmod(0o755)  # mkdtemp gives 0700; a dataset is an ordinary folder
        yield staging
        if out.exists():
            # Two renames: the old dataset is never half deleted where a reader may look for it.
            retired = Path(mkdtemp(prefix=f".{out.name}.", suffix=".retired", dir=out.parent))
            out.rename(retired / out.name)
            staging.rename(out)
            shutil.rmtree(retired)
        else:
            staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_replaceable(out: Path) -> bool:
    return out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))


def write_dataset(
    out: Path,
    *,
    name: str,
    seed: int,
    splits: Mapping[str, Sequence[Dialogue]],
    databases: Mapping[str, Path],
    schemas: Sequence[Schema],
    skipped: Sequence[SkippedTurn] = (),
) -> None:
    """Write the dataset's files into `out`, dataset.json last: only with it a folder is a dataset.

    Use inside `staging_folder` to replace an earlier dataset in one move; called directly, `out`
    may be absent or hold database files, but none of the files that are written here.

    Raises:
        DataError: a file is in the way, or a dialogue's database has no path or schema.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file in (MANIFEST, SCHEMAS, *(f"{split}.jsonl" for split in splits)):
        if (out / file).exists():
            raise DataError(f"{out / file}: is in the way; choose an empty folder for the dataset")
    for dialogues in splits.values():
        _check_databases_known(out, dialogues, databases, {schema.db_id for schema in schemas})
    entries: dict[str, SplitEntry] = {}
    for split, dialogues in splits.items():
        path = out / f"{split}.jsonl"
        lines = (dialogue.model_dump_json() + "\n" for dialogue in dialogues)
        path.write_text("".join(lines), encoding="utf-8")
        entries[split] = SplitEntry(
            file=path.name,
            num_dialogues=len(dialogues),
            num_turns=sum(len(dialogue.turns) for dialogue in dialogues),
            sha256=file_sha256(path),
        )
    (out / SCHEMAS).write_bytes(_SCHEMA_LIST.dump_json(list(schemas), indent=1))
    manifest = Manifest(
        name=name,
        seed=seed,
        splits=entries,
        databases={
            db_id: DatabaseEntry(path=_portable(path, out), sha256=file_sha256(path))
            for db_id, path in sorted(databases.items())
        },
        skipped=tuple(skipped),
    )
    (out / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _portable(path: Path, out: Path) -> str:
    path, out = path.resolve(), out.resolve()
    return path.relative_to(out).as_posix() if path.is_relative_to(out) else str(path)


def load_dataset(folder: Path) -> Dataset:
    """Read and check a prepared folder.

    Raises:
        DataError: a file is missing, malformed or changed since preparation; the text names the
            file, the line or key, and the fix.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; make it with `mtsql data prepare` or `generate`"
        )
    manifest = _read_manifest(folder)
    schemas = _validated(folder / SCHEMAS, _read(folder / SCHEMAS), _SCHEMA_LIST.validate_json)
    schema_of = {schema.db_id: schema for schema in schemas}
    databases = _checked_databases(folder, manifest)
    splits: dict[str, tuple[Dialogue, ...]] = {}
    for split, entry in manifest.splits.items():
        path = folder / entry.file
        dialogues = _read_dialogues(path)
        _check_databases_known(path, dialogues, databases, schema_of)
        # After the lines are read, so that a malformed line is named rather than a hash.
        if file_sha256(path) != entry.sha256:
            raise DataError(
                f"{path}: differs from its sha256 in {MANIFEST}: it was edited; prepare it again"
            )
        splits[split] = dialogues
    return Dataset(
        folder=folder,
        name=manifest.name,
        seed=manifest.seed,
        splits=splits,
        schemas=schema_of,
        databases=databases,
        skipped=manifest.skipped,
    )


def check_databases(folder: Path) -> None:
    """Compare the database files of a prepared folder with their hashes again.

    Raises:
        DataError: one is missing or changed since preparation; the text names it.
    """
    folder = folder.absolute()
    _checked_databases(folder, _read_manifest(folder))


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    return _validated(path, _read(path), Manifest.model_validate_json)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); prepare the dataset again"
        ) from error


def _validated(where: object, raw: bytes, validate: Callable[[bytes], T]) -> T:
    try:
        return validate(raw)
    except ValidationError as error:
        raise DataError(f"{where}: {first_mistake(error)}; prepare the dataset again") from error


def _read_dialogues(path: Path) -> tuple[Dialogue, ...]:
    # Split on b"\n" alone: str.splitlines would also break at U+2028 inside a question.
    return tuple(
        _validated(f"{path}, line {number}", line, Dialogue.model_validate_json)
        for number, line in enumerate(_read(path).split(b"\n"), start=1)
        if line.strip()
    )


def _check_databases_known(
    where: Path,
    dialogues: Sequence[Dialogue],
    databases: Container[str],
    schemas: Container[str],
) -> None:
    for number, dialogue in enumerate(dialogues, start=1):
        for known, place in ((databases, f"databases of {MANIFEST}"), (schemas, SCHEMAS)):
            if dialogue.db_id not in known:
                raise DataError(
                    f"{where}, dialogue {number} ({dialogue.dialogue_id}): db_id "
                    f"{dialogue.db_id!r} is not in the {place}; add it or leave the dialogue out"
                )


def _checked_databases(folder: Path, manifest: Manifest) -> dict[str, Path]:
    return {
        db_id: _checked_database(folder, db_id, entry)
        for db_id, entry in manifest.databases.items()
    }


def _checked_database(folder: Path, db_id: str, entry: DatabaseEntry) -> Path:
    path = folder / entry.path  # an absolute entry.path replaces folder
    where = f"{folder / MANIFEST}, key databases.{db_id}"
    if not path.is_file():
        raise DataError(f"{where}: no database file at {path}; put it back or prepare again")
    if file_sha256(path) != entry.sha256:
        raise DataError(f"{where}: {path} changed since preparation (sha256); prepare again")
    return path
