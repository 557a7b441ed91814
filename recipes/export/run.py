"""The export itself.

A stored trajectory holds its prompt in tokens only. The text is made again from the run's own data
and recipe, and counts only if its tokens are those that were stored.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.rollout.codec import Codec, run_codec, token_counter
from actors.rollout.prompt_texts import played_specs, prompts_of, specs_by_turn
from actors.rollout.template import DATE
from actors.rollout.turns import load_run_data
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset
from mtsql.dialogue import Message, TurnSpec
from mtsql.errors import DataError
from mtsql.protocol import DIALECTS, Dialect
from mtsql.runs.folder import RunFolder, sources
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.export import (
    FILES,
    Conversation,
    ExportFormat,
    check_out,
    conversation,
    message_weights,
    why_left_out,
    why_not_for_llama_factory,
    write_export,
)
from mtsql.trajectory.factory import NO_THOUGHT, FactoryTemplate, factory_template
from mtsql.trajectory.store import read_trajectories
from recipes.export.exported import Exported
from recipes.export.source import loss_masks, run_config, run_tokenizer, take

_MARK = "MTSQL-REPLY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A trajectory that is to be exported."""

    path: Path
    row: Attempt
    spec: TurnSpec
    weights: Sequence[int] | None
    """Of its messages; None: all of them are learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The run whose trajectories are exported."""

    config: RunConfig
    dataset: Dataset
    dialect: Dialect
    codec: Codec
    tokenizer: Any  # transformers' tokenizers share no useful type

    factory: FactoryTemplate | None

    @property
    def frame(self) -> str:
        """The run's chat template around a question, to see what it does to every prompt."""
        return _prompt_text(self.codec, self.tokenizer, [{"role": "user", "content": "q"}])

    @property
    def has_factory_tools(self) -> bool:
        """LLaMA-Factory tells the tools as the run's template does: it has Qwen's words."""
        return (
            bool(self.codec.tools)
            and self.factory is not None
            and (self.factory.call_format == "hermes")
        )


def export(
    source: Path,
    format: ExportFormat,
    out: Path,
    *,
    only_right: bool = False,
    model: Path | None = None,
) -> Exported:
    """Write the trajectories of a run's folder, or of one Parquet file in it.

    Args:
        source: of a folder, what its self-taught rounds selected, else the warm start's scripts.
        only_right: leave out what is not right by EX and EM.
        model: has the tokenizer that the run used; None: the recipe's.

    Raises:
        DataError: no run, no trajectories, or data and prompts differ from the run's.
        ModelError: the tokenizer is not there.
    """
    check_out(out)
    folder, paths = sources(source)
    run = _source(folder, model)
    frame = run.frame
    result = Exported(
        path=out / FILES[format],
        has_empty_reasoning=frame.endswith(NO_THOUGHT),
        template=run.factory.name if run.factory else None,
        date=f"{DATE:%d %B %Y}" if run.codec.facts.has_date else "",
    )
    kept = _kept(run, paths, result, only_right=only_right)
    specs = [one.spec for one in kept]
    count = token_counter(run.tokenizer)
    prompts = asyncio.run(prompts_of(run.config, run.dataset, specs, count))
    numbers: Counter[str] = Counter()
    for one, prompt in zip(kept, prompts, strict=True):
        _check_prompt(run, one, prompt)
        name = f"{one.row.trajectory.turn_id}/{one.row.label.policy}"
        made = conversation(
            one.row,
            name=f"{name}/{numbers[name]}",
            prompt=run.codec.given(prompt),
            tools=run.codec.tools,
            reply=run.codec.facts.reply,
            weights=one.weights,
        )
        if format == "llama_factory" and run.factory and not run.has_factory_tools:
            made = _framed(run, one.row, made)
        numbers[name] += 1
        _add(run, one.row, made, result, format)
    if not result.conversations:
        reasons = "; ".join(f"{count}: {why}" for why, count in sorted(result.left_out.items()))
        raise DataError(f"{source}: no trajectory to export ({reasons or 'the files are empty'})")
    made_by_template = _system_message(frame) if run.has_factory_tools else ""
    write_export(out, format, result.conversations, made_by_template)
    return result


def _source(folder: RunFolder, model: Path | None) -> Source:
    config = run_config(folder)
    tokenizer = run_tokenizer(config, folder, model)
    dialect = DIALECTS[config.environment.dialect]
    codec = run_codec(tokenizer, config)
    asked = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    between = ""
    if codec.facts.reply:
        between = tokenizer.decode(codec.reply(_MARK, is_closed=False))
    return Source(
        config=config,
        dataset=load_run_data(config),
        dialect=dialect,
        codec=codec,
        tokenizer=tokenizer,
        factory=factory_template(
            _prompt_text(codec, tokenizer, asked),
            between,
            reply=codec.facts.reply,
            mark=_MARK,
            call_format=codec.call_format.name,
        ),
    )


def _prompt_text(codec: Codec, tokenizer: Any, messages: list[Message]) -> str:  # noqa: ANN401 - as above
    return tokenizer.decode(codec.prompt(messages))


def _framed(run: Source, row: Attempt, made: Conversation) -> Conversation:
    """The conversation with the prompt as it was played, all that the chat template added in it."""
    assert run.factory is not None
    parts = run.factory.parts(run.tokenizer.decode(list(row.tokens.prompt_ids)))
    assert parts is not None, "the frame of one prompt is that of all"
    system, user = parts
    first = [{"role": "system", "content": system}] if system else []
    said = made.messages[[one["role"] for one in made.messages].index("assistant") :]
    messages = (*first, {"role": "user", "content": user}, *said)
    return replace(made, messages=messages, tools=())


def _kept(run: Source, paths: Sequence[Path], result: Exported, *, only_right: bool) -> list[Kept]:
    """What is to be exported; the result counts the others by reason."""
    specs = specs_by_turn(run.dataset)
    kept: list[Kept] = []
    for path in paths:
        rows = read_trajectories(path)
        masks = loss_masks(path, run.config)
        for row, spec in zip(rows, played_specs(path, rows, specs), strict=True):
            why = why_left_out(row, only_right=only_right, end_of_turn=run.codec.end_of_turn)
            weights = None if masks is None else message_weights(row, take(masks, row, path))
            if why:
                result.left_out[why] += 1
            else:
                kept.append(Kept(path=path, row=row, spec=spec, weights=weights))
    return kept


def _check_prompt(run: Source, one: Kept, prompt: list[Message]) -> None:
    if run.codec.prompt(prompt) != list(one.row.tokens.prompt_ids):
        raise DataError(
            f"{one.path}: {one.row.trajectory.turn_id}: its prompt is not the one that "
            f"{run.config.data_folder} and the tokenizer give now; bring back the run's data and "
            "model (--model DIR), or run again"
        )


def _add(
    run: Source, row: Attempt, made: Conversation, result: Exported, format: ExportFormat
) -> None:
    """Count the conversation in, or out by reason."""
    why = (
        why_not_for_llama_factory(made, has_empty_reasoning=result.has_empty_reasoning)
        if format == "llama_factory"
        else ""
    )
    if why:
        result.left_out[why] += 1
        return
    result.add(row, made)
    result.num_other_tokens += _text_ids(row, run.codec) != _played_ids(row)
    if format == "messages":
        rendered = run.codec.rendered(made.messages)
        said = run.tokenizer.decode(_played_ids(row)[:-1])
        # Behind the last message a template may go on, or leave out what the next one would bring.
        behind = rendered.removeprefix(said).strip()
        end = run.codec.facts.end_text
        if rendered.startswith(said) and (not behind or behind.startswith(end)):
            result.num_rendered += 1
        elif not result.difference:
            result.difference = _difference(rendered, said)


def _difference(rendered: str, played: str) -> str:
    """What is true of a template that renders a conversation otherwise."""
    without = [text.replace(NO_THOUGHT, "") for text in (rendered, played)]
    if NO_THOUGHT in rendered and without[0].startswith(without[1]):
        return "; it puts empty reasoning before the last message and before no other"
    pairs = enumerate(zip(rendered, played, strict=False))
    length = next((at for at, (one, other) in pairs if one != other), len(rendered))
    its, ours = (text[length : length + 30] for text in (rendered, played))
    behind = played[max(0, length - 30) : length]
    return f"; behind {behind!r} it has {its!r}, and what was played {ours!r}"


def _system_message(frame: str) -> str:
    """What the chat template puts there by itself: the tools, or nothing."""
    opening = "<|im_start|>system\n"
    if not frame.startswith(opening):
        return ""
    return frame.removeprefix(opening).partition("<|im_end|>")[0]


def _played_ids(row: Attempt) -> list[int]:
    """Prompt and response, up to the last message's end."""
    return [*row.tokens.prompt_ids, *row.tokens.response_ids[: row.tokens.step_ends[-1] + 1]]


def _text_ids(row: Attempt, codec: Codec) -> list[int]:
    """The same, had each message been written as text."""
    ids = list(row.tokens.prompt_ids)
    *steps, last = row.trajectory.steps
    for step in steps:
        ids += codec.written(step.message)
        ids += codec.reply(step.observation or "", is_closed=True)
    return [*ids, *codec.written(last.message)]
