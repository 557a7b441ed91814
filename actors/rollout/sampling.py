"""Sampling for the self-taught rounds: many trajectories of every item, with one engine start.

What is written does not depend on when it was interrupted: a file's items follow from their order,
and each message's random numbers from the names of what it belongs to.
"""

import asyncio
import hashlib
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from actors.rollout.codec import load_tokenizer
from actors.rollout.play import Sample, Sampled
from actors.rollout.player import player_of
from mtsql.config.learning import SelfTaughtConfig
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset, check_databases
from mtsql.dialogue import TurnSpec
from mtsql.errors import DataError
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import SqlExecutor
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending
from mtsql.trajectory.store import read_turn_ids, write_trajectories

logger = logging.getLogger(__name__)

MAX_RETRIES = 2
"""Of a sample that ends as INFRA_FAULT; the last attempt is stored as it is."""
IN_FLIGHT = 2
"""Trajectories in flight, as a multiple of what the engine decodes together: while some wait for
their environment, the engine still has a full batch."""

Progress = Callable[[int, int], None]
"""Told (samples played, samples in all)."""


class SeededSample(Protocol):
    """A `Sample` whose randomness is one number; vLLM's engine and a scripted fake fit."""

    async def __call__(
        self, prompt_ids: Sequence[int], *, max_tokens: int, seed: int
    ) -> Sampled: ...


def message_seed(seed: int, round_number: int, turn_id: str, attempt: int, message: int) -> int:
    """The seed of one message, below 2**63; the same on every machine."""
    name = repr((seed, round_number, turn_id, attempt, message))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


async def sample_round(
    model: Path,
    config: RunConfig,
    device: Device,
    dataset: Dataset,
    items: Sequence[TurnSpec],
    out: Path,
    *,
    round_number: int,
    progress: Progress,
) -> None:
    """Play `selftaught.samples_per_item` trajectories of each item and write them to `out`.

    A file is written whole and then kept: the same call resumes, and draws what it would have drawn
    but for the rounding of floats, which depends on what the engine decodes together.

    Args:
        model: Hugging Face folder.
        items: with their history; their order decides which file holds them.
        round_number: names the policy, and is part of every seed.

    Raises:
        DataError: a database changed meanwhile, or a file holds samples of other items.
        EngineDiedError: vLLM's process is gone; what was written stays.
    """
    assert config.selftaught is not None
    files = round_files(items, config.selftaught, out)
    if not any(file.is_missing for file in files):
        return
    from actors.rollout.engine import engine  # noqa: PLC0415 - imports vllm

    async with (
        LocalPool(dataset.databases, **config.sql.pool()) as pool,
        engine(model, config, device, temperature=config.selftaught.temperature) as sample,
    ):
        sampler = Sampler(sample, pool, load_tokenizer(model), config, round_number=round_number)
        await sampler.fill(files, progress)
    check_databases(config.data_folder)


@dataclass(slots=True, kw_only=True)
class RoundFile:
    """The samples of some items, until all of them are there and are written."""

    path: Path
    items: Sequence[TurnSpec]
    num_samples: int
    """Of each item."""
    is_missing: bool
    rows: dict[int, Attempt] = field(default_factory=dict[int, Attempt])
    """By place: the item's number in this file times `num_samples`, plus the attempt."""

    def __len__(self) -> int:
        return len(self.items) * self.num_samples


def round_files(items: Sequence[TurnSpec], taught: SelfTaughtConfig, out: Path) -> list[RoundFile]:
    """All files of a round; which items a file holds follows from their order alone.

    Raises:
        DataError: one is there and holds something else.
    """
    num_items, num_samples = taught.items_per_file, taught.samples_per_item
    files: list[RoundFile] = []
    for number, first in enumerate(range(0, len(items), num_items)):
        path, chosen = out / f"{number:05d}.parquet", items[first : first + num_items]
        is_missing = not path.exists()
        expected = [spec.turn.turn_id for spec in chosen for _ in range(num_samples)]
        if not is_missing and read_turn_ids(path) != expected:
            raise DataError(
                f"{path}: holds samples of other items than this round's: the training data or "
                "selftaught.* changed; add --restart, or set run_dir="
            )
        files.append(
            RoundFile(path=path, items=chosen, num_samples=num_samples, is_missing=is_missing)
        )
    return files


class Sampler:
    """Plays the samples of a round and writes its files."""

    def __init__(
        self,
        sample: SeededSample,
        executor: SqlExecutor,
        tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
        config: RunConfig,
        *,
        round_number: int,
    ) -> None:
        self._sample = sample
        self._player = player_of(config, executor, tokenizer, trains=True)
        self._label = Label(
            policy=f"round_{round_number}",
            split="train",
            history_mode=config.environment.history,
        )
        self._config = config
        self._round_number = round_number

    async def fill(self, files: Sequence[RoundFile], progress: Progress) -> None:
        """Play and write the files that are missing, in order."""
        missing = [file for file in files if file.is_missing]
        num_all = sum(map(len, files))
        num_done = num_all - sum(map(len, missing))
        num_players = IN_FLIGHT * self._config.machine.max_running
        # Bounds what is in flight or waits for the rest of its file. What waits for room comes
        # after the oldest file, which therefore always gets its samples.
        room = asyncio.Semaphore(2 * (num_players + max(map(len, missing), default=0)))
        places = ((file, place) for file in missing for place in range(len(file)))

        async def work() -> None:
            nonlocal num_done
            while True:
                await room.acquire()
                file, place = next(places, (None, 0))
                if file is None:
                    room.release()
                    return
                number, attempt = divmod(place, file.num_samples)
                file.rows[place] = await self.row(file.items[number], attempt)
                num_done += 1
                if num_done % file.num_samples == 0:
                    progress(num_done, num_all)
                if len(file.rows) == len(file):
                    rows = [file.rows.pop(place) for place in range(len(file))]
                    # Not in a thread, which would go on when this is cancelled; the engine has
                    # work for the 50 ms that 640 trajectories take.
                    write_trajectories(file.path, rows)
                    what = {"file": file.path, "done": num_done, "of": num_all}
                    logger.info("samples written", extra=what)
                    for _ in rows:
                        room.release()

        progress(num_done, num_all)
        try:
            async with asyncio.TaskGroup() as players:
                for _ in range(num_players):
                    players.create_task(work())
        except ExceptionGroup as group:
            # One broke and the others were cancelled: its own words are the ones to read.
            raise group.exceptions[0] from None

    async def row(self, spec: TurnSpec, attempt: int) -> Attempt:
        """One sample, played again when the machinery fails."""
        turn_id = spec.turn.turn_id
        for num_tries in range(1 + MAX_RETRIES):
            if num_tries:
                what = {"turn": turn_id, "sample": attempt, "tries": num_tries}
                logger.warning("sample played again", extra=what)
            played = await self._player.attempt(
                spec, self._seeded(turn_id, attempt), label=self._label, group=turn_id
            )
            if played.trajectory.ending is not Ending.INFRA_FAULT:
                break
        return played

    def _seeded(self, turn_id: str, attempt: int) -> Sample:
        """The messages of one trajectory, each with its own random numbers."""
        messages = itertools.count()

        async def sample(prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
            seed = message_seed(
                self._config.seed, self._round_number, turn_id, attempt, next(messages)
            )
            return await self._sample(prompt_ids, max_tokens=max_tokens, seed=seed)

        return sample
