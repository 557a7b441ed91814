"""What `mtsql sql` shows of an answer: all of it, whatever the width of the screen."""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios

import pytest

from mtsql.sql.records import Cell, QueryResult, QueryStatus
from recipes.sql.table import print_table

STYLES = re.compile(r"\x1b\[[\d;]*m")
LONG = "x" * 300
END = "<end>"


def answer(columns: list[str], *rows: list[Cell]) -> QueryResult:
    return QueryResult(
        status=QueryStatus.OK, columns=tuple(columns), rows=tuple(tuple(row) for row in rows)
    )


def on_terminal(result: QueryResult, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal of so many columns is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(theirs, "w", encoding="utf-8") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        print_table(result)
        screen.write(END)
        screen.flush()
        sent = b""
        while not sent.endswith(END.encode()):  # a terminal hands on what it has by then
            sent += os.read(ours, 1 << 16)
    os.close(ours)
    return sent.decode().removesuffix(END).replace("\r\n", "\n")


def test_a_pipe_gets_whole_cells_one_row_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(answer(["a", "b"], [LONG + "1", 1], [LONG + "2", 2]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [LONG + "1", "1"] in lines
    assert [LONG + "2", "2"] in lines


def test_a_pipe_gets_sixty_columns_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(answer([f"c{n}" for n in range(60)], [f"v{n}" for n in range(60)]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [f"c{n}" for n in range(60)] in lines
    assert [f"v{n}" for n in range(60)] in lines


def test_no_row_is_padded_to_a_huge_cell(capsys: pytest.CaptureFixture[str]) -> None:
    huge = "y" * 100_000
    print_table(answer(["a", "b"], [huge, 1], ["z", 2]))
    expected = f"row 1\n  a: {huge}\n  b: 1\nrow 2\n  a: z\n  b: 2\n"
    assert capsys.readouterr().out == expected


def test_a_terminal_folds_long_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    out = on_terminal(answer(["a", "b"], [LONG + "1", 7], ["short", 8]), 80, monkeypatch)
    assert out.count("x") == 300
    assert "…" not in out
    assert max(map(len, STYLES.sub("", out).splitlines())) <= 80


def test_columns_that_a_terminal_cannot_hold_become_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    # 12 columns of 3 characters take 12 * 3 + 12 * 3 + 1 = 73; 13 take 79.
    twelve = answer([f"c{n:02}" for n in range(12)], [f"v{n:02}" for n in range(12)])
    assert "row 1" not in on_terminal(twelve, 73, monkeypatch)
    out = on_terminal(twelve, 72, monkeypatch)
    assert out == "row 1\n" + "".join(f"  c{n:02}: v{n:02}\n" for n in range(12))
    empty = answer([f"c{n:02}" for n in range(12)])
    assert on_terminal(empty, 72, monkeypatch).split() == ["columns", *empty.columns]


def test_no_cell_or_name_speaks_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "a\x1b[31mb\x9bc\x7fd\ne\tf\x00g [bold]h :smile: i"
    out = on_terminal(answer(["n\x1b]0;t\x07"], [cell]), 120, monkeypatch)
    assert "a\\x1b[31mb\\x9bc\\x7fd\\ne\\tf\\x00g [bold]h :smile: i" in out
    assert "n\\x1b]0;t\\x07" in out
    # What styles the head is rich's own.
    assert "\x1b]" not in out
    assert "\x1b[31m" not in out


def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    print_table(answer(["a"], ["Żółw"]))
    file.flush()
    text = written.getvalue().decode("ascii")
    assert "\\u017b\\xf3\\u0142w" in text
