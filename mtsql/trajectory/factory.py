"""LLaMA-Factory's templates, as far as they can give a run's tokens.

A template there is a frame around each message. The first one of `TEMPLATES` whose frame is the
run's own is named; where none is, an export says so.

Source: hiyouga/LLaMA-Factory, src/llamafactory/data/template.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

NO_THOUGHT = "<think>\n\n</think>\n\n"
"""The empty reasoning that `qwen3` and `qwen3_5` put before a message with thinking off."""

Frame = tuple[str, str]
"""What stands before and behind a content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryTemplate:
    """One template under its name there."""

    name: str
    user: Frame
    """With the beginning of the model's next message."""
    tool: Frame
    """Of an observation, likewise."""
    end: str
    """Behind a message of the model."""
    system: Frame | None = None
    """None: a system text is a part of the first user message."""
    prefix: str = ""
    call_format: str = ""
    """The only one that its tools are told in; empty: its tools are not used."""
    has_empty_reasoning: bool = False
    """Used with `enable_thinking: false`."""

    def gives(self, between: str, *, role: str, mark: str) -> bool:
        """Whether a message's end, a reply and the next message's beginning are those of the run.

        Args:
            between: the run's text, with `mark` for the reply.
            role: of the reply's message.
        """
        before, behind = self.user if role == "user" else self.tool
        lead = NO_THOUGHT if self.has_empty_reasoning else ""
        return between == f"{self.end}{before}{mark}{behind}{lead}"

    def parts(self, prompt: str) -> tuple[str, str] | None:
        """The contents of the system message and the user's that give a prompt; None: none do."""
        if self.has_empty_reasoning:
            if not prompt.endswith(NO_THOUGHT):
                return None
            prompt = prompt.removesuffix(NO_THOUGHT)
        before, behind = self.user
        head, found, tail = prompt.rpartition(before)
        if not found or not tail.endswith(behind) or not head.startswith(self.prefix):
            return None
        user, head = tail.removesuffix(behind), head.removeprefix(self.prefix)
        if not head:
            return "", user
        if self.system is None or not (
            head.startswith(self.system[0]) and head.endswith(self.system[1])
        ):
            return None
        return head.removeprefix(self.system[0]).removesuffix(self.system[1]), user


def _chatml(name: str, tool: Frame, **more: bool | str) -> FactoryTemplate:
    return FactoryTemplate(
        name=name,
        user=("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        tool=(tool[0], f"{tool[1]}<|im_end|>\n<|im_start|>assistant\n"),
        end="<|im_end|>\n",
        system=("<|im_start|>system\n", "<|im_end|>\n"),
        call_format=str(more.get("call_format", "")),
        has_empty_reasoning=bool(more.get("has_empty_reasoning")),
    )


_RESPONSE = ("<|im_start|>user\n<tool_response>\n", "\n</tool_response>")
_LLAMA = "<|start_header_id|>{}<|end_header_id|>\n\n"
_LLAMA_NEXT = f"<|eot_id|>{_LLAMA.format('assistant')}"
_GEMMA_NEXT = "<end_of_turn>\n<start_of_turn>model\n"
_PHI_USER = ("<|user|>\n", "<|end|>\n<|assistant|>\n")
_PHI4_MINI_USER = ("<|user|>", "<|end|><|assistant|>")

TEMPLATES = (
    _chatml("qwen3", _RESPONSE, call_format="hermes", has_empty_reasoning=True),
    _chatml("qwen3_nothink", _RESPONSE, call_format="hermes"),
    _chatml("qwen3_5", _RESPONSE, call_format="qwen_xml", has_empty_reasoning=True),
    _chatml("qwen3_5_nothink", _RESPONSE, call_format="qwen_xml"),
    _chatml("chatml", ("<|im_start|>tool\n", "")),
    FactoryTemplate(
        name="llama3",
        prefix="<|begin_of_text|>",
        system=(_LLAMA.format("system"), "<|eot_id|>"),
        user=(_LLAMA.format("user"), _LLAMA_NEXT),
        tool=(_LLAMA.format("ipython"), _LLAMA_NEXT),
        end="<|eot_id|>",
    ),
    FactoryTemplate(
        name="gemma",
        prefix="<bos>",
        user=("<start_of_turn>user\n", _GEMMA_NEXT),
        tool=("<start_of_turn>tool\n", _GEMMA_NEXT),
        end="<end_of_turn>\n",
    ),
    FactoryTemplate(
        name="phi",
        system=("<|system|>\n", "<|end|>\n"),
        user=_PHI_USER,
        tool=_PHI_USER,
        end="<|end|>\n",
    ),
    FactoryTemplate(
        name="phi4_mini",
        system=("<|system|>", "<|end|>"),
        user=_PHI4_MINI_USER,
        tool=_PHI4_MINI_USER,
        end="<|end|>",
    ),
)
"""Those without a system text of their own, which they would put where a prompt has none."""


def factory_template(
    prompt: str, between: str, *, reply: Mapping[str, str], mark: str, call_format: str
) -> FactoryTemplate | None:
    """The template that gives a run's tokens; None: none does.

    Args:
        prompt: of a run, any one.
        between: what stands between two messages of the model, with `mark` for the reply; empty
            for a dialect without replies.
        reply: the keys of a reply's message beside its content.
        call_format: of the run's own chat template.
    """
    for one in TEMPLATES:
        is_family = one.call_format in ("", call_format)
        has_between = not between or one.gives(between, role=reply.get("role", ""), mark=mark)
        if is_family and has_between and one.parts(prompt) is not None:
            return one
    return None
