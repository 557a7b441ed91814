"""Scores of trajectories by a process reward model: batched forward passes of transformers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from actors.prm.base import read_form
from mtsql.config.machine import Device
from mtsql.prm.form import StepText, step_text
from mtsql.trajectory.tokens import TokenSequence

BATCH_TOKENS = 8192
"""Of one forward pass, padding included."""


class Scorer:
    """One model, loaded; a score depends on its own trajectory alone, up to rounding.

    Args:
        model: Hugging Face folder that `mtsql prm train` made.

    Raises:
        ModelError: the folder holds no process reward model of this text form.
    """

    def __init__(self, model: Path, device: Device) -> None:
        self.note = read_form(model)
        self._place = torch.device("cuda" if device == "gpu" else "cpu")
        dtype = torch.bfloat16 if device == "gpu" else torch.float32
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
        self._model = loaded.to(self._place).eval()
        self._head = self._model.get_output_embeddings()

    def text(self, tokens: TokenSequence) -> StepText:
        """What the model reads of a trajectory."""
        return step_text(tokens, self.note.form, max_tokens=self.note.max_tokens)

    def scores(
        self, sequences: Sequence[TokenSequence], *, progress: Callable[[int], None] | None = None
    ) -> list[list[float | None]]:
        """For each trajectory the scores of its steps; None where the text was cut before."""
        margins = self.margins([self.text(one) for one in sequences], progress=progress)
        return [
            [None if margin is None else self.note.score(margin) for margin in row]
            for row in margins
        ]

    @torch.inference_mode()
    def margins(
        self, texts: Sequence[StepText], *, progress: Callable[[int], None] | None = None
    ) -> list[list[float | None]]:
        """Logit of the good label minus that of the bad one, at each mark.

        Args:
            progress: told how many texts are done.
        """
        found: list[list[float | None]] = [[None] * len(text.positions) for text in texts]
        num_done = 0
        for batch in _batches(texts):
            length = max(len(texts[number].ids) for number in batch)
            ids = torch.zeros(len(batch), length, dtype=torch.long)
            mask = torch.zeros_like(ids)
            places: list[tuple[int, int, int]] = []
            for row, number in enumerate(batch):
                text = texts[number]
                ids[row, : len(text.ids)] = torch.tensor(text.ids)
                mask[row, : len(text.ids)] = 1
                marks = [mark for mark in text.positions if mark is not None]
                places += [(row, step, mark) for step, mark in enumerate(marks)]
            if places:
                values = self._at(ids, mask, places)
                for (row, step, _), value in zip(places, values, strict=True):
                    found[batch[row]][step] = value
            num_done += len(batch)
            if progress is not None:
                progress(num_done)
        return found

    def _at(
        self, ids: torch.Tensor, mask: torch.Tensor, places: Sequence[tuple[int, int, int]]
    ) -> list[float]:
        form = self.note.form
        hidden = self._model.base_model(
            input_ids=ids.to(self._place), attention_mask=mask.to(self._place), use_cache=False
        ).last_hidden_state
        rows = torch.tensor([row for row, _, _ in places], device=self._place)
        marks = torch.tensor([mark for _, _, mark in places], device=self._place)
        # Two columns of the head: of a vocabulary of 150,000 the others would be most of the work.
        head = self._head.weight[[form.good, form.bad]]
        logits = (hidden[rows, marks] @ head.T).float()
        if getattr(self._head, "bias", None) is not None:
            logits += self._head.bias[[form.good, form.bad]].float()
        return (logits[:, 0] - logits[:, 1]).tolist()


def _batches(texts: Sequence[StepText]) -> Iterator[list[int]]:
    """Numbers of texts of similar length, the longest first."""
    order = sorted(range(len(texts)), key=lambda number: -len(texts[number].ids))
    batch: list[int] = []
    for number in order:
        if batch and len(texts[batch[0]].ids) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
