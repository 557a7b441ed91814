"""Rows to learn from: token ids and a loss mask that were made together, split by dialogue."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtsql.config.learning import FineTuneConfig, WarmStartConfig
from mtsql.errors import DataError
from mtsql.runs.folder import FineTuneFolder
from mtsql.runs.records import RowFacts
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.tokens import TokenSequence

SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("loss_mask", pa.list_(pa.int8()))])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SFTRow:
    """One trajectory as the trainer sees it.

    Example: prompt 1 2, the model says 7 8, the database replies 4, the model says 9
        input_ids   1 2 7 8 4 9
        loss_mask   0 0 1 1 0 1
    """

    dialogue_id: str
    input_ids: np.ndarray
    """[T] int32: arrays, because Python's integers take ten times the memory."""
    loss_mask: np.ndarray
    """[T] int8; 1 is learned."""

    def __post_init__(self) -> None:
        if len(self.input_ids) != len(self.loss_mask):
            raise ValueError(
                f"{self.dialogue_id}: {len(self.input_ids)} ids, {len(self.loss_mask)} in the mask"
            )


def sft_row(dialogue_id: str, tokens: TokenSequence, learned: Sequence[int]) -> SFTRow:
    """The ids as they were sampled; `learned` is the response's mask, and no prompt is learned."""
    return SFTRow(
        dialogue_id=dialogue_id,
        input_ids=np.array([*tokens.prompt_ids, *tokens.response_ids], dtype=np.int32),
        loss_mask=np.array([*([0] * len(tokens.prompt_ids)), *learned], dtype=np.int8),
    )


def stored_rows(attempts: Iterable[Attempt]) -> list[SFTRow]:
    """One row for each attempt, in order: all that was sampled is learned."""
    return [
        sft_row(attempt.dialogue_id, attempt.tokens, attempt.tokens.response_mask)
        for attempt in attempts
    ]


def validation_dialogues(dialogue_ids: Iterable[str], share: float, *, seed: int) -> set[str]:
    """Dialogues kept out of learning: those whose hash, as a number from 0 to 1, is below `share`.

    A dialogue falls on the same side in any dataset; but of two or more, one at
    least is on each side when `share` is not 0.
    """

    def place(dialogue_id: str) -> float:
        digest = hashlib.sha256(f"{seed}/{dialogue_id}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64

    ordered = sorted(set(dialogue_ids), key=place)
    if share == 0 or len(ordered) < 2:
        return set()
    num_below = sum(place(one) < share for one in ordered)
    return set(ordered[: min(max(num_below, 1), len(ordered) - 1)])


def write_rows(
    rows: Sequence[SFTRow], folder: FineTuneFolder, fine_tune: FineTuneConfig, *, seed: int
) -> RowFacts:
    """Write `rows.parquet` and, if dialogues are kept for validation, `validation.parquet`.

    Raises:
        DataError: no row is left.
    """
    if not rows:
        raise DataError(f"{folder.path}: no trajectory to learn from")
    kept = [row for row in rows if len(row.input_ids) <= fine_tune.max_tokens]
    if not kept:
        raise DataError(
            f"{folder.path}: no trajectory fits {key_of(fine_tune)}.max_tokens="
            f"{fine_tune.max_tokens} (the shortest has "
            f"{min(len(row.input_ids) for row in rows)}); raise it"
        )
    held_out = validation_dialogues(
        (row.dialogue_id for row in kept), fine_tune.validation_share, seed=seed
    )
    learned = [row for row in kept if row.dialogue_id not in held_out]
    validation = [row for row in kept if row.dialogue_id in held_out]
    _write(folder.rows, learned)
    if validation:
        _write(folder.validation, validation)
    else:
        folder.validation.unlink(missing_ok=True)
    return RowFacts(
        num_rows=len(learned),
        num_validation_rows=len(validation),
        num_too_long=len(rows) - len(kept),
    )


def key_of(fine_tune: FineTuneConfig) -> str:
    """Where these settings stand in a recipe."""
    return "warm_start" if isinstance(fine_tune, WarmStartConfig) else "selftaught.fine_tune"


def _write(path: Path, rows: Sequence[SFTRow]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
        for begin in range(0, len(rows), 1024):
            part = rows[begin : begin + 1024]
            columns = [[row.input_ids for row in part], [row.loss_mask for row in part]]
            writer.write_table(pa.table(columns, schema=SCHEMA))
    partial.replace(path)
