"""The project's own source as syntax trees: what it imports, and which texts it holds."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from helpers.places import ROOT

LAYERS = ("mtsql", "envs", "actors", "recipes")
"""Each may import itself and those before it."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the layers by its dotted name; a package stands for its `__init__.py`."""
    found: dict[str, Path] = {}
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str, str]]:
    """(line, module, name or "") of every import, late ones too; relative ones are made absolute.

    Example: `from . import b` in the package `a` gives (1, "a", "b").
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                above = parents[: len(parents) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, base, alias.name
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value, ""


def package_of(module: str) -> str:
    is_package = modules()[module].name == "__init__.py"
    return module if is_package else module.rpartition(".")[0]


@cache
def arrows() -> dict[str, frozenset[str]]:
    """Which modules of ours each module of ours imports."""
    own = modules()
    found: dict[str, frozenset[str]] = {}
    for module, path in own.items():
        targets: set[str] = set()
        for _, base, name in imported(tree_of(path), package_of(module)):
            whole = f"{base}.{name}"
            targets.add(whole if whole in own else base)
        found[module] = frozenset(targets & own.keys()) - {module}
    return found


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string in a file but its docstrings."""
    tree = tree_of(path)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in docstrings:
            continue
        if isinstance(node.value, str):
            yield node.lineno, node.value


def circles(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other, each sorted (Tarjan's strong components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_nodes: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        open_nodes.append(node)
        for target in graph[node]:
            if target not in order:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in open_nodes:
                lowest[node] = min(lowest[node], order[target])
        if lowest[node] == order[node]:
            start = open_nodes.index(node)
            group, open_nodes[start:] = open_nodes[start:], []
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in order:
            visit(node)
    return sorted(found)
