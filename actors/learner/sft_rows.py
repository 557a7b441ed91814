"""Rows to learn from: token ids and a loss mask that were made together, split by dialogue."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.learner.trees import SFTRow, TreeRow, merged, tree_rows
from mtsql.config.learning import FineTuneConfig, WarmStartConfig
from mtsql.config.prm import PRMFineTuneConfig
from mtsql.errors import DataError
from mtsql.runs.folder import FineTuneFolder
from mtsql.runs.records import RowFacts
from mtsql.trajectory.attempt import Attempt

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("position_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int16())),
    ]
)


def sft_row(attempt: Attempt, learned: Sequence[int], learned_prompt: Sequence[int] = ()) -> SFTRow:
    """The ids as they were sampled.

    Args:
        learned: the response's mask.
        learned_prompt: the prompt's; empty: nothing of it is learned.
    """
    tokens = attempt.tokens
    prompt = learned_prompt or [0] * len(tokens.prompt_ids)
    return SFTRow(
        db_id=attempt.db_id,
        dialogue_id=attempt.dialogue_id,
        input_ids=np.array([*tokens.prompt_ids, *tokens.response_ids], dtype=np.int32),
        loss_mask=np.array([*prompt, *learned], dtype=np.int8),
    )


def learned_history(
    prompt_ids: Sequence[int], answers: Sequence[str], decode: Callable[[int], str]
) -> list[int]:
    """1 for each token of a prompt `compact` that belongs to the SQL of an earlier turn.

    Example: two tokens of "a: SELECT 1" and the line's end, in a prompt that ends with a question
        ids  q  :  how  many  a  :  SELECT  1  \\n  q  :  why
        1    0  0   0    0    0  0    1     1   1   0  0   0

    Args:
        answers: as the prompt shows them; one that is not found in it is not learned.
        decode: one id to text.
    """
    pieces = [decode(one) for one in prompt_ids]
    ends = list(accumulate(len(piece) for piece in pieces))
    text, place = "".join(pieces), 0
    mask = [0] * len(prompt_ids)
    for answer in answers:
        found = text.find(f" a: {answer}\n", place)
        if found < 0:
            continue
        begin = found + len(" a: ")
        place = begin + len(answer)
        for index, (piece, end) in enumerate(zip(pieces, ends, strict=True)):
            # A token may begin with the blank before the SQL; the line's end closes it.
            if end > begin and end - len(piece) <= place:
                mask[index] = 1
    return mask


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
    trees = _trees(learned, fine_tune)
    _write(folder.rows, trees)
    if validation:
        _write(folder.validation, _trees(validation, fine_tune))
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


def _trees(rows: Sequence[SFTRow], fine_tune: FineTuneConfig) -> list[TreeRow]:
    if fine_tune.tree_tokens is None:
        return [merged([row]) for row in rows]
    return tree_rows(rows, fine_tune.tree_tokens)


def key_of(fine_tune: FineTuneConfig) -> str:
    """Where these settings stand in a recipe."""
    names = {WarmStartConfig: "warm_start", PRMFineTuneConfig: "prm.fine_tune"}
    return names.get(type(fine_tune), "selftaught.fine_tune")


def _write(path: Path, rows: Sequence[TreeRow]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
        for begin in range(0, len(rows), 1024):
            part = rows[begin : begin + 1024]
            columns = [[getattr(row, name) for row in part] for name in SCHEMA.names]
            writer.write_table(pa.table(columns, schema=SCHEMA))
    partial.replace(path)
