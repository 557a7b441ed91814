"""Why a database cannot be opened: one reason with its fix, the same in every command."""

import gzip
import os
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from random import Random

import duckdb
import pytest

from mtsql.data.reflect import reflect
from mtsql.errors import DataError
from mtsql.sql.engine import CannotOpenError
from mtsql.sql.engines import open_engine, why_unreadable
from mtsql.sql.unreadable import why_no_database


def make_sqlite(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE pet (name TEXT); INSERT INTO pet VALUES ('Ada');")
    return path


def make_duckdb(path: Path) -> Path:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE pet (name TEXT)")
    return path


def why_not_opened(path: Path) -> str:
    """What the engine says, which must be what is said without one."""
    with pytest.raises(CannotOpenError) as caught:
        open_engine(path, memory_bytes=100_000_000)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty (0 bytes): fetch"),
        (b"hello\nworld\n" * 90, "it is text, not a database"),
        (b"\xef\xbb\xbfname,age\r\nAda,3\r\n", "it is text, perhaps CSV: load it"),
        ("name;age\nÖ;3\n".encode("utf-16"), "it is text, perhaps CSV: load it"),
        (b'[{"name": "Ada"}]', "it is JSON: load it"),
        (b"-- a dump\nCREATE TABLE pet (name TEXT);", "it is a script of SQL: run it first"),
        (b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;", "it is a script of SQL"),
        (b"<!DOCTYPE html><title>404</title>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (gzip.compress(b"x", mtime=0), "it is compressed with gzip: unpack it"),
        (b"PAR1" + bytes(90) + b"PAR1", "it is a Parquet file: load it"),
        (b"\x00\x05\x16\x07" + bytes(80), "that macOS leaves beside another"),
        (bytes(8192), "it is full of zeros"),
        (Random(1).randbytes(8192), "it is encrypted, damaged or of another program"),
        (Random(1).randbytes(8191), "it is damaged or of another program"),
        (bytes(257) + b"ustar\x0000", "it is a tar archive"),
    ],
)
@pytest.mark.parametrize("end", ["sqlite", "duckdb"])
def test_what_a_file_is_instead(content: bytes, words: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{end}"
    path.write_bytes(content)
    assert words in why_not_opened(path)
    assert words in why_unreadable(path)
    with pytest.raises(DataError) as caught:
        reflect("x", path)
    engine = "an SQLite" if end == "sqlite" else "a DuckDB"
    assert f"x.{end}: cannot be read as {engine} database: it is " in str(caught.value)
    assert words in str(caught.value)
    assert path.read_bytes() == content


def test_an_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.sqlite", "w") as archive:
        archive.writestr("pet.csv", "name\nAda\n")
    assert "it is a zip archive" in why_not_opened(tmp_path / "x.sqlite")


def test_a_database_of_the_other_engine_is_named_with_both_ways_out(tmp_path: Path) -> None:
    one, other = make_duckdb(tmp_path / "a.db"), make_sqlite(tmp_path / "b.duckdb")
    assert why_not_opened(one) == (
        "it is a DuckDB database: let its name end in .duckdb, or give it as duckdb:///PATH"
    )
    assert why_not_opened(other) == (
        "it is an SQLite database: let its name end in .sqlite, or give it as sqlite:///PATH"
    )
    # Both ways are true.
    assert why_unreadable(f"duckdb:///{one}") == ""
    open_engine(f"duckdb:///{one}", memory_bytes=100_000_000).close()
    open_engine(f"sqlite:///{other}", memory_bytes=100_000_000).close()


def test_what_stands_in_the_place_of_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sqlite")
    for path, words in (
        (tmp_path / "none.sqlite", "no such file"),
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "pipe.sqlite", "is a pipe, not a file"),
    ):
        assert why_unreadable(path) == words
        assert why_not_opened(path) == words


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = make_sqlite(tmp_path / "x.sqlite")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    assert "it may not be read (Permission denied)" in why_not_opened(path)


def test_a_file_that_is_cut_off_or_damaged(tmp_path: Path) -> None:
    whole = make_sqlite(tmp_path / "whole.sqlite").read_bytes()
    assert len(whole) == 8192
    path = tmp_path / "x.sqlite"
    path.write_bytes(whole[:5000])
    assert "it is cut off after 5000 of 8192 bytes" in why_not_opened(path)
    path.write_bytes(whole[:100] + b"\xff" * 3996 + whole[4096:])
    assert "it is damaged: fetch" in why_not_opened(path)
    with pytest.raises(DataError, match=r"x\.sqlite: cannot be read .* it is damaged: fetch"):
        reflect("x", path)
    path = tmp_path / "x.duckdb"
    path.write_bytes(make_duckdb(tmp_path / "whole.duckdb").read_bytes()[:9000])
    assert "it is damaged: fetch" in why_not_opened(path)


def test_a_duckdb_file_of_another_version(tmp_path: Path) -> None:
    path = make_duckdb(tmp_path / "x.duckdb")
    data = bytearray(path.read_bytes())
    data[12:20] = (39).to_bytes(8, "little")  # the storage version, behind the magic word
    checksum = 5381
    for place in range(8, 4096, 8):
        word = int.from_bytes(data[place : place + 8], "little")
        checksum ^= word * 0xBF58476D1CE4E5B9 % 2**64
    data[:8] = checksum.to_bytes(8, "little")
    path.write_bytes(data)
    assert "another version of DuckDB wrote it (storage version 39; this is" in why_not_opened(path)


def test_changes_beside_a_file_in_a_folder_that_is_read_only(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    writer = sqlite3.connect(tmp_path / "x.sqlite")
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE pet (name TEXT)")
    writer.commit()
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"x.sqlite{end}", folder / f"x.sqlite{end}")
    writer.close()
    path = folder / "x.sqlite"
    assert 'close what writes to it, then run: sqlite3 FILE "PRAGMA' in why_unreadable(path)
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("root may write everywhere")
        assert "copy both files to a folder that you may write to" in why_unreadable(path)
    finally:
        folder.chmod(0o755)


def test_a_database_with_everything_is_fine(tmp_path: Path) -> None:
    assert why_no_database(make_sqlite(tmp_path / "a.sqlite"), "SQLite") == ""
    assert why_no_database(make_duckdb(tmp_path / "a.duckdb"), "DuckDB") == ""
