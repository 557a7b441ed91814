"""Text is read as people save it; a file is written whole or not at all."""

from pathlib import Path

import pytest

from mtsql.errors import DataError
from mtsql.files import decoded, read_text, write_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert write_whole(path, "old") == path
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_no_part_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "a" * 100_000 + "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(folder, "text")
    assert sorted(tmp_path.iterdir()) == [path, folder]


TEXT = "SELECT 'Zürich'\nFROM t\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_text_is_the_same_however_an_editor_saves_it(encoding: str, line_end: str) -> None:
    assert decoded(TEXT.replace("\n", line_end).encode(encoding)) == TEXT


def test_an_empty_text_and_a_mark_alone_are_empty() -> None:
    assert [decoded(raw) for raw in (b"", b"\xef\xbb\xbf", b"\xff\xfe")] == ["", "", ""]


def test_what_is_no_text_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("a\nZürich".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert str(caught.value) == (
        f"{path}: is not UTF-8 text (line 2 holds the byte 0xfc); save it as UTF-8"
    )
    with pytest.raises(DataError, match=r"none\.txt: cannot be read \(No such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory"):
        read_text(tmp_path)
