"""Rows for verl's SFT trainer: token ids and a loss mask that were made together."""

from typing import Any

import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset


class TokenDataset(Dataset[dict[str, torch.Tensor]]):
    """A Parquet file of `input_ids` and `loss_mask` lists of equal length.

    verl's own dataset renders and tokenises messages; here the ids are the very ones that the
    environment loop would have produced, so the mask is exact by construction.
    """

    def __init__(self, parquet_files: str, *_: Any, max_samples: int = -1, **__: Any) -> None:  # noqa: ANN401 - verl passes its own objects
        table = pq.read_table(parquet_files)
        self._ids = table.column("input_ids").to_pylist()
        self._masks = table.column("loss_mask").to_pylist()
        if max_samples > 0:
            del self._ids[max_samples:], self._masks[max_samples:]

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.tensor(self._ids[index], dtype=torch.long)
        mask = torch.tensor(self._masks[index], dtype=torch.long)
        return {"input_ids": ids, "position_ids": torch.arange(len(ids)), "loss_mask": mask}
