"""Rows of a process reward model: texts with the weights of both labels at their marks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtsql.prm.targets import Target

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("position_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int16())),
        ("good", pa.list_(pa.float32())),
        ("bad", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """One text with the weights of its marks.

    Example: text 1 2 7 50 9 50 with the mark 50, the first step bad, the second good
        input_ids   1  2  7  50  9    50   50
        loss_mask   0  0  0  0   1    0    1
        good        0  0  0  0   0.0  0    1.0
        bad         0  0  0  0   1.0  0    0.0
    As everywhere in fine-tuning, what stands at a place is said by the place before it; so the
    weights stand behind their mark, and one more token, which nothing sees, closes the row.
    """

    ids: tuple[int, ...]
    targets: tuple[Target, ...]
    weights: tuple[tuple[float, float], ...]
    """(good, bad) of each target."""

    def columns(self, closing: int) -> dict[str, np.ndarray]:
        length = len(self.ids) + 1
        places = [target.position + 1 for target in self.targets]
        mask = np.zeros(length, np.int16)
        good, bad = np.zeros(length, np.float32), np.zeros(length, np.float32)
        mask[places] = 1
        good[places] = [weight for weight, _ in self.weights]
        bad[places] = [weight for _, weight in self.weights]
        return {
            "input_ids": np.array([*self.ids, closing], np.int32),
            "position_ids": np.arange(length, dtype=np.int32),
            "loss_mask": mask,
            "good": good,
            "bad": bad,
        }


def write_label_rows(path: Path, rows: Sequence[LabelRow], *, closing: int) -> None:
    """Write one file, whole or not at all.

    Args:
        closing: the id of each row's last token.
    """
    partial = path.with_name(f".{path.name}.partial")
    with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
        for begin in range(0, len(rows), 1024):
            part = [row.columns(closing) for row in rows[begin : begin + 1024]]
            columns = [[row[name] for row in part] for name in SCHEMA.names]
            writer.write_table(pa.table(columns, schema=SCHEMA))
    partial.replace(path)
