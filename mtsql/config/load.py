"""Recipes from files: OmegaConf reads YAML and dotted overrides, pydantic decides, once.

A misspelt key is refused with its path and the nearest right name.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    ValidationError,
)

from mtsql.config.run import RunConfig
from mtsql.config.section import Section
from mtsql.config.sql import SqlConfig
from mtsql.errors import ConfigError, first_mistake


class _Sql(Section):
    """So that a mistake names the whole key."""

    sql: SqlConfig = SqlConfig()


def sql_config(overrides: Sequence[str]) -> SqlConfig:
    """The section `sql` from its dotted overrides alone, for commands without a recipe.

    Raises:
        ConfigError: an override is malformed or outside `sql.`.
    """
    for override in overrides:
        if "=" not in override or not override.startswith("sql."):
            raise ConfigError(f"override {override!r}: write sql.KEY=VALUE, e.g. sql.timeout_s=20")
    try:
        plain = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
        return _Sql.model_validate(plain).sql
    except ValidationError as error:
        raise ConfigError(first_mistake(error, _Sql)) from error
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"overrides: {str(error).splitlines()[0]}") from error


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
        raise ConfigError(f"{recipe}: {first_mistake(error, RunConfig)}") from error
