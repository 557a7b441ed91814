"""Rows of a process reward model, and the loss that is learned on them."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the core install holds no torch")

import pyarrow.parquet as pq
import torch

from actors.learner.label_rows import LabelRow, write_label_rows
from actors.learner.sft_dataset import TokenDataset
from mtsql.prm.targets import Target

ROW = LabelRow(
    ids=(1, 2, 7, 50, 9, 50),
    targets=(
        Target(position=3, value=0.0, weight=1.0),
        Target(position=5, value=1.0, weight=1.0),
    ),
    weights=((0.0, 1.0), (0.5, 0.25)),
)


def test_weights_stand_behind_their_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_label_rows(path, [ROW], closing=51)
    [row] = [TokenDataset(str(path))[0]]
    assert row["input_ids"].tolist() == [1, 2, 7, 50, 9, 50, 51]
    assert row["position_ids"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert row["loss_mask"].tolist() == [0, 0, 0, 0, 1, 0, 1]
    assert row["good"].tolist() == [0, 0, 0, 0, 0.0, 0, 0.5]
    assert row["bad"].tolist() == [0, 0, 0, 0, 1.0, 0, 0.25]
    assert row["good"].dtype is torch.float32
    assert pq.read_metadata(path).num_rows == 1
    assert [one.name for one in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.filterwarnings("ignore")
def test_the_loss_weighs_two_labels_before_each_learned_place() -> None:
    pytest.importorskip("verl", reason="the core install holds no verl")
    from actors.learner.sft_trainer import LabelEngine  # noqa: PLC0415 - verl warns as it loads

    kind: Any = LabelEngine
    engine = object.__new__(kind)
    kind.labels = (3, 1)

    def nested(*rows: list[float]) -> torch.Tensor:
        return torch.nested.nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)

    class Output:
        # of two rows, the places before three learned ones: logits of a vocabulary of four
        logits = torch.tensor([[[9.0, 0.0, 9.0, 0.0], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]]])

    micro_batch = {
        "input_ids": nested([5.0, 6, 7], [5.0, 6]),
        "good": nested([0.0, 1.0, 0.0], [0.0, 0.5]),
        "bad": nested([0.0, 0.0, 2.0], [0.0, 0.5]),
    }
    learned = torch.tensor([0, 1, 3])
    found = engine.prepare_model_outputs(Output(), {"learned": learned}, micro_batch, None)
    # log 1/2; twice log(1 - p) with p = 1 / (1 + e^-1), which is -1.3133; half and half of log 1/2
    log_2 = 0.6931
    wanted = [-log_2, 2 * -1.3133, 0.0, -log_2, 0.0]
    assert found["log_probs"].values().tolist() == pytest.approx(wanted, abs=1e-4)
