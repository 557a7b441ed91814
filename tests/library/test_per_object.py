"""What is remembered of an object."""

import gc
from dataclasses import dataclass

from mtsql.per_object import PerObject


@dataclass
class Thing:
    """Equal to its copies, and cannot be hashed."""

    name: str


def test_each_object_has_its_own_value_for_as_long_as_it_lives() -> None:
    made: list[str] = []

    def make(thing: Thing) -> list[str]:
        made.append(thing.name)
        return [thing.name]

    remembered: PerObject[Thing, list[str]] = PerObject(make)
    first, copy = Thing("a"), Thing("a")
    assert remembered.of(first) is remembered.of(first)
    assert remembered.of(copy) is not remembered.of(first)
    assert (made, len(remembered)) == (["a", "a"], 2)
    del copy
    gc.collect()
    assert len(remembered) == 1
    assert remembered.of(first) == ["a"]
