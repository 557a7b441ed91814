# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (pyarrow ships no types; the rows below are checked by the round-trip test instead)
"""Labels as Parquet files: one for each file of trajectories, a row for each of its rows."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]

from mtsql.errors import DataError
from mtsql.prm.labels import Labelled, StepLabel

VERSION = 1
FIX = "make the labels again: mtsql prm label RECIPE --restart"
_LABEL = pa.struct([("source", pa.string()), ("value", pa.float64()), ("confidence", pa.float64())])
_SCHEMA = pa.schema(
    [("is_right", pa.bool_()), ("steps", pa.list_(pa.list_(_LABEL)))],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFile:
    """What a file of labels belongs to, in its metadata."""

    trajectories: str
    """Path of the file of trajectories, as it was given."""
    sha256: str
    """Of that file's bytes."""
    dataset: str
    """Hash of the prepared data's manifest."""


def digest_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def write_labels(path: Path, rows: Sequence[Labelled], of: LabelledFile) -> None:
    """Write one file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    about = {f"mtsql_{name}": value for name, value in asdict(of).items()}
    schema = _SCHEMA.with_metadata({"mtsql_labels": str(VERSION), **about})
    lines = [
        {"is_right": row.is_right, "steps": [[asdict(one) for one in step] for step in row.steps]}
        for row in rows
    ]
    try:
        table = pa.Table.from_pylist(lines, schema=schema)
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_labels(path: Path, *, dataset: str) -> tuple[LabelledFile, list[Labelled]]:
    """One file, checked against the trajectories that it names.

    Args:
        dataset: hash of the manifest of the data at hand.

    Raises:
        DataError: no such file, a damaged one, labels of other data, or other trajectories lie
            where those were that the labels are of.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            of = _about(path, file.schema_arrow.metadata or {})
            lines = file.read().to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; run `mtsql prm label RECIPE` first") from error
    # A damaged file is an OSError to Arrow, too, or a text that is not UTF-8.
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a Parquet file, or a damaged one: {reason}; remove it and {FIX}"
        ) from error
    if of.dataset != dataset:
        raise DataError(f"{path}: labels of other data than the recipe's (data.*); {FIX}")
    trajectories = Path(of.trajectories)
    if not trajectories.is_file() or digest_of(trajectories) != of.sha256:
        raise DataError(f"{path}: {trajectories} is gone or has changed since; {FIX}")
    rows = [
        Labelled(
            is_right=line["is_right"],
            steps=tuple(tuple(StepLabel(**one) for one in step) for step in line["steps"]),
        )
        for line in lines
    ]
    return of, rows


def _about(path: Path, metadata: Mapping[bytes, bytes]) -> LabelledFile:
    version = metadata.get(b"mtsql_labels")
    if version is None:
        raise DataError(f"{path}: not a file of labels; name RUN_DIR/prm/labels")
    if version != str(VERSION).encode():
        raise DataError(f"{path}: labels of version {version.decode()}, not {VERSION}; {FIX}")
    return LabelledFile(
        **{
            name: metadata[f"mtsql_{name}".encode()].decode()
            for name in LabelledFile.__dataclass_fields__
        }
    )
