"""What is remembered of an object for as long as the object lives."""

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

Owner = TypeVar("Owner")
Value = TypeVar("Value")


class PerObject(Generic[Owner, Value]):
    """One value for each object, made when it is first asked for.

    Objects are told apart by identity: some cannot be hashed, and comparing others (a schema of 350
    columns takes 3 ms) costs more than what is remembered saves.
    """

    def __init__(self, make: Callable[[Owner], Value]) -> None:
        self._make = make
        self._values: dict[int, Value] = {}

    def __len__(self) -> int:
        """How many objects with a value are alive."""
        return len(self._values)

    def of(self, owner: Owner) -> Value:
        """The owner's value. Owners must allow weak references."""
        value = self._values.get(id(owner))
        if value is None:
            value = self._values[id(owner)] = self._make(owner)
            weakref.finalize(owner, self._values.pop, id(owner), None).atexit = False
        return value
