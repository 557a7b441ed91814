"""The errors a user can cause, in one tree, and how a malformed record is explained.

UserError            a mistake in a file, a key or a command: one line, exit code 2
  ConfigError        a recipe or an override
  DataError          a dialogue file, a schema file or a database
  ModelError         a model folder
  MachineError       no disk, no port, a missing package
"""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:  # commands that check nothing stay instant
    from pydantic import BaseModel, ValidationError

MAX_GIVEN_CHARS = 80
NUM_NAMED = 5
"""Of the things that a message is about; the others are counted."""


class UserError(Exception):
    """A mistake that the user can fix; one line names the file, the key and the fix."""


class ConfigError(UserError):
    """A recipe or an override is wrong."""


class DataError(UserError):
    """A dialogue file, a schema file or a database is missing or malformed."""


class ModelError(UserError):
    """A model path holds no model that can be loaded."""


class MachineError(UserError):
    """The machine lacks something: disk space, a free port, a package."""


def some_of(names: Sequence[object], *, num: int = NUM_NAMED) -> str:
    """The first of many names, and how many more there are: `a, b, c and 7 more`."""
    shown = ", ".join(map(str, names[:num]))
    return f"{shown} and {len(names) - num} more" if len(names) > num else shown


def first_mistake(
    error: "ValidationError",
    model: "type[BaseModel] | None" = None,
    *,
    shows_given: bool = True,
    inside: str = "",
) -> str:
    """The first mistake of a pydantic error in one line: the key's path and what is wrong.

    Args:
        model: what was to be read; an unknown key is answered with its nearest right name.
        shows_given: quote the value that stands there.
        inside: the path of what was read, which goes before the key's.

    Example:
        key 'rl.group_size': Input should be greater than or equal to 2 (given: 1) (and 2 more)
    """
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join([inside, *path] if inside else path)
    more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
    if first["type"] == "extra_forbidden":
        names = _keys_at(model, path[:-1])
        near = difflib.get_close_matches(path[-1], names, n=1)
        known = f"; known keys: {', '.join(names)}" if names else ""
        hint = f"; did you mean {near[0]!r}?" if near else known
        return f"unknown key {key!r}{hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"{message}{more}"
    given = repr(first["input"])
    if len(given) > MAX_GIVEN_CHARS:
        given = f"{given[:MAX_GIVEN_CHARS]}..."
    is_shown = shows_given and first["type"] != "missing"
    return f"key {key!r}: {message}{f' (given: {given})' if is_shown else ''}{more}"


def _keys_at(model: "type[BaseModel] | None", path: Sequence[str]) -> list[str]:
    """Names of the fields of the section that a path leads to; [] where that is not known."""
    for name in path:
        field = None if model is None else model.model_fields.get(name)
        if field is None:
            return []
        options: list[Any] = [field.annotation, *get_args(field.annotation)]
        model = next((one for one in options if hasattr(one, "model_fields")), None)
    return [] if model is None else list(model.model_fields)
