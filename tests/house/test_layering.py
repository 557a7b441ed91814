"""Imports point one way, mtsql <- envs <- actors <- recipes: all are read, late ones too."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.source import LAYERS, imported, modules, texts_of

HEAVY = {"ray", "torch", "verl", "vllm", "transformers", "tensordict", "transfer_queue"}
"""Only actors and recipes may import these."""
VERL_FILES = (
    "actors/cpu/platform.py",
    "actors/cpu/vllm.py",
    "actors/cpu/vllm_adapter.py",
    "actors/cpu/vllm_server.py",
    "actors/cpu/vllm_worker.py",
    "actors/learner/agent_loop.py",
    "actors/learner/rl.py",
    "actors/learner/rl_engine.py",
    "actors/learner/sft_trainer.py",
    "actors/learner/trainer.py",
)
"""The files that import verl, all and only they; keep the list short."""
VERL_ROOMS = ("actors/cpu", "actors/learner")
VERL_WORDS = re.compile(
    r"\bverl\b|VERL_|\bactor_rollout_ref\b|\bglobal_step|\btrainer\.\w|transfer_queue\."
    r"|latest_checkpointed|\b(actor|critic|val-core)/"
)
"""Keys, names of variables and folders, and metrics of verl, which change with its releases."""
NAMES_VERL = {
    "actors/plugin.py",  # the entry point that verl loads
    "recipes/commands/doctor.py",  # tells whether verl finds that entry point
    "recipes/commands/shared.py",  # tells how to install it
}


def files_of(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def roots_imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """(line, first name) of every import; a relative one is of its own package."""
    for line, module, _ in imported(ast.parse(source), package):
        yield line, module.partition(".")[0]


def violations(source: str, layer: str) -> list[str]:
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    is_light = layer in ("mtsql", "envs")
    return [
        f"line {line}: {layer} imports {name}"
        for line, name in roots_imported(source, layer)
        if (name in LAYERS and name not in allowed) or (is_light and name in HEAVY)
    ]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer: str) -> None:
    found = [
        f"{path.relative_to(ROOT)} {violation}"
        for path in files_of(layer)
        for violation in violations(path.read_text(encoding="utf-8"), layer)
    ]
    assert found == []


def imports_verl(source: str, layer: str) -> bool:
    return "verl" in {name for _, name in roots_imported(source, layer)}


def test_the_named_files_and_no_others_know_verl() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for layer in LAYERS
        for path in files_of(layer)
        if imports_verl(path.read_text(encoding="utf-8"), layer)
    ]
    assert sorted(found) == list(VERL_FILES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from verl.trainer import main_ppo", True),
        ("def f():\n    import verl.utils.config", True),
        ("from actors.learner.config import rl_config\nimport verlib", False),
        ('NAME = "verl"', False),
    ],
)
def test_importing_verl_is_seen_and_naming_it_is_not(source: str, expected: bool) -> None:
    assert imports_verl(source, "actors") is expected


def test_only_these_rooms_know_verl() -> None:
    assert {str(Path(name).parent) for name in VERL_FILES} == set(VERL_ROOMS)
    names = {
        path.relative_to(ROOT).as_posix()
        for path in modules().values()
        if any(VERL_WORDS.search(text) for _, text in texts_of(path))
    }
    found = {name for name in names if not name.startswith(VERL_ROOMS)}
    assert found == NAMES_VERL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("actor_rollout_ref.model", True),
        ("VERL_FILE_LOGGER_PATH", True),
        ("global_step_", True),
        ("trainer.nnodes", True),
        ("it trains for a global time", False),
        ("trainer", False),
    ],
)
def test_a_key_of_verl_is_seen_in_a_string(text: str, expected: bool) -> None:
    assert bool(VERL_WORDS.search(text)) is expected


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("mtsql", "import envs.turn"),
        ("mtsql", "def f():\n    from actors.run import command"),
        ("envs", "from torch import nn"),
        ("envs", "if True:\n    import importlib\n    importlib.import_module('ray.util')"),
        ("actors", "from recipes.main import main"),
    ],
)
def test_a_wrong_import_is_found(layer: str, source: str) -> None:
    assert len(violations(source, layer)) == 1


def test_right_imports_are_not() -> None:
    assert violations("from mtsql import errors\nfrom . import play\nimport json", "envs") == []


def test_the_light_layers_load_nothing_heavy() -> None:
    # A third-party package could still pull them in, so a fresh interpreter imports every module.
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for layer in ("mtsql", "envs")
        for path in files_of(layer)
        if path.name != "__init__.py"
    ]
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
