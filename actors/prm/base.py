"""The model that a process reward model starts from: a policy's base with three tokens more."""

import copy
import logging
from pathlib import Path
from typing import Any

from actors.pretrained.wire_model import add_tokens
from actors.rollout.codec import load_tokenizer
from mtsql.errors import ModelError, UserError
from mtsql.files import read_record, write_record
from mtsql.prm.form import BAD, GOOD, NOTE, STEP, VERSION, FormNote, TextForm

logger = logging.getLogger(__name__)

PIECES = {STEP: STEP, GOOD: " good", BAD: " bad"}
"""By each token's text, the text whose pieces its row begins as the mean of."""


def make_base(model: Path, out: Path, *, digests: bool, max_tokens: int, outcome: bool) -> FormNote:
    """Write a copy of a model with the mark and the two labels as reserved tokens.

    No other id changes, so trajectories of the policy are read as they were sampled.

    Raises:
        ModelError: no model there, or its tokenizer does not keep a reserved token whole.
        MachineError: too little room on the disk.
    """
    from tokenizers import AddedToken  # noqa: PLC0415 - seconds that few users of this file need

    plain = load_tokenizer(model)
    taken = [text for text in PIECES if text in plain.get_vocab()]

    def refused(why: str) -> ModelError:
        return ModelError(f"prm.base {model}: {why}: give another base, of the policy's tokenizer")

    if taken:
        raise refused(f"its tokenizer knows {taken[0]!r} already, so a text could bring it")
    tokenizer = copy.deepcopy(plain)
    tokenizer.add_tokens(
        [AddedToken(text, normalized=False, special=True) for text in PIECES], special_tokens=True
    )
    ids = {text: tokenizer.convert_tokens_to_ids(text) for text in PIECES}
    pieces = {ids[text]: _ids(plain, like) for text, like in PIECES.items()}
    add_tokens(model, out, tokenizer, pieces, refused=refused)
    note = FormNote(
        form=TextForm(step=ids[STEP], good=ids[GOOD], bad=ids[BAD], digests=digests),
        scores="outcome" if outcome else "steps",
        max_tokens=max_tokens,
    )
    write_record(out / NOTE, note)
    return note


def read_form(model: Path) -> FormNote:
    """What the folder of a process reward model says of its text.

    Raises:
        ModelError: it is no such model, one of another form, or its tokenizer has lost the tokens.
    """
    fix = "train one with `mtsql prm train RECIPE`"
    if not (model / NOTE).is_file():
        raise ModelError(f"{model}: no {NOTE} there, so no process reward model; {fix}")
    try:
        note = read_record(model / NOTE, FormNote, fix=fix)
    except UserError as error:
        raise ModelError(str(error)) from error
    if note.form.version != VERSION:
        raise ModelError(
            f"{model}: learned text form {note.form.version}, and this mtsql builds form "
            f"{VERSION}; {fix}"
        )
    tokenizer = load_tokenizer(model)
    found = [tokenizer.convert_tokens_to_ids(text) for text in (STEP, GOOD, BAD)]
    if found != [note.form.step, note.form.good, note.form.bad]:
        raise ModelError(f"{model}: its tokenizer has no reserved token {STEP!r}; {fix}")
    return note


def _ids(tokenizer: Any, text: str) -> list[int]:  # noqa: ANN401 - transformers' share no useful type
    return tokenizer(text, add_special_tokens=False)["input_ids"]
