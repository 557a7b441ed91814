"""Datasets for verl's SFT trainer: rows of token ids, and the order in which they are learned."""

from typing import Any

import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

Row = dict[str, torch.Tensor]


class TokenDataset(Dataset[Row]):
    """A Parquet file of `input_ids`, `position_ids` and `loss_mask`, lists of equal length, and of
    what the loss weighs besides (`actors.learner.label_rows`).

    verl's own dataset renders and tokenises messages; here the ids are the very ones that the
    environment loop has produced, so the mask is exact by construction.
    """

    NAMES = ("input_ids", "position_ids", "loss_mask")
    WEIGHTS = ("good", "bad")

    def __init__(self, parquet_files: str, *_: Any, max_samples: int = -1, **__: Any) -> None:  # noqa: ANN401 - verl passes its own objects
        table = pq.read_table(parquet_files)
        if max_samples > 0:
            table = table.slice(0, max_samples)
        # Kept as Arrow: as Python's integers they would take ten times the memory.
        weights = [name for name in self.WEIGHTS if name in table.column_names]
        self._columns = {name: table.column(name) for name in (*self.NAMES, *weights)}

    def __len__(self) -> int:
        return len(self._columns["input_ids"])

    def __getitem__(self, index: int) -> Row:
        return {
            name: torch.from_numpy(
                column[index]
                .values.to_numpy()
                .astype("float32" if name in self.WEIGHTS else "int64")
            )
            for name, column in self._columns.items()
        }


class DrawnDataset(Dataset[Row]):
    """The rows in the order in which a whole run learns them: one seeded shuffle after another.

    Every row comes once before any comes again. The order is known before the run, so that a
    resumed run goes on with the very batch that was next.

    Args:
        num_draws: optimizer steps times rows in one.
    """

    def __init__(self, rows: Dataset[Row], num_rows: int, *, num_draws: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        num_shuffles = -(-num_draws // num_rows)
        order = [torch.randperm(num_rows, generator=generator) for _ in range(num_shuffles)]
        self.order: list[int] = torch.cat(order)[:num_draws].tolist()
        self._rows = rows

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Row:
        return self._rows[self.order[index]]
