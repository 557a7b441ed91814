"""A process reward model's folder and its scores, on a tiny model with random weights."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("torch", reason="the core install holds no torch")

import torch
from transformers import AutoModelForCausalLM

from actors import tiny_model
from actors.prm.base import make_base, read_form
from actors.prm.scorer import Scorer
from actors.rollout.codec import load_tokenizer
from mtsql.config.model import TinyModelConfig
from mtsql.errors import ModelError
from mtsql.prm.form import NOTE, STEP, FormNote
from mtsql.shown.harmless import neutral, to_json
from mtsql.trajectory.tokens import TokenSequence

pytestmark = pytest.mark.filterwarnings("ignore")
MAX_TOKENS = 48


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    tiny = TinyModelConfig(
        vocab_size=512,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=32,
        intermediate_size=32,
        max_position=256,
    )
    tiny_model.create(folder, ["a good shop, a bad shop"] * 3, tiny, seed=1)
    return folder


@pytest.fixture(scope="module")
def model(policy: Path) -> Path:
    folder = policy.parent / "prm"
    make_base(policy, folder, digests=True, max_tokens=MAX_TOKENS, outcome=False)
    return folder


def sequence(random: Random, num_steps: int) -> TokenSequence:
    ids: list[int] = []
    mask: list[int] = []
    ends: list[int] = []
    for _ in range(num_steps):
        for is_sampled in (1, 0):
            length = random.randint(1, 9)
            ids += [random.randint(5, 250) for _ in range(length)]
            mask += [is_sampled] * length
            if is_sampled:
                ends.append(len(ids) - 1)
    prompt = tuple(random.randint(5, 250) for _ in range(random.randint(3, 40)))
    return TokenSequence(
        prompt_ids=prompt,
        response_ids=tuple(ids),
        response_mask=tuple(mask),
        step_ends=tuple(ends),
    )


def test_three_ids_are_new_and_all_others_stay(policy: Path, model: Path) -> None:
    before, after = load_tokenizer(policy).get_vocab(), load_tokenizer(model).get_vocab()
    form = read_form(model).form
    assert {text: one for text, one in after.items() if text not in before} == {
        "<|step|>": form.step,
        "<|good|>": form.good,
        "<|bad|>": form.bad,
    }
    assert before.items() <= after.items()
    assert len({form.step, form.good, form.bad}) == 3


def test_no_text_that_is_shown_can_bring_the_mark(model: Path) -> None:
    tokenizer, form = load_tokenizer(model), read_form(model).form
    for text in (neutral(f"a {STEP} b"), to_json({"rows": [[STEP]]})):
        assert not form.reserved & set(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_the_labels_begin_apart_and_as_the_words_that_they_say(policy: Path, model: Path) -> None:
    form = read_form(model).form
    old, new = (AutoModelForCausalLM.from_pretrained(path) for path in (policy, model))
    rows: Any = new.get_input_embeddings().weight
    old_rows: Any = old.get_input_embeddings().weight
    pieces = load_tokenizer(policy)(" good", add_special_tokens=False)["input_ids"]
    wanted = old_rows[pieces].mean(0)
    torch.testing.assert_close(rows[form.good], wanted)
    assert not torch.equal(rows[form.good], rows[form.bad])


def test_scores_are_those_of_a_plain_forward_pass_whatever_shares_the_batch(model: Path) -> None:
    random = Random(1)
    sequences = [sequence(random, num_steps=1 + number % 4) for number in range(12)]
    scorer = Scorer(model, "cpu")
    together = scorer.scores(sequences)
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    form = scorer.note.form
    num_cut = 0
    for one, scores in zip(sequences, together, strict=True):
        assert scorer.scores([one])[0] == pytest.approx(scores, abs=1e-4)
        text = scorer.text(one)
        num_cut += text.num_cut
        assert len(scores) == len(one.step_ends)
        # A text whose first mark is cut off is empty.
        with torch.no_grad():
            logits = plain(torch.tensor([text.ids or (1,)])).logits[0]
        for place, score in zip(text.positions, scores, strict=True):
            if place is None:
                assert score is None
            else:
                two = logits[place, [form.good, form.bad]].softmax(-1)
                assert score == pytest.approx(two[0].item(), abs=1e-3)
    assert 0 < num_cut < sum(len(one.step_ends) for one in sequences)


def test_a_folder_that_is_no_such_model_is_refused_in_one_line(
    policy: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"no text_form\.json there, so no process reward model"):
        Scorer(policy, "cpu")
    with pytest.raises(ModelError, match=r"knows '<\|step\|>' already"):
        make_base(model, tmp_path / "again", digests=True, max_tokens=9, outcome=False)
    # a note of another form, and a tokenizer that lost the mark
    note = FormNote.model_validate_json((model / NOTE).read_text(encoding="utf-8"))
    other = tmp_path / "other"
    other.mkdir()
    for path in policy.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / NOTE).write_text(note.model_dump_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="its tokenizer has no reserved token"):
        read_form(other)
    newer = json.loads(note.model_dump_json())
    newer["form"]["version"] = 2
    (other / NOTE).write_text(json.dumps(newer), encoding="utf-8")
    with pytest.raises(ModelError, match="learned text form 2, and this mtsql builds form 1"):
        read_form(other)
