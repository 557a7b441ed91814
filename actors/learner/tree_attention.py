"""Attention among the rows of `actors.learner.trees`, under a name that transformers knows.

verl hands a model its rows end to end, with their positions and nothing else. That is enough: a
token sees itself and its ancestors, and positions are depths. Each tree is attended to by itself,
so that neither time nor memory grows with the square of a whole pack, and a row of one trajectory
needs no mask at all. torch's own kernels do the work on the CPU as on a GPU; flash attention
cannot see trees.

verl imports this module in each of its processes (`model.external_lib`) before it makes a model;
importing registers the name.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from mtsql.per_object import PerObject

NAME = "mtsql_trees"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """One tree of a pack."""

    begin: int
    end: int
    sees: torch.Tensor | None
    """[T, T]: whether a token (row) sees another (column); None: all that stand before it."""


def blocks_of(positions: torch.Tensor) -> list[Block]:
    """The trees of a pack; the first token of each has position 0.

    Args:
        positions: [T], depths in depth-first order.
    """
    begins = (positions == 0).nonzero()[:, 0].tolist()
    ends = [*begins[1:], len(positions)]
    return [
        Block(begin=begin, end=end, sees=_sees(positions[begin:end]))
        for begin, end in zip(begins, ends, strict=True)
    ]


def _sees(depths: torch.Tensor) -> torch.Tensor | None:
    """A token's descendants are those behind it, up to the first that is no deeper than it is."""
    length = len(depths)
    places = torch.arange(length, device=depths.device)
    if torch.equal(depths, places):
        return None
    behind = places[None, :] > places[:, None]
    # The first place at which a token's descendants have ended, [T].
    outside = behind & (depths[None, :] <= depths[:, None])
    over = torch.where(outside.any(1), outside.int().argmax(1), length)
    return (places[None, :] <= places[:, None]) & (places[:, None] < over[None, :])


_BLOCKS: PerObject[torch.Tensor, list[Block]] = PerObject(lambda positions: blocks_of(positions[0]))
"""All layers of a model are given the same tensor of positions."""


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    position_ids: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,  # noqa: ANN401 - transformers passes what other implementations need
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it.

    Args:
        query: [1, heads, T, size]; key and value may have fewer heads.
        position_ids: [1, T].

    Returns:
        [1, T, heads, size], and no weights.

    Raises:
        ValueError: a token should not see all of its ancestors.
    """
    assert attention_mask is None, "a pack has no padding"
    assert query.shape[0] == position_ids.shape[0] == 1, "rows are packed end to end"
    if sliding_window is not None and position_ids.max() >= sliding_window:
        raise ValueError(f"a trajectory is longer than the model's window of {sliding_window}")
    num_groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, num_groups), repeat_kv(value, num_groups)
    seen = [
        torch.nn.functional.scaled_dot_product_attention(
            *(one[:, :, block.begin : block.end] for one in (query, key, value)),
            attn_mask=block.sees,
            dropout_p=dropout,
            is_causal=block.sees is None,
            scale=scaling,
        )
        for block in _BLOCKS.of(position_ids)
    ]
    return torch.cat(seen, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)
