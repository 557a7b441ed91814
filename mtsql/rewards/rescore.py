"""Score a run's saved trajectories again: with its own rewards, or with others.

A reward is a pure function of the record, and the record holds all that it needs; so with the run's
own rewards nothing may differ, and other weights can be tried without playing anything.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from rich.table import Table
from yaml import YAMLError

from mtsql.config.reward import RewardConfig
from mtsql.config.run import Section
from mtsql.errors import ConfigError, DataError, first_mistake
from mtsql.rewards.golds import rules_of
from mtsql.rewards.score import SUMS, parts_of, score
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.store import read_trajectories

MAX_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Of the trajectories of one policy that are scored now."""

    num_scored: int
    saved: float | None
    """Total reward when they were played; None: the run did not score them (scripts)."""
    total: float
    parts: dict[str, float]
    """By SUMS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    reward: RewardConfig
    num_trajectories: int
    num_saved: int
    """Those that the run scored; only they can differ."""
    num_differing: int
    differing: tuple[str, ...]
    """FILE: turn_id of the first ones."""
    means: dict[str, Means]
    """By policy."""


class _Rewards(Section):
    """So that a mistake names the whole key."""

    reward: RewardConfig = RewardConfig()


def rescore(saved: RewardConfig, folder: Path, overrides: Sequence[str] = ()) -> Rescored:
    """Score a run's trajectories again.

    Args:
        saved: the rewards of the run's recipe.
        folder: RUN/trajectories.
        overrides: `reward.KEY=VALUE`; a preset replaces the run's rewards, other keys change them.

    Raises:
        DataError: no trajectories, or a file of them that cannot be read.
        ConfigError: an override is malformed, outside `reward.`, or needs the databases again.
    """
    config = _config(saved, overrides)
    if rules_of(config) != rules_of(saved):
        raise ConfigError(
            "reward.keep_value_word, keep_literals and numbers_by_value: say how proposals were "
            "compared with gold when they were played; leave them as the run has them"
        )
    num_trajectories = num_saved = num_differing = 0
    differing: list[str] = []
    totals: dict[str, list[tuple[float | None, float, dict[str, float]]]] = defaultdict(list)
    for path, row in _rows(folder):
        num_trajectories += 1
        reward, parts = score(row.trajectory, config), parts_of(row.trajectory, config)
        if row.reward is not None:
            num_saved += 1
            if reward != row.reward:
                num_differing += 1
                differing += [f"{path.name}: {row.trajectory.turn_id}"]
        if reward is not None and parts is not None:
            before = None if row.reward is None else row.reward.total
            totals[row.label.policy].append((before, reward.total, parts))
    return Rescored(
        reward=config,
        num_trajectories=num_trajectories,
        num_saved=num_saved,
        num_differing=num_differing,
        differing=tuple(differing[:MAX_NAMED]),
        means={policy: _means(rows) for policy, rows in sorted(totals.items())},
    )


def headline(result: Rescored) -> str:
    return (
        f"{result.num_trajectories} trajectories, {result.num_saved} scored by the run; "
        f"{result.num_differing} rewards differ"
    )


def rescore_table(result: Rescored) -> Table:
    """Mean rewards by policy, for the terminal."""
    table = Table("mean of a trajectory")
    for policy in result.means:
        table.add_column(policy, justify="right")
    columns = [_flat(means) for means in result.means.values()]
    for name in ("num_scored", "saved", "total", *SUMS):
        numbers = [column[name] for column in columns]
        table.add_row(name, *("-" if number is None else f"{number:.6g}" for number in numbers))
    return table


def rescore_json(result: Rescored) -> str:
    fields = asdict(result) | {
        "reward": result.reward.model_dump(mode="json"),
        "means": {policy: _flat(means) for policy, means in result.means.items()},
    }
    return json.dumps(fields, indent=1)


def _flat(means: Means) -> dict[str, float | None]:
    """The parts, next to the other figures."""
    fields = asdict(means)
    return fields | fields.pop("parts")


def _config(saved: RewardConfig, overrides: Sequence[str]) -> RewardConfig:
    given = _given(overrides)
    try:
        start = {} if "preset" in given else saved.model_dump()
        return _Rewards.model_validate({"reward": {**start, **given}}).reward
    except ValidationError as error:
        raise ConfigError(first_mistake(error, _Rewards)) from error


def _given(overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        if "=" not in override or not override.startswith("reward."):
            raise ConfigError(
                f"override {override!r}: write reward.KEY=VALUE, e.g. reward.preset=mtsql_r1"
            )
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"overrides: {str(error).splitlines()[0]}") from error
    return cast("dict[str, Any]", tree).get("reward", {})


def _rows(folder: Path) -> Iterator[tuple[Path, Attempt]]:
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise DataError(f"{folder}: no *.parquet there; the run saved nothing yet")
    for path in paths:
        for row in read_trajectories(path):
            yield path, row


def _means(rows: Sequence[tuple[float | None, float, dict[str, float]]]) -> Means:
    saved = [one for one, _, _ in rows if one is not None]
    return Means(
        num_scored=len(rows),
        saved=fmean(saved) if saved else None,
        total=fmean(total for _, total, _ in rows),
        parts={name: fmean(parts[name] for _, _, parts in rows) for name in SUMS},
    )
