"""Constant texts of the wire as single tokens, for a tokenizer that was made for other things.

The tiny model's tokenizer has them from the start; a pretrained one writes `<tool_call>` and what
follows it in two dozen pieces. Nothing that a model is shown can bring one of these tokens: texts
of calls and frames begin a tag, which `mtsql.shown.harmless` takes apart everywhere, and texts of
replies are tokens in replies only, where JSON's quotes keep data from holding them.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.rollout.codec import Codec, load_tokenizer, run_codec
from actors.rollout.template import TemplateFacts
from envs.dialects import RULES
from envs.replies import JSON_TEXTS
from mtsql.config.run import RunConfig
from mtsql.errors import ModelError
from mtsql.protocol import DIALECTS, HERMES
from mtsql.shown.harmless import begins_a_tag


def wire_texts(config: RunConfig, facts: TemplateFacts) -> list[str]:
    """What is constant in a trajectory of the recipe's dialect under a chat template."""
    dialect = config.environment.dialect
    # What ends a message stays a token for itself: sampling stops at it.
    frames = [facts.before_reply, facts.after_reply.removeprefix(facts.end_text)]
    are_json = RULES[dialect].word is None or config.environment.prompt == "compact"
    replies = JSON_TEXTS if facts.reply and are_json else ()
    texts = [*DIALECTS[dialect].fixed_texts, *filter(begins_a_tag, frames), *replies]
    return list(dict.fromkeys(texts))


def with_wire_tokens(model: Path, config: RunConfig) -> tuple[Any, Mapping[int, Sequence[int]]]:
    """The tokenizer of a model folder with the wire's texts as tokens that are text.

    Returns:
        The tokenizer, and by each new token's id the pieces that its text was before.

    Raises:
        ModelError: no model there; its chat template cannot serve, or has another form of calls; or
            the tokenizer changes a text that is to be kept whole.
    """
    from tokenizers import AddedToken  # noqa: PLC0415 - seconds that few users of this file need

    plain = load_tokenizer(model)
    codec = run_codec(plain, config)
    if codec.call_format.name != HERMES.name:
        raise _refused(
            model, f"its chat template writes calls as {codec.call_format.name!r}, not as JSON"
        )
    pieces = {text: _ids(plain, text) for text in wire_texts(config, codec.facts)}
    missing = [text for text, ids in pieces.items() if len(ids) > 1]
    tokenizer = copy.deepcopy(plain)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in missing])
    found: dict[int, Sequence[int]] = {}
    for text in missing:
        ids = _ids(tokenizer, text)
        if len(ids) != 1 or tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise _refused(model, f"its tokenizer does not keep {text!r} whole")
        found[ids[0]] = pieces[text]
    return tokenizer, found


def wire_codec(model: Path, config: RunConfig) -> Codec:
    """The codec that a run with `model.wire_tokens` plays with.

    Raises:
        ModelError: as above.
    """
    tokenizer, _ = with_wire_tokens(model, config)
    return run_codec(tokenizer, config)


def _ids(tokenizer: Any, text: str) -> list[int]:  # noqa: ANN401 - transformers' share no useful type
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _refused(model: Path, why: str) -> ModelError:
    return ModelError(f"model.wire_tokens: {model}: {why}: set model.wire_tokens=false")
