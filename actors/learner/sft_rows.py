"""Rows to learn from: token ids and a loss mask that were made together, split by dialogue."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.learner.trees import SFTRow, TreeRow, merged, tree_rows
from mtsql.config.learning import FineTuneConfig, WarmStartConfig
from mtsql.errors import DataError
from mtsql.runs.folder import FineTuneFolder
from mtsql.runs.records import RowFacts
from mtsql.trajectory.attempt import Attempt

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("position_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int16())),
        ("loss_weight", pa.list_(pa.float32())),
    ]
)


def sft_row(attempt: Attempt, learned: Sequence[int]) -> SFTRow:
    """The ids as they were sampled; `learned` is the response's mask."""
    tokens = attempt.tokens
    return SFTRow(
        db_id=attempt.db_id,
        dialogue_id=attempt.dialogue_id,
        input_ids=np.array([*tokens.prompt_ids, *tokens.response_ids], dtype=np.int32),
        loss_mask=np.array([*([0] * len(tokens.prompt_ids)), *learned], dtype=np.int8),
        num_prompt=len(tokens.prompt_ids),
    )


def stored_rows(attempts: Iterable[Attempt]) -> list[SFTRow]:
    """One row for each attempt, in order: all that was sampled is learned."""
    return [sft_row(attempt, attempt.tokens.response_mask) for attempt in attempts]


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

    Args:
        rows: trajectories, which share rows of the files where `tree_tokens` is given.

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
    trees = _trees(learned, fine_tune, fine_tune.prompt_weight)
    _write(folder.rows, trees)
    if validation:
        # Judged by what the policy says.
        _write(folder.validation, _trees(validation, fine_tune, 0.0))
    else:
        folder.validation.unlink(missing_ok=True)
    return RowFacts(
        num_rows=len(trees),
        num_trajectories=len(learned),
        num_validation=len(validation),
        num_too_long=len(rows) - len(kept),
        num_row_tokens=sum(len(tree.input_ids) for tree in trees),
        num_learned_tokens=sum(int((tree.loss_mask > 0).sum()) for tree in trees),
    )


def _trees(
    rows: Sequence[SFTRow], fine_tune: FineTuneConfig, prompt_weight: float
) -> list[TreeRow]:
    if fine_tune.tree_tokens is None:
        return [merged([row], prompt_weight) for row in rows]
    return tree_rows(rows, fine_tune.tree_tokens, prompt_weight)


def key_of(fine_tune: FineTuneConfig) -> str:
    """Where these settings stand in a recipe."""
    return "warm_start" if isinstance(fine_tune, WarmStartConfig) else "selftaught.fine_tune"


def _write(path: Path, rows: Sequence[TreeRow]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
        for begin in range(0, len(rows), 1024):
            part = rows[begin : begin + 1024]
            columns = [[getattr(row, name) for row in part] for name in SCHEMA.names]
            writer.write_table(pa.table(columns, schema=SCHEMA))
    partial.replace(path)
