"""The documents of the project, and the commands that they may name."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from helpers.places import ROOT
from recipes.main import build_parser

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def documents() -> list[Path]:
    """Every README and the other texts at the top; CHANGELOG.md names what is gone, too."""
    rooms = ("mtsql", "envs", "actors", "recipes", "tests")
    found = [*ROOT.glob("*.md"), *(path for room in rooms for path in (ROOT / room).rglob("*.md"))]
    return sorted(path for path in found if path.name != "CHANGELOG.md")


def commands() -> list[list[str]]:
    """The words of every command, such as ["bench", "sql"]."""
    return list(_below(build_parser(), []))


def _below(parser: argparse.ArgumentParser, words: list[str]) -> Iterator[list[str]]:
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        yield words
    for group in groups:
        for name, inner in group.choices.items():
            yield from _below(inner, [*words, name])


def spans(text: str) -> list[str]:
    """What stands between single backticks, outside of blocks."""
    return SPAN.findall(FENCE.sub("", text))


def examples(text: str) -> list[list[str]]:
    """The arguments of each whole `mtsql` command: in blocks, and in the first cell of a table."""
    lines = [
        line.removeprefix("$ ").removeprefix(".venv/bin/")
        for _, block in FENCE.findall(text)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(r"^\| `(mtsql [^`]*)`", text, re.M)
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mtsql ")]
