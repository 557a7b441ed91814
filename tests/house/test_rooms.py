"""Rooms and what each may import: floors, top down; nothing points up and nothing runs in a circle.

A room is a folder of a layer, or a file that stands beside them.
"""

import re
from collections import Counter, defaultdict

import pytest

from helpers.places import ROOT
from helpers.source import LAYERS, arrows, circles, modules

FLOORS = """
recipes: main
recipes: commands
recipes: bench cocte export play prm score
recipes: sql
actors:  stages
actors:  run
actors:  prm
actors:  learner pretrained
actors:  rollout
actors:  failures log plugin sql_pool tiny_model sentence_embedder
actors:  cpu
envs:    scripts users
envs:    play
envs:    turn
envs:    database dialects
envs:    prompts records replies
mtsql:   report
mtsql:   audit runs
mtsql:   mistakes curriculum prm
mtsql:   rewards selftaught
mtsql:   trajectory data
mtsql:   chains evaluation shown
mtsql:   config query
mtsql:   dialogue files sql
mtsql:   errors garbage parent per_object protocol schema
"""
"""A room may import those of the floors below, and of its own floor as long as no circle arises."""


def room_of(module: str) -> str:
    """`mtsql.sql.pool` -> `mtsql.sql`; a layer's own `__init__.py` is the layer."""
    return ".".join(module.split(".")[:2])


def floors() -> dict[str, int]:
    """The height of each room; the lowest floor is 0."""
    lines = FLOORS.strip().splitlines()
    found: dict[str, int] = {}
    for height, line in enumerate(reversed(lines)):
        layer, rooms = line.split(":")
        found |= {f"{layer}.{room}": height for room in rooms.split()}
    return found


def rises(imports: dict[str, frozenset[str]], heights: dict[str, int]) -> set[str]:
    """Arrows from a room to a room above it."""
    return {
        f"{module} -> {target}"
        for module, targets in imports.items()
        for target in targets
        if room_of(module) in heights and room_of(target) in heights
        if heights[room_of(target)] > heights[room_of(module)]
    }


def between_rooms(imports: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, targets in imports.items():
        rooms[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    return {room: frozenset(targets) for room, targets in rooms.items()}


def test_every_room_stands_on_a_floor() -> None:
    rooms = {room_of(module) for module in modules()} - set(LAYERS)
    assert rooms - floors().keys() == set(), "name the new room in FLOORS"
    assert floors().keys() - rooms == set(), "take the room out of FLOORS"


def test_no_import_points_up() -> None:
    assert rises(arrows(), floors()) == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(arrows()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circles(between_rooms(arrows())) == []


@pytest.mark.parametrize(
    ("module", "target", "found"),
    [
        ("mtsql.sql.pool", "mtsql.errors", False),
        ("mtsql.sql.pool", "mtsql.files", False),  # its own floor
        ("mtsql.sql.pool", "mtsql.query.names", True),
        ("mtsql.report.page", "envs.turn", True),
        ("mtsql", "mtsql.report", False),  # a layer's __init__ stands on no floor
    ],
)
def test_an_arrow_up_is_found(module: str, target: str, found: bool) -> None:
    assert bool(rises({module: frozenset({target})}, floors())) is found


def test_a_circle_is_found_over_any_number_of_steps() -> None:
    nodes = {"a": "b", "b": "c", "c": "a", "d": "a", "e": "e"}
    assert circles({node: frozenset(targets) for node, targets in nodes.items()}) == [
        ["a", "b", "c"]
    ]


def test_the_library_explains_every_room_on_its_floor() -> None:
    text = (ROOT / "mtsql" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`[^|]+`) \|", text, re.M)
    explained = {
        f"mtsql.{room}": int(floor)
        for floor, names in rows
        for room in re.findall(r"`(\w+)`", names)
    }
    library = {room: height for room, height in floors().items() if room.startswith("mtsql.")}
    assert explained == library


@pytest.mark.parametrize("layer", ["envs", "actors"])
def test_a_layer_explains_every_room(layer: str) -> None:
    text = (ROOT / layer / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)(?:/|\.py)`", text))
    assert {room for room in floors() if room.startswith(layer)} <= {f"{layer}.{n}" for n in named}


def test_no_two_test_files_share_a_name() -> None:
    # Tests are no package: pytest imports a file by its name alone, and refuses the second.
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
