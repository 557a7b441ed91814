"""verl's FSDP engine for RL on a CPU: what rollouts share is computed once.

The rollouts of a group have the same prompt, which is most of their tokens, and often the first
words of an answer. A pack is a tree of rollouts (`actors.learner.trees`), and scores over the
vocabulary are computed only where a sampled token is predicted. Loss and gradients are those of the
rollouts one by one. verl imports this module in each of its processes (`model.external_lib`).
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import verl.utils.tensordict_utils as verl_tensordict
import verl.workers.engine.fsdp.transformer_impl as verl_engine
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from actors.learner.config import RL_VENDOR as VENDOR
from actors.learner.trees import packs, tree_of


def shared_packs(
    data: Any,  # noqa: ANN401 - verl's own objects
    dp_group: Any = None,  # noqa: ANN401 - as above
    **_: Any,  # noqa: ANN401 - what verl's own rule needs
) -> tuple[list[Any], list[list[int]]]:
    """A mini-batch in packs, and which of its rollouts each one holds; verl's own cuts groups.

    Every rank has as many packs, because gradients are exchanged with the last one.
    """
    parts = packs(_arrays(data["input_ids"]), data["max_token_len_per_gpu"])
    count = torch.tensor(len(parts))
    torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MAX, group=dp_group)
    parts = split(parts, int(count))
    return [verl_tensordict.index_select_tensor_dict(data, part) for part in parts], parts


def split(parts: Sequence[list[int]], count: int) -> list[list[int]]:
    """As many parts, by halving the one with most rollouts again and again."""
    cut = [list(part) for part in parts]
    while len(cut) < count:
        widest = max(range(len(cut)), key=lambda one: len(cut[one]))
        middle = len(cut[widest]) // 2
        assert middle, "a rank has fewer rollouts than another one has packs"
        cut[widest : widest + 1] = [cut[widest][:middle], cut[widest][middle:]]
    return cut


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor=VENDOR)
class SharedPromptEngine(FSDPEngineWithLMHead):
    """verl's engine over trees of rollouts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - verl's own objects
        cast(Any, verl_engine).prepare_micro_batches = shared_packs
        super().__init__(*args, **kwargs)

    def prepare_model_inputs(self, micro_batch: Any) -> Any:  # noqa: ANN401 - verl's own objects
        rollouts = _arrays(micro_batch["input_ids"])
        # The mask is as long as the response, and may be as long as the rollout.
        masks = _arrays(micro_batch["loss_mask"])
        tree = tree_of(rollouts)
        begins = micro_batch["input_ids"].offsets()[:-1].numpy()
        from_places: list[np.ndarray] = []
        told: list[np.ndarray] = []
        slots: list[np.ndarray] = []
        for ids, mask, path, begin in zip(rollouts, masks, tree.paths, begins, strict=True):
            sampled = mask.nonzero()[0] + len(ids) - len(mask)
            from_places.append(path[sampled - 1])
            told.append(ids[sampled])
            # verl keeps the score of a token at the place of the token before it.
            slots.append(begin + sampled - 1)
        places, which = np.unique(np.concatenate(from_places), return_inverse=True)
        inputs = {
            "input_ids": torch.from_numpy(tree.input_ids)[None],
            "attention_mask": None,
            "position_ids": torch.from_numpy(tree.position_ids.astype(np.int64))[None],
            "logits_to_keep": torch.from_numpy(places),
        }
        rows = (which, np.concatenate(told), np.concatenate(slots))
        return inputs, {"rows": tuple(torch.from_numpy(one) for one in rows)}

    def prepare_model_outputs(
        self,
        output: Any,  # noqa: ANN401 - verl's own objects
        output_args: dict[str, Any],
        micro_batch: Any,  # noqa: ANN401
        logits_processor_func: Any,  # noqa: ANN401
    ) -> dict[str, torch.Tensor]:
        """Log-probabilities of the sampled tokens, and entropies if asked for; 0 elsewhere."""
        which, told, slots = output_args["rows"]
        scores = output.logits[0].float() / micro_batch["temperature"]
        norms = scores.logsumexp(-1)
        outputs = {"log_probs": scores[which, told] - norms[which]}
        if verl_tensordict.get_non_tensor_data(micro_batch, "calculate_entropy", default=False):
            expected = (scores.softmax(-1) * scores).sum(-1)
            outputs["entropy"] = (norms - expected)[which]
        rollouts = micro_batch["input_ids"]
        flat = torch.zeros(len(rollouts.values()))
        return {
            name: torch.nested.nested_tensor_from_jagged(
                flat.index_put((slots,), values), rollouts.offsets()
            )
            for name, values in outputs.items()
        }


def _arrays(rows: Any) -> list[np.ndarray]:  # noqa: ANN401 - a nested tensor
    return [one.numpy() for one in rows.unbind()]
