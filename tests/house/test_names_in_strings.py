"""What stands in a string breaks silently when a file moves: dotted names, programs, paths."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.places import ROOT
from helpers.source import LAYERS, modules, texts_of, tree_of

DOTTED = re.compile(rf"(?:pkg://)?((?:{'|'.join(LAYERS)})(?:\.\w+)+)")
"""A class for verl or vLLM, a module for `python -m` or for `importlib.resources`."""
PROGRAM = re.compile(r"^from ([\w.]+) import (\w+)$|^import ([\w.]+)$", re.MULTILINE)
"""An import in a text that another process runs."""
FILE = re.compile(rf"\b(?:{'|'.join((*LAYERS, 'docker', 'tests'))})/[\w./*-]+\.[\w*]+")
NOT_MODULES = {"mtsql.jsonl"}
"""Looks like a dotted path: the name of an exported file."""


def problem_of(dotted: str) -> str | None:
    """Why nothing has this name; None if a module has it, or something that a module defines."""
    if dotted in modules():
        return None
    module, _, name = dotted.rpartition(".")
    if module not in modules():
        return f"no module {module}"
    for node in tree_of(modules()[module]).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [node.name]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            names = []
        if name in names:
            return None
    return f"{module} defines no {name}"


def dotted_in(text: str) -> Iterator[str]:
    """The dotted names of ours that a text stands for: as a whole, or by the imports in it."""
    if (whole := DOTTED.fullmatch(text)) and text not in NOT_MODULES:
        yield whole[1]
    for module, name, plain in PROGRAM.findall(text):
        found = f"{module}.{name}" if name else plain
        if found.partition(".")[0] in LAYERS:
            yield found


def sources() -> list[Path]:
    return [*modules().values(), *sorted((ROOT / "docker").glob("*.py"))]


def all_texts() -> Iterator[tuple[str, str]]:
    """(file:line, text)"""
    for path in sources():
        for line, text in texts_of(path):
            yield f"{path.relative_to(ROOT)}:{line}", text


def test_every_dotted_name_in_a_string_is_there() -> None:
    found = [(place, dotted) for place, text in all_texts() for dotted in dotted_in(text)]
    assert len(found) > 5  # the agent loop, vLLM's adapter and worker, the data set, two stages
    wrong = [f"{place}: {why}" for place, dotted in found if (why := problem_of(dotted))]
    assert wrong == []


def test_every_file_that_a_string_names_is_there() -> None:
    wrong = [
        f"{place}: {name}"
        for place, text in all_texts()
        for name in FILE.findall(text)
        if not any(ROOT.glob(name))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("actors.learner.agent_loop.DialogueAgentLoop", [None]),
        ("pkg://actors.learner.sft_dataset", [None]),
        ("actors.learner.DialogueAgentLoop", ["actors.learner defines no DialogueAgentLoop"]),
        ("actors.agent_loop.DialogueAgentLoop", ["no module actors.agent_loop"]),
        ("import os\nfrom mtsql.sql.worker import mine\n", ["mtsql.sql.worker defines no mine"]),
        ("import mtsql.nowhere", ["mtsql defines no nowhere"]),
        ("see mtsql.sql.postgres, which says more", []),
        ("from torch import nn", []),
    ],
)
def test_a_name_that_moved_is_found(text: str, problems: list[str | None]) -> None:
    assert [problem_of(dotted) for dotted in dotted_in(text)] == problems


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_entry_points_are_there(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    entries = [*project["scripts"].values()]
    for group in project["entry-points"].values():
        entries += group.values()
    assert [problem_of(entry.replace(":", ".")) for entry in entries] == [None] * len(entries)


def alternatives(pattern: str) -> list[str]:
    """`a/{b,c}.py` -> [`a/b.py`, `a/c.py`]: each part of a pattern must match something."""
    before, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    inside, _, after = rest.partition("}")
    return [f"{before}{one}{after}" for one in inside.split(",")]


def test_the_paths_of_the_tools_settings_are_there(pyproject: dict[str, Any]) -> None:
    tool = pyproject["tool"]
    patterns = [
        *tool["ruff"]["lint"]["per-file-ignores"],
        *tool["hatch"]["build"]["targets"]["wheel"]["packages"],
        *tool["hatch"]["build"]["targets"]["sdist"]["include"],
        *tool["pyright"]["include"],
        *tool["pyright"]["strict"],
        *tool["pytest"]["ini_options"]["testpaths"],
        *tool["pytest"]["ini_options"]["pythonpath"],
    ]
    names = [name for pattern in patterns for name in alternatives(pattern)]
    assert [name for name in names if not any(ROOT.glob(name))] == []
