"""Attention among the rows of `actors.learner.trees`, under a name that transformers knows.

verl hands a model its rows end to end, with their positions and nothing else. That is enough: a
token sees itself and its ancestors, and positions are depths. Each branch of a tree is attended to
by itself, with its ancestors and nothing else, so that no score is computed in vain. torch's own
kernels do the work on the CPU as on a GPU; flash attention cannot see trees.

verl imports this module in each of its processes (`model.external_lib`) before it makes a model;
importing registers the name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from mtsql.per_object import PerObject

NAME = "mtsql_trees"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branch:
    """Tokens of a pack that stand end to end, each the parent of the next one."""

    begin: int
    end: int
    ancestors: tuple[slice, ...]
    """Where the tokens before the branch stand; none at the root of a tree."""
    sees: torch.Tensor | None
    """[end - begin, ancestors + end - begin]; None: no ancestors, and all that stand before it."""


def branches_of(positions: torch.Tensor) -> list[Branch]:
    """The branches of a pack, in its order; the first token of each tree has position 0.

    Args:
        positions: [T], depths in depth-first order.
    """
    depths = positions.cpu()
    starts = [0, *((depths[1:] != depths[:-1] + 1).nonzero()[:, 0] + 1).tolist()]
    path: list[slice] = []
    found: list[Branch] = []
    for begin, end in zip(starts, [*starts[1:], len(depths)], strict=True):
        depth = int(depths[begin])
        path = _first(path, depth)
        sees = None
        if depth:
            seen = torch.ones(end - begin, depth + end - begin, dtype=torch.bool)
            sees = seen.tril(depth).to(positions.device)
        found.append(Branch(begin=begin, end=end, ancestors=tuple(path), sees=sees))
        path = [*path, slice(begin, end)]
    return found


def _first(path: Sequence[slice], depth: int) -> list[slice]:
    """The places of as many tokens from the root."""
    kept: list[slice] = []
    for one in path:
        if depth:
            end = min(one.stop, one.start + depth)
            kept.append(slice(one.start, end))
            depth -= end - one.start
    return kept


_BRANCHES: PerObject[torch.Tensor, list[Branch]] = PerObject(
    lambda positions: branches_of(positions[0])
)
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
    seen: list[torch.Tensor] = []
    for branch in _BRANCHES.of(position_ids):
        places = [*branch.ancestors, slice(branch.begin, branch.end)]
        seen.append(
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, places[-1]],
                *(torch.cat([one[:, :, part] for part in places], dim=2) for one in (key, value)),
                attn_mask=branch.sees,
                dropout_p=dropout,
                is_causal=branch.sees is None,
                scale=scaling,
            )
        )
    return torch.cat(seen, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)
