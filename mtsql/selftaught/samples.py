"""What selection needs to know of every sample, read with DuckDB; no trajectory is built.

An *interaction* is a message that is answered with a result or with the memory, as a tool call of
MTSQL-R1 is:

    actions     execute(), and verify(memory) without a verdict: the comparison
    mtsql_r1    exec_sql, and memory_retrieve (one, also where it runs the query besides)
    cocte       as actions

So it is an EXECUTE or a VERIFY of memory without a verdict among the step's actions that took
effect, with an observation after it. A call out of order, or in the last message of a turn, shows
nothing and does not count; neither does a verdict.
"""

import glob
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from mtsql.dialogue import UNREAD
from mtsql.errors import DataError

_SHOWS = "({0}.name = 'execute' OR {0}.target = 'memory' AND {0}.verdict IS NULL)"
_WORD = (
    "concat_ws(':', coalesce({0}.name, {0}.kind), {0}.target, {0}.verdict,"
    " CASE WHEN {0}.name = 'execute' THEN s.result_class END)"
)
_METADATA = f"""
SELECT
    file_row_number, turn_id, dialogue_id, coalesce(hardness, '{UNREAD}'),
    is_scored, is_valid,
    coalesce(is_scored AND NOT judgements[first_answer].ex AND judgements[-1].ex, false),
    len([1 FOR s IN steps IF s.observation IS NOT NULL AND (
        s.is_accepted AND {_SHOWS.format("s.action")}
        OR len([1 FOR a IN s.earlier IF {_SHOWS.format("a")}]) > 0)]),
    len(steps),
    len(response_mask),
    CASE WHEN is_valid THEN flatten([list_append(
        [{_WORD.format("a")} FOR a IN s.earlier],
        CASE WHEN s.is_accepted THEN '' ELSE '!' END || {_WORD.format("s.action")}
    ) FOR s IN steps]) END,
    CASE WHEN is_valid THEN [p.sql FOR p IN proposals] END
FROM (
    SELECT *,
        -- From 1: the proposal before the first one that took another's place.
        coalesce(
            list_min([s.proposal FOR s IN steps IF s.relation IN ('replaces', 'corrects')]),
            len(proposals)) AS first_answer,
        ending <> 'infra_fault' AND (len(judgements) = 0
            OR judgements[-1].ex IS NOT NULL) AS is_scored,
        -- Without a verdict of EM, gold is outside Spider's subset, and EX alone decides.
        coalesce(is_scored AND judgements[-1].ex AND coalesce(judgements[-1].em, true), false)
            AS is_valid
    FROM read_parquet(?, file_row_number = true, hive_partitioning = false)
)
"""
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "1GB",
    "preserve_insertion_order": True,
}
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What two trajectories are compared by.

    Example: a wrong first proposal, seen and corrected
        actions    propose  execute:empty  correct  execute:ok  answer
        proposals  SELECT name FROM shop WHERE city = 'PARIS'
                   SELECT name FROM shop WHERE city = 'Paris'
    """

    actions: tuple[str, ...]
    """name[:target][:verdict][:result class], all of every message; `!` before one that was out of
    order or could not be read."""
    proposals: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for each action, with the SQL that it proposes."""
        waiting = iter(self.proposals)
        lines: list[str] = []
        for action in self.actions:
            is_proposal = action in ("propose", "correct")
            lines.append(f"{action}: {next(waiting, '')}" if is_proposal else action)
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One attempt at an item."""

    file: str
    """Name of its Parquet file."""
    row: int
    """From 0; the rows of an item are in the order of its attempts."""
    is_scored: bool
    """False: the machinery broke, or EX or EM of the answer could not be judged. Neither right nor
    wrong, it counts as no sample."""
    is_valid: bool
    """Scored, and EX and EM of the last proposal hold."""
    is_correcting: bool
    """What it would have answered without a correction is wrong under EX, and its answer right."""
    num_interactions: int
    num_steps: int
    num_tokens: int
    """Of the response, observations included."""
    outline: Outline | None
    """Of a valid one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A training turn with its samples, in the order of the attempts."""

    turn_id: str
    dialogue_id: str
    hardness: str
    samples: tuple[Sample, ...]


def read_items(
    folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> Iterator[Item]:
    """The items of all Parquet files of a folder, one file after the other.

    Args:
        progress: called with (files read, all) after each file.

    Raises:
        DataError: no file, one that holds no trajectories, or an item whose samples lie apart.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise DataError(f"{folder}: no *.parquet there; sample a round first")
    found_in: dict[str, str] = {}
    with duckdb.connect(config=_SETTINGS) as connection:
        connection.execute("SET enable_progress_bar = false")  # it would draw on stdout
        for number, path in enumerate(paths, start=1):
            for item in _items_of(path, connection):
                other = found_in.setdefault(item.turn_id, path.name)
                if other != path.name:
                    raise DataError(
                        f"{path}: item {item.turn_id!r} has samples in {other} as well; "
                        "keep one of the two files"
                    )
                yield item
            if progress is not None:
                progress(number, len(paths))


def read_samples(path: Path) -> list[Sample]:
    """Every row of one file, of all its items.

    Raises:
        DataError: the file holds no trajectories.
    """
    with duckdb.connect(config=_SETTINGS) as connection:
        connection.execute("SET enable_progress_bar = false")
        with _named(path):
            return [_sample(path.name, row) for row in _rows(path, connection)]


@contextmanager
def _named(path: Path) -> Generator[None]:
    try:
        yield
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: cannot be read as trajectories of this version ({reason}); "
            "remove it and sample the round again"
        ) from error


def _items_of(path: Path, connection: duckdb.DuckDBPyConnection) -> Iterator[Item]:
    seen: set[str] = set()
    with _named(path):
        for (turn_id, dialogue_id, hardness), rows in groupby(
            _rows(path, connection), key=lambda row: row[1:4]
        ):
            if turn_id in seen:
                raise DataError(
                    f"{path}: the samples of item {turn_id!r} are not adjacent rows; "
                    "sample the round again"
                )
            seen.add(turn_id)
            samples = tuple(_sample(path.name, row) for row in rows)
            yield Item(turn_id=turn_id, dialogue_id=dialogue_id, hardness=hardness, samples=samples)


def _rows(path: Path, connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    # The path may hold characters of a pattern; they are meant as they are.
    cursor = connection.execute(_METADATA, [glob.escape(str(path))])
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _sample(file: str, row: Sequence[Any]) -> Sample:
    number, _, _, _, is_scored, is_valid, is_correcting, *counts, actions, proposals = row
    num_interactions, num_steps, num_tokens = counts
    return Sample(
        file=file,
        row=number,
        is_scored=is_scored,
        is_valid=is_valid,
        is_correcting=is_correcting,
        num_interactions=num_interactions,
        num_steps=num_steps,
        num_tokens=num_tokens,
        outline=Outline(actions=tuple(actions), proposals=tuple(proposals)) if is_valid else None,
    )
