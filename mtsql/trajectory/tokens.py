"""A trajectory in tokens: one flat sequence and its mask."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSequence:
    """A trajectory as the trainer sees it: one flat sequence and its mask.

    Example: prompt 1 2, the model says 7 8, the database replies 4, the model says 9
        prompt_ids     1 2
        response_ids       7 8 4 9
        response_mask      1 1 0 1
        step_ends            1   3     index of each step's last sampled token in the response
    """

    prompt_ids: tuple[int, ...] = ()
    response_ids: tuple[int, ...] = ()
    response_mask: tuple[int, ...] = ()
    step_ends: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """Of the response, 0.0 where the mask is 0; empty when they were not asked for."""

    def __post_init__(self) -> None:
        lengths = {len(self.response_ids), len(self.response_mask)}
        if self.logprobs:
            lengths.add(len(self.logprobs))
        if len(lengths) != 1:
            raise ValueError(f"response arrays differ in length: {sorted(lengths)}")
        if any(self.response_mask[end] != 1 for end in self.step_ends):
            raise ValueError("a step ends on a token that was not sampled")

    @property
    def num_tokens(self) -> int:
        """Of prompt and response."""
        return len(self.prompt_ids) + len(self.response_ids)

    @property
    def step_stops(self) -> tuple[int, ...]:
        """Where each step's reply has ended: the next message begins there, or the response ends.

        Example: for the two steps above
            3 4
        """
        begins = [self.response_mask.index(1, end + 1) for end in self.step_ends[:-1]]
        return (*begins, len(self.response_ids)) if self.step_ends else ()

    def spread(self, values: Sequence[float]) -> list[float]:
        """A number for each step, on all its sampled tokens; 0.0 on observations.

        Example: 0.5 and 2.0 for the two steps above
            0.5 0.5 0.0 2.0
        """
        if len(values) != len(self.step_ends):
            raise ValueError(f"{len(values)} numbers for {len(self.step_ends)} steps")
        spread = [0.0] * len(self.response_ids)
        begin = 0
        for end, value in zip(self.step_ends, values, strict=True):
            for index in range(begin, end + 1):
                if self.response_mask[index]:
                    spread[index] = value
            begin = end + 1
        return spread
