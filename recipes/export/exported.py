"""What an export did, for the terminal."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.export import DATASET, Conversation, ExportFormat


@dataclass(slots=True, kw_only=True)
class Exported:
    """What an export did, for the terminal."""

    path: Path
    conversations: list[Conversation] = field(default_factory=list)
    splits: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    """Trajectories by reason."""
    num_other_tokens: int = 0
    """Sampled in tokens that their text does not give back."""
    num_rendered: int = 0
    """Those whose text the model's chat template renders exactly as it was played."""
    longest: int = 0
    """Tokens of the longest conversation."""
    has_empty_reasoning: bool
    """The run's prompts end in an empty reasoning block (Qwen3 without thinking)."""
    template: str | None
    """LLaMA-Factory's that gives the run's tokens; None: there is none."""
    date: str
    """The day that the run's prompts name, where the chat template writes today's; or empty."""
    difference: str = ""
    """Where the chat template's rendering first leaves what was played, of one conversation."""

    def add(self, row: Attempt, one: Conversation) -> None:
        self.conversations.append(one)
        self.splits[row.label.split] += 1
        self.longest = max(self.longest, row.tokens.num_tokens)

    def lines(self, format: ExportFormat) -> Iterator[str]:
        num = len(self.conversations)
        splits = ", ".join(f"{name} {count}" for name, count in sorted(self.splits.items()))
        yield f"{num} trajectories ({splits}) in {self.path}"
        for reason, count in sorted(self.left_out.items()):
            yield f"left out {count}: {reason}"
        if self.num_other_tokens:
            yield f"{self.num_other_tokens} were sampled in tokens that no text gives back"
        yield from self._for_llama_factory() if format == "llama_factory" else self._for_messages()

    def _for_llama_factory(self) -> Iterator[str]:
        # One more: it closes the last line.
        cutoff = f"cutoff_len: {self.longest + 1}"
        where = f"LLaMA-Factory: dataset_dir: {self.path.parent}, dataset: {DATASET}, "
        if self.template is None:
            yield (
                f"{where}{cutoff}; no template of LLaMA-Factory gives these tokens: it would learn "
                "other text than the run's model reads"
            )
            return
        thinking = ", enable_thinking: false" if self.has_empty_reasoning else ""
        yield f"{where}template: {self.template}{thinking}, {cutoff}"

    def _for_messages(self) -> Iterator[str]:
        yield (
            f"the model's chat template renders {self.num_rendered} of them as they were played"
            f"{self.difference}"
        )
        if self.date:
            yield (
                f"the chat template writes today's date, and the run's prompts name {self.date}: "
                "a trainer that renders on another day gives it strftime_now"
            )
        if num := sum(not one.is_whole for one in self.conversations):
            yield f"{num} are learned in part: a trainer must read `weight`, or leave them out"
