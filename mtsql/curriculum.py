"""Which turns come next: bands whose outcome is uncertain are drawn more often.

A band is a label that groups turns of similar difficulty (the gold SQL's hardness). Its weight is
p(1 - p), the variance of a single attempt: groups of trajectories that all succeed or all fail have
no advantage to learn from.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from random import Random
from typing import Any

from mtsql.config.rl import CurriculumConfig

PRIOR_SUCCESSES = 1.0
PRIOR_ATTEMPTS = 2.0
"""Every band starts as if one of two attempts succeeded, and drifts back there if never drawn."""


class Curriculum:
    """An endless, seeded draw of items; each band is shuffled and used up before it starts again.

    Example: 3 easy items, of 8 attempts 8 succeeded; 3 hard ones, of 8 attempts 3 succeeded
        easy   p = (8 + 1) / (8 + 2) = 0.9   weight 0.09   drawn in 27 % of the cases
        hard   p = (3 + 1) / (8 + 2) = 0.4   weight 0.24   drawn in 73 %

    Args:
        items: (item_id, band) of each item; ids are unique.

    Raises:
        ValueError: no items, or an id that comes twice.
    """

    def __init__(
        self, items: Sequence[tuple[str, Hashable]], config: CurriculumConfig, seed: int
    ) -> None:
        if not items:
            raise ValueError("a curriculum needs at least one item")
        self._config = config
        self._ids = [item_id for item_id, _ in items]
        self._bands = list(dict.fromkeys(band for _, band in items))
        numbers = {band: number for number, band in enumerate(self._bands)}
        self._band_of = {item_id: numbers[band] for item_id, band in items}
        if len(self._band_of) != len(items):
            twice = next(item_id for item_id in self._ids if self._ids.count(item_id) > 1)
            raise ValueError(f"item {twice!r} comes twice; ids must be unique")
        # Without a curriculum all items share one queue, so that an epoch covers each item once.
        self._pools: list[list[int]] = [[] for _ in (self._bands if config.enabled else [None])]
        for index, (_, band) in enumerate(items):
            self._pools[numbers[band] if config.enabled else 0].append(index)
        self._queues: list[list[int]] = [[] for _ in self._pools]
        self._successes = [0.0] * len(self._bands)
        self._attempts = [0.0] * len(self._bands)
        self._draws = [0] * len(self._bands)
        self._rng = Random(seed)

    def next_item(self) -> int:
        """Draw the index of an item."""
        pool = 0
        if self._config.enabled:
            (pool,) = self._rng.choices(range(len(self._pools)), weights=self._weights())
        if not self._queues[pool]:
            self._queues[pool] = self._rng.sample(self._pools[pool], len(self._pools[pool]))
        index = self._queues[pool].pop()
        self._draws[self._band_of[self._ids[index]]] += 1
        return index

    def update(self, results: Iterable[tuple[str, float]]) -> None:
        """Take in one step's attempts; what was known before counts `decay` times as much.

        Args:
            results: (item_id, success between 0 and 1), one for each attempt.

        Raises:
            ValueError: an unknown item or a success out of range; nothing is changed then.
        """
        successes: defaultdict[int, float] = defaultdict(float)
        attempts: defaultdict[int, int] = defaultdict(int)
        for item_id, success in results:
            if item_id not in self._band_of:
                raise ValueError(
                    f"unknown item {item_id!r}; the curriculum has {len(self._ids)} items"
                )
            if not 0.0 <= success <= 1.0:
                raise ValueError(f"item {item_id!r}: success {success} is not between 0 and 1")
            band = self._band_of[item_id]
            successes[band] += success
            attempts[band] += 1
        decay = self._config.decay
        for band in range(len(self._bands)):
            self._successes[band] = decay * self._successes[band] + successes[band]
            self._attempts[band] = decay * self._attempts[band] + attempts[band]

    def metrics(self) -> dict[str, float]:
        """For each band: estimated success, share of the next draws, draws so far."""
        weights = self._weights()
        if not self._config.enabled:
            numbers = list(self._band_of.values())
            weights = [float(numbers.count(band)) for band in range(len(self._bands))]
        found: dict[str, float] = {}
        for number, band in enumerate(self._bands):
            found[f"success/{band}"] = self._success(number)
            found[f"share/{band}"] = weights[number] / sum(weights)
            found[f"draws/{band}"] = float(self._draws[number])
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that the next draws depend on; JSON gives it back exactly."""
        version, words, gauss_next = self._rng.getstate()
        return {
            "num_items": len(self._ids),
            "bands": [str(band) for band in self._bands],
            "queues": [list(queue) for queue in self._queues],
            "successes": list(self._successes),
            "attempts": list(self._attempts),
            "draws": list(self._draws),
            "rng": [version, list(words), gauss_next],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: the state belongs to other items, bands or settings.
        """
        mine = (len(self._ids), [str(band) for band in self._bands], len(self._queues))
        theirs = (state["num_items"], list(state["bands"]), len(state["queues"]))
        if mine != theirs:
            raise ValueError(
                f"the saved curriculum has (items, bands, queues) {theirs}, this one {mine}; "
                "resume with the data and the settings it was saved with"
            )
        self._queues = [list(queue) for queue in state["queues"]]
        self._successes = list(state["successes"])
        self._attempts = list(state["attempts"])
        self._draws = list(state["draws"])
        version, words, gauss_next = state["rng"]
        self._rng.setstate((version, tuple(words), gauss_next))

    def _success(self, band: int) -> float:
        successes = PRIOR_SUCCESSES + self._successes[band]
        return successes / (PRIOR_ATTEMPTS + self._attempts[band])

    def _weights(self) -> list[float]:
        rates = [self._success(band) for band in range(len(self._bands))]
        return [max(self._config.floor, rate * (1 - rate)) for rate in rates]
