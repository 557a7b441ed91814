"""Recipes from files: OmegaConf reads YAML and dotted overrides, pydantic decides, once.

A misspelt key is refused with its path and the nearest right name.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    ValidationError,
)

from mtsql.config.run import RunConfig
from mtsql.errors import ConfigError


def load_config(recipe: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe and its dotted overrides.

    Args:
        recipe: a YAML file with the keys of `RunConfig`.
        overrides: `rl.num_steps=40` and the like; later ones win.

    Raises:
        ConfigError: one line that names the file, the key and the fix.
    """
    if not recipe.is_file():
        raise ConfigError(f"{recipe}: no such recipe; `ls recipes/*.yaml` lists those that ship")
    try:
        tree = OmegaConf.load(recipe)
        for override in overrides:
            if "=" not in override:
                raise ConfigError(f"override {override!r}: write KEY=VALUE, e.g. rl.num_steps=40")
        tree = OmegaConf.merge(tree, OmegaConf.from_dotlist(list(overrides)))
        plain = OmegaConf.to_container(tree, resolve=True)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{recipe}: not readable as YAML: {line}{error.problem}") from error
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, OSError) as error:
        raise ConfigError(
            f"{recipe}: not readable as YAML: {str(error).splitlines()[0]}"
        ) from error
    try:
        return RunConfig.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(f"{recipe}: {explain(error, RunConfig)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake in one line: the key's path, what is wrong, and the nearest right name."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
    if first["type"] == "extra_forbidden":
        names = _keys_at(model, path[:-1])
        near = difflib.get_close_matches(path[-1], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
        return f"unknown key {key!r}; {hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"{message}{more}"
    given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
    return f"key {key!r}: {message}{given}{more}"


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for name in path:
        if name not in model.model_fields:
            return []
        annotation = model.model_fields[name].annotation
        options = [annotation, *get_args(annotation)]
        sections = [
            part for part in options if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)
