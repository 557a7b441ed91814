"""Trajectories as text, for trainers elsewhere: `messages` with `tools`, and LLaMA-Factory's own.

What the model wrote is exported as it stands, a <tool_call> block included: structured tool calls
would be written again by the trainer's template, which loses the words around them, the tags of
`mtsql_r1` and every spelling that is not the template's own.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtsql.errors import DataError
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.records import Ending

ExportFormat = Literal["llama_factory", "messages"]
DATASET = "mtsql"
"""Its name in LLaMA-Factory."""
FILES: Mapping[ExportFormat, str] = {"llama_factory": "mtsql.jsonl", "messages": "messages.jsonl"}
_FROM = {"user": "human", "assistant": "gpt", "tool": "observation"}
DATASET_INFO = {
    DATASET: {
        "file_name": FILES["llama_factory"],
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
        # All or none: LLaMA-Factory forgets the default of a tag when other tags are given.
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "observation",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    }
}
"""The content of dataset_info.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One trajectory as messages; the last one is the assistant's.

    Example, a drill of which the correction alone is learned:
        user       how many shops are there in paris ?
        assistant  <tool_call> propose ... 'paris'    weight 0
        tool       {"ok": true}
        assistant  <tool_call> execute                weight 0
        tool       {"columns": ["id"], "rows": [], "num_rows": 0, "note": "empty", ...}
        assistant  <tool_call> correct ... 'Paris'    weight 1
    """

    name: str
    messages: tuple[dict[str, str], ...]
    """`{"role": system | user | assistant | tool, "content": ...}`, and what a template needs."""
    weights: tuple[int, ...]
    """Of each assistant message: 1 is learned, 0 is not."""
    tools: tuple[dict[str, Any], ...]
    """JSON schemas in OpenAI's function format; () for none."""

    def __post_init__(self) -> None:
        num_said = sum(message["role"] == "assistant" for message in self.messages)
        if num_said != len(self.weights):
            raise ValueError(f"{self.name}: {len(self.weights)} weights, {num_said} messages")

    @property
    def is_whole(self) -> bool:
        """Every message of the model is learned."""
        return all(self.weights)


def conversation(
    row: Attempt,
    *,
    name: str,
    prompt: Sequence[dict[str, str]],
    tools: Sequence[dict[str, Any]],
    reply: Mapping[str, str],
    weights: Sequence[int] | None = None,
) -> Conversation:
    """The prompt, then what was said and replied; a reply without an answer is left out.

    Args:
        reply: the keys of a reply's message beside its content.
    """
    steps = row.trajectory.steps
    messages = list(prompt)
    for step in steps:
        messages.append({"role": "assistant", "content": step.message})
        messages.append({**reply, "content": step.observation or ""})
    return Conversation(
        name=name,
        messages=tuple(messages[:-1]),
        weights=(1,) * len(steps) if weights is None else tuple(weights),
        tools=tuple(tools),
    )


def message_weights(row: Attempt, loss_mask: Sequence[int]) -> tuple[int, ...]:
    """Which messages a mask over prompt and response learns.

    Example: response mask 1 1 0 1, loss mask of the response 0 0 0 1 -> weights 0 1
    """
    mask = loss_mask[len(row.tokens.prompt_ids) :]
    weights: list[int] = []
    begin = 0
    for end in row.tokens.step_ends:
        sampled = [mask[i] for i in range(begin, end + 1) if row.tokens.response_mask[i]]
        if len(set(sampled)) != 1:
            raise DataError(
                f"{row.trajectory.turn_id}: a message is learned in part, which no export can say"
            )
        weights.append(int(sampled[0]))
        begin = end + 1
    return tuple(weights)


def why_left_out(row: Attempt, *, only_right: bool, end_of_turn: int) -> str:
    """Why a trajectory teaches nothing elsewhere; empty if it does."""
    trajectory = row.trajectory
    if trajectory.ending is Ending.INFRA_FAULT:
        return "the machinery failed"
    if not trajectory.steps:
        return "the model said nothing"
    if not row.tokens.step_ends:
        return "saved without its tokens"
    if any(row.tokens.response_ids[end] != end_of_turn for end in row.tokens.step_ends):
        # Written as text, it would teach an end that the model did not reach.
        return "a message was cut off at its token limit"
    final = trajectory.judgements[-1] if trajectory.judgements else None
    # Without a verdict of EM, gold is outside Spider's subset, and EX alone decides.
    if only_right and not (final and final.ex and final.em is not False):
        return "not right (EX and EM)"
    return ""


def why_not_for_llama_factory(one: Conversation, *, has_empty_reasoning: bool) -> str:
    """Why LLaMA-Factory cannot say a conversation; empty if it can.

    Args:
        has_empty_reasoning: the chat template put an empty block before each message (Qwen3
            without thinking).
    """
    if not one.is_whole:
        return "learned in part (its corrections), and LLaMA-Factory knows no weights"
    said = (message["content"] for message in one.messages if message["role"] == "assistant")
    if has_empty_reasoning and any("<think>" in text or "</think>" in text for text in said):
        return "it reasons without thinking, and LLaMA-Factory would remove that"
    return ""


def messages_row(one: Conversation) -> dict[str, Any]:
    """`id`, `messages` and, where the dialect has them, `tools`.

    `weight` (as in OpenAI's fine-tuning) is given with the assistant's messages of conversations
    that are not learned whole, and only there.
    """
    weights = iter(one.weights)
    messages: list[dict[str, Any]] = [
        {**message, "weight": next(weights)}
        if message["role"] == "assistant" and not one.is_whole
        else {**message}
        for message in one.messages
    ]
    # No key: to some templates an empty list is not the same as none.
    tools = {"tools": list(one.tools)} if one.tools else {}
    return {"id": one.name, "messages": messages, **tools}


def llama_factory_row(one: Conversation, tools_text: str = "") -> dict[str, Any]:
    """`id`, `conversations`, `system` and `tools` (JSON in a string), as DATASET_INFO says.

    Args:
        tools_text: the system message that the run's chat template makes of the tools where the
            prompt has none. LLaMA-Factory would put two line breaks before its own.
    """
    assert one.is_whole, "LLaMA-Factory learns every message"
    first, *others = one.messages
    has_system = first["role"] == "system"
    return {
        "id": one.name,
        "conversations": [
            {"from": _FROM[message["role"]], "value": message["content"]}
            for message in (others if has_system else one.messages)
        ],
        "system": first["content"] if has_system else tools_text,
        "tools": json.dumps(one.tools, ensure_ascii=False) if one.tools and has_system else "",
    }


def check_out(out: Path) -> None:
    """Raises DataError unless the folder is empty, or missing and can be made."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"--out {out}: there already, and not an empty folder; name another one")
    partial = _partial(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside it: where this can be made, the rows can.
        partial.mkdir()
        partial.rmdir()
    except OSError as error:
        raise DataError(
            f"--out {out}: cannot be written ({error.strerror}); choose another one"
        ) from error


def _partial(out: Path) -> Path:
    return out.with_name(f".{out.name}.{os.getpid()}.partial")


def write_export(
    out: Path,
    format: ExportFormat,
    conversations: Sequence[Conversation],
    tools_text: str = "",
) -> Path:
    """Write the folder, whole or not at all, and return the file of the rows.

    Args:
        tools_text: see `llama_factory_row`.
    """
    check_out(out)
    partial = _partial(out)
    try:
        partial.mkdir()
        with (partial / FILES[format]).open("w", encoding="utf-8") as file:
            for one in conversations:
                row = (
                    messages_row(one)
                    if format == "messages"
                    else llama_factory_row(one, tools_text)
                )
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if format == "llama_factory":
            info = json.dumps(DATASET_INFO, indent=1)
            (partial / "dataset_info.json").write_text(info, encoding="utf-8")
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out / FILES[format]
