"""Trajectories that share a row: what the row holds, and that a model learns the same from it."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the core install holds no torch")

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from actors.learner.sft_dataset import TokenDataset
from actors.learner.tree_attention import NAME, branches_of, tree_attention
from actors.learner.trees import SFTRow, merged, packs, tree_of, tree_rows


def row(ids: list[int], learned: list[int], *, db: str = "db", dialogue: str = "d") -> SFTRow:
    return SFTRow(
        db_id=db,
        dialogue_id=dialogue,
        input_ids=np.array(ids, np.int32),
        loss_mask=np.array(learned, np.int8),
    )


def held(tree: Any) -> tuple[list[int], list[int], list[int]]:
    return tree.input_ids.tolist(), tree.position_ids.tolist(), tree.loss_mask.tolist()


def test_one_trajectory_is_its_own_tree():
    assert held(merged([row([1, 2, 7, 8], [0, 0, 1, 1])])) == (
        [1, 2, 7, 8],
        [0, 1, 2, 3],
        [0, 0, 1, 1],
    )


def test_what_is_shared_stands_once_and_a_learned_branch_follows_a_copy_of_its_parent():
    # 9 is predicted from 2, and the row's order would predict it from 8.
    tree = merged([row([1, 2, 7, 8], [0, 0, 1, 1]), row([1, 2, 9], [0, 0, 1])])
    assert held(tree) == ([1, 2, 7, 8, 2, 9], [0, 1, 2, 3, 1, 2], [0, 0, 1, 1, 0, 1])
    # Nothing predicts 5 that would be learned, so nothing is copied.
    tree = merged([row([1, 2, 5, 9], [0, 0, 0, 1]), row([1, 2, 4], [0, 0, 1])])
    assert held(tree) == ([1, 2, 4, 5, 9], [0, 1, 2, 2, 3], [0, 0, 1, 0, 1])


def test_a_token_counts_for_each_trajectory_that_learns_it_and_for_no_other():
    # Turn 2 shows the answer of turn 1 (7 8) as history: it is learned once, by turn 1.
    first, second = row([1, 2, 7, 8], [0, 0, 1, 1]), row([1, 2, 7, 8, 3, 9], [0, 0, 0, 0, 0, 1])
    shared = ([1, 2, 7, 8, 3, 9], [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 0, 1])
    assert held(merged([first, second])) == held(merged([second, first])) == shared
    # A drill does not learn its mistake (7); two trajectories that make it as well both do.
    drill = row([1, 7, 5, 9], [0, 0, 0, 1])
    whole = row([1, 7, 5, 8], [0, 1, 0, 1])
    tree = merged([drill, whole, whole])
    assert held(tree) == ([1, 7, 5, 8, 5, 9], [0, 1, 2, 3, 2, 3], [0, 2, 0, 2, 0, 1])


def test_a_branch_that_only_a_later_trajectory_learns_has_its_copy_too():
    # 1 4 comes first; 1 6 is history in one trajectory and learned in the next one.
    tree = merged([row([1, 4], [0, 1]), row([1, 6], [0, 0]), row([1, 6, 7], [0, 1, 0])])
    assert held(tree) == ([1, 4, 1, 6, 7], [0, 1, 0, 1, 2], [0, 1, 0, 1, 0])


def test_the_first_token_of_a_trajectory_cannot_be_learned():
    with pytest.raises(ValueError, match="d: the first token cannot be learned"):
        row([1, 2], [1, 1])


def test_rows_are_filled_with_dialogues_of_one_database():
    def turns(db: str, dialogue: str, question: int) -> list[SFTRow]:
        # A schema of two tokens, then a question and an answer; turn 2 goes on from turn 1.
        first = [ord(db), 1, question, 50]
        return [
            row(first, [0, 0, 0, 1], db=db, dialogue=dialogue),
            row([*first, 40, 51], [0, 0, 0, 0, 0, 1], db=db, dialogue=dialogue),
        ]

    # 6 tokens a dialogue, 4 more for each other one of the same database.
    rows = [*turns("a", "a1", 10), *turns("b", "b1", 20), *turns("a", "a2", 11)]
    rows += turns("a", "a3", 12)
    a = [97, 1, 10, 50, 40, 51, 11, 50, 40, 51]
    assert [one.input_ids.tolist() for one in tree_rows(rows, 10)] == [
        a,
        [97, 1, 12, 50, 40, 51],
        [98, 1, 20, 50, 40, 51],
    ]
    assert [len(one.input_ids) for one in tree_rows(rows, 14)] == [14, 6]
    # a2 does not fit behind a1: it begins a row rather than being cut.
    assert [len(one.input_ids) for one in tree_rows(rows, 9)] == [6, 6, 6, 6]
    # No dialogue fits: its trajectories stay whole all the same.
    assert [len(one.input_ids) for one in tree_rows(rows, 3)] == [4, 6] * 4
    learned = sum(one.loss_mask.sum() for one in rows)
    for size in (3, 9, 10, 14):
        assert sum(one.loss_mask.sum() for one in tree_rows(rows, size)) == learned


def dialogues(rng: np.random.Generator) -> list[SFTRow]:
    """Three dialogues about one schema, with trajectories that part in prompts and in answers."""
    schema, rows = [1, *rng.integers(2, 60, 20)], []
    for dialogue in range(3):
        ids: list[int] = list(schema)
        for _ in range(3):
            ids += [60, *rng.integers(2, 60, 4)]
            for _ in range(2):
                # The first token of an answer is one of three: trajectories part there or later.
                answer = [int(rng.integers(2, 5)), *rng.integers(2, 60, 5), 61]
                learned = [0] * len(ids) + [1] * len(answer)
                rows.append(row([*ids, *answer], learned, dialogue=str(dialogue)))
            ids = rows[-1].input_ids.tolist()
        # What one of them must not learn, another one learns.
        rows.append(row(ids, [0] * (len(ids) - 2) + [1, 1], dialogue=str(dialogue)))
    return rows


def tiny(**changes: Any) -> Any:
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    torch.manual_seed(1)
    model = Qwen3ForCausalLM(Qwen3Config(**sizes | changes)).float()
    return model.train()


def summed_loss(model: Any, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> Any:
    """As the trainer does it: each token predicted from the one before it, weighted by its mask."""
    logits = model(input_ids=ids[None], position_ids=positions[None], use_cache=False).logits[0]
    picked = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    return -(picked * mask[1:]).sum()


def gradients(model: Any, loss: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("max_tokens", [1000, 70])
def test_a_model_learns_the_same_from_trees_as_from_trajectories(max_tokens):
    rows = dialogues(np.random.default_rng(3))
    trees = tree_rows(rows, max_tokens)
    num_tokens = sum(len(one.input_ids) for one in rows)
    assert sum(len(one.input_ids) for one in trees) < num_tokens / 2
    assert any((one.loss_mask > 1).any() for one in trees)

    model = tiny(attn_implementation="sdpa")
    apart = torch.zeros(())
    for one in rows:
        ids, mask = (torch.from_numpy(a.astype("int64")) for a in (one.input_ids, one.loss_mask))
        apart = apart + summed_loss(model, ids, torch.arange(len(ids)), mask)
    expected = gradients(model, apart)

    # All rows end to end, as the trainer packs them.
    model.set_attn_implementation(NAME)
    columns = [[getattr(one, name) for one in trees] for name in TokenDataset.NAMES]
    pack = [torch.from_numpy(np.concatenate(one).astype("int64")) for one in columns]
    together = summed_loss(model, *pack)
    assert together.item() == pytest.approx(apart.item(), rel=1e-5)
    found = gradients(model, together)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.mark.filterwarnings("ignore")
def test_what_a_branch_sees():
    # The tree 0 - 1 - 2, with 1' - 2' beside 1 - 2 and 2" beside 2'; then a row of one trajectory.
    branches = branches_of(torch.tensor([0, 1, 2, 1, 2, 2, 0, 1]))
    assert [(one.begin, one.end, one.ancestors) for one in branches] == [
        (0, 3, ()),
        (3, 5, (slice(0, 1),)),
        (5, 6, (slice(0, 1), slice(3, 4))),
        (6, 8, ()),
    ]
    root, second, third, other = (one.sees for one in branches)
    assert root is other is None
    assert second is not None
    assert third is not None
    assert second.int().tolist() == [[1, 1, 0], [1, 1, 1]]
    assert third.int().tolist() == [[1, 1, 1]]


def test_where_the_tokens_of_a_sequence_stand():
    sequences = [np.array(ids) for ids in ([1, 2, 9], [1, 2, 7, 8], [1, 2], [3])]
    tree = tree_of(sequences)
    # In the order of their tokens: 1 2, then 7 8, then 9 beside them, then another tree.
    assert tree.input_ids.tolist() == [1, 2, 7, 8, 9, 3]
    assert tree.position_ids.tolist() == [0, 1, 2, 3, 2, 0]
    assert tree.parents.tolist() == [-1, 0, 1, 2, 1, -1]
    assert [one.tolist() for one in tree.paths] == [[0, 1, 4], [0, 1, 2, 3], [0, 1], [5]]


def test_sequences_that_begin_alike_share_a_pack():
    sequences = [np.array(ids) for ids in ([1, 2, 9], [3, 4, 5], [1, 2, 7, 8], [3, 4, 6])]
    # 1 2 7 8 and 9 are five tokens; 3 4 5 and 6 are four.
    assert packs(sequences, 5) == [[2, 0], [1, 3]]
    assert packs(sequences, 9) == [[2, 0, 1, 3]]
    assert packs(sequences, 8) == [[2, 0, 1], [3]]
    # None fits: each has a pack of its own.
    assert packs(sequences, 2) == [[2], [0], [1], [3]]


@pytest.mark.filterwarnings("ignore")
def test_a_window_that_is_shorter_than_a_trajectory_is_refused():
    query = torch.ones(1, 2, 4, 8)
    positions = torch.arange(4)[None]
    seen, _ = tree_attention(
        torch.nn.Module(), query, query, query, None, position_ids=positions, sliding_window=4
    )
    assert seen.shape == (1, 4, 2, 8)
    with pytest.raises(ValueError, match="longer than the model's window of 3"):
        tree_attention(
            torch.nn.Module(), query, query, query, None, position_ids=positions, sliding_window=3
        )
