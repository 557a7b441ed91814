"""Every key of a recipe is read by a run: one that is accepted and ignored misleads its user.

Reads are found by types, not by names alone: `spec.history` is no read of `environment.history`.
What a name holds is told by annotations, so an unannotated way to a section would be missed.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from helpers.source import modules, tree_of
from mtsql.config.run import RunConfig

CONFIG = "mtsql.config."
FOR_OTHER_KEYS = {"RewardConfig.preset"}
"""Sets the keys beside it, and has no reader of its own."""
Types = frozenset[type[BaseModel]]
NOTHING: Types = frozenset()


def sections_in(annotation: Any) -> Types:
    """The sections that a field's type holds: `RLConfig | None` -> RLConfig."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset({annotation})
    return frozenset[type[BaseModel]]().union(*map(sections_in, get_args(annotation)))


def all_sections(model: type[BaseModel] = RunConfig) -> Iterator[type[BaseModel]]:
    yield model
    for one in model.model_fields.values():
        for section in sections_in(one.annotation):
            yield from all_sections(section)


SECTIONS = {section.__name__: section for section in all_sections()}


def named_in(annotation: ast.expr | None) -> Types:
    """The sections that an annotation in the source names, in quotes or not."""
    if annotation is None:
        return NOTHING
    text = ast.unparse(annotation)
    return frozenset(section for name, section in SECTIONS.items() if name in _words(text))


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())


@dataclass
class Reader:
    """Which key of which section a tree reads, by what its annotations say about names.

    `members` are attributes and functions of any class or module whose annotation names a section:
    `self.config` and `context.config` are known by them.
    """

    members: dict[str, Types]
    keys: set[tuple[str, str]] = field(default_factory=set)

    def type_of(self, node: ast.expr | None, names: dict[str, Types]) -> Types:
        if isinstance(node, ast.Name):
            return names.get(node.id, NOTHING)
        if isinstance(node, ast.Attribute):
            owners = self.type_of(node.value, names)
            found = [
                sections_in(owner.model_fields[node.attr].annotation)
                for owner in owners
                if node.attr in owner.model_fields
            ]
            if found:
                return NOTHING.union(*found)
            return NOTHING if owners else self.members.get(node.attr, NOTHING)
        if isinstance(node, (ast.BoolOp, ast.Tuple, ast.List)):
            parts = node.values if isinstance(node, ast.BoolOp) else node.elts
            return NOTHING.union(*(self.type_of(part, names) for part in parts))
        if isinstance(node, ast.IfExp):
            return self.type_of(node.body, names) | self.type_of(node.orelse, names)
        if isinstance(node, ast.Call):
            return self.type_of_call(node, names)
        return NOTHING

    def type_of_call(self, node: ast.Call, names: dict[str, Types]) -> Types:
        if isinstance(node.func, ast.Name):
            if node.func.id in SECTIONS:
                return frozenset({SECTIONS[node.func.id]})
            return self.members.get(node.func.id, NOTHING)
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in ("model_copy", "model_validate", "model_validate_json"):
                owners = self.type_of(node.func.value, names)
                return owners | named_in(node.func.value)
            return self.members.get(node.func.attr, NOTHING)
        return NOTHING

    def names_of(self, body: ast.AST, outer: dict[str, Types]) -> dict[str, Types]:
        """The names that a function binds to sections, by parameters and assignments."""
        names = dict(outer)
        if isinstance(body, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            arguments = body.args
            for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                if one.arg != "self":
                    names[one.arg] = named_in(one.annotation)
        for _ in range(2):  # a name may be bound by one that is bound further down
            for node in ast.walk(body):
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    names[node.target.id] = named_in(node.annotation)
                elif isinstance(node, ast.Assign):
                    self.bind(node.targets[0], node.value, names)
                elif isinstance(node, (ast.For, ast.comprehension)):
                    self.bind(node.target, node.iter, names)
                elif isinstance(node, ast.NamedExpr):
                    self.bind(node.target, node.value, names)
        return names

    def bind(self, target: ast.expr, value: ast.expr, names: dict[str, Types]) -> None:
        if isinstance(target, ast.Name):
            if found := self.type_of(value, names):
                names[target.id] = found
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=False):
                self.bind(one, other, names)

    def read(self, body: ast.AST, names: dict[str, Types]) -> None:
        names = self.names_of(body, names)
        inner: list[ast.AST] = list(ast.iter_child_nodes(body))
        while inner:
            node = inner.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                self.read(node, names)
                continue
            if isinstance(node, ast.Attribute):
                for owner in self.type_of(node.value, names):
                    self.keys.add((owner.__name__, node.attr))
            inner += ast.iter_child_nodes(node)


def members_of(trees: Iterable[ast.Module]) -> dict[str, Types]:
    """What is annotated with a section anywhere: attributes of classes and results of functions."""
    found: dict[str, set[type[BaseModel]]] = defaultdict(set)
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for one in node.body:
                    if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                        found[one.target.id] |= named_in(one.annotation)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found[node.name] |= named_in(node.returns)
                parameters = {one.arg: named_in(one.annotation) for one in node.args.args}
                for one in ast.walk(node):
                    match one:  # self._config = config
                        case ast.Assign(
                            targets=[ast.Attribute(attr=attribute)], value=ast.Name(id=name)
                        ):
                            found[attribute] |= parameters.get(name, NOTHING)
    return {name: frozenset(types) for name, types in found.items() if types}


def keys_read() -> set[tuple[str, str]]:
    """(section, key) of all reads by a run, or by a section's own plain methods.

    A command may read a key too, as `mtsql play` does; a run must.
    """
    reader = Reader(members_of(map(tree_of, modules().values())))
    for module, path in modules().items():
        tree = tree_of(path)
        if module.startswith("recipes"):
            continue
        if not module.startswith(CONFIG):
            reader.read(tree, {})
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name in SECTIONS:
                for one in node.body:
                    if isinstance(one, ast.FunctionDef) and not is_check(one):
                        reader.read(one, {"self": frozenset({SECTIONS[node.name]})})
    return reader.keys


def is_check(function: ast.FunctionDef) -> bool:
    """A validator looks at keys, but nobody acts by that."""
    return any("validator" in ast.unparse(one) for one in function.decorator_list)


def unread(read: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    for section in SECTIONS.values():
        kin = {one for one in SECTIONS.values() if issubclass(one, section)} | {*section.__mro__}
        for key, one in section.model_fields.items():
            if sections_in(one.annotation):
                continue  # a section itself: its keys are looked at
            if not any((other.__name__, key) in read for other in kin):
                found.add(f"{section.__name__}.{key}")
    return found


def test_every_key_is_read() -> None:
    assert unread(keys_read()) == FOR_OTHER_KEYS


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("def f(config: RunConfig):\n    return config.sql.max_rows", {"SqlConfig.max_rows"}),
        ("def f(rl: 'RLConfig | None'):\n    return rl.learning_rate", {"RLConfig.learning_rate"}),
        (
            "def f(config: RunConfig):\n    rl = config.rl\n    def g():\n        return rl.seed",
            {"RLConfig.seed"},
        ),
        (
            "class A:\n    run: RunConfig\n\ndef f(a):\n    return a.run.environment.history",
            {"EnvironmentConfig.history"},
        ),
        ("def load() -> RunConfig: ...\n\nload().evaluation.gone", {"EvaluationConfig.gone"}),
        ("def f(spec: TurnSpec):\n    return spec.history", set()),
        ("def f(config: Other):\n    return config.environment.history", set()),
        ("def f(note):\n    return note['evaluation']['num_bootstrap']", set()),
    ],
)
def test_a_read_is_known_by_the_type_of_its_owner(source: str, keys: set[str]) -> None:
    tree = ast.parse(source)
    reader = Reader(members_of([tree]))
    reader.read(tree, {})
    leaves = {f"{owner}.{key}" for owner, key in reader.keys if owner != "RunConfig"}
    assert leaves == keys
