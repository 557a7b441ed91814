"""What a recipe says about supervised learning: scripts, fine-tuning, the self-taught rounds."""

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mtsql.config.section import Section


class ScriptConfig(Section):
    """Shares of the behaviours that scripted trajectories mix; RL moves the policy between them."""

    wrong_case: NonNegativeFloat = Field(default=0.5, le=1)
    """First proposals that write a text value in the wrong case; a value that the question spells
    as the database does is never mistaken."""
    wrong_column: NonNegativeFloat = Field(default=0.03, le=1)
    """First proposals that name a column which does not exist."""
    missing_join: NonNegativeFloat = Field(default=0.0, le=1)
    """First proposals that leave out a join while they name its columns."""
    empty_result: NonNegativeFloat = Field(default=0.0, le=1)
    """First proposals with a condition value that is stored nowhere: a misspelling of the value
    that was said, or a part of the stored one. Not combined with dropped_condition."""
    dropped_condition: NonNegativeFloat = Field(default=0.05, le=1)
    """First proposals that forget a condition of the dialogue."""
    several_views: NonNegativeFloat = Field(default=1.0, le=1)
    """In the dialect `cocte`: queries that are built as a chain of several views; the others are
    proposed as one view."""
    fan_out: NonNegativeFloat = Field(default=0.0, le=1)
    """Chains with a view that joins a table too many, which repeats its rows."""
    lost_filter: NonNegativeFloat = Field(default=0.0, le=1)
    """Chains with a view that forgets the condition by which it filters an earlier view."""
    execute: NonNegativeFloat = Field(default=0.5, le=1)
    """Proposals that are executed; the others are answered blindly."""
    correct: NonNegativeFloat = Field(default=0.6, le=1)
    """Failing executions that are corrected; the others are answered anyway."""
    verify_execution: NonNegativeFloat = Field(default=0.3, le=1)
    """Executions followed by a verdict."""
    verify_memory: NonNegativeFloat = Field(default=0.15, le=1)
    """Proposals of later turns that are compared with the dialogue's memory."""


class FineTuneConfig(Section):
    """Supervised fine-tuning through verl: loss on the policy's tokens only, a cosine schedule."""

    num_steps: PositiveInt | None = None
    """Optimizer steps; None: what num_epochs come to."""
    num_epochs: PositiveFloat = 2.0
    """How often each trajectory is learned, unless num_steps is given."""
    tree_tokens: PositiveInt | None = Field(default=None, le=8192)
    """Tokens of a row that holds as many whole dialogues of one database as fit: what trajectories
    have in common from their beginning stands in it once, and the loss is that of the trajectories
    apart. On a GPU such rows do without flash attention. None: a row for each trajectory."""
    batch_size: PositiveInt = 32
    """Rows in one optimizer step: trajectories or, with tree_tokens, trees of them."""
    micro_batch_tokens: PositiveInt = 8192
    """Tokens in one forward pass."""
    num_ranks: PositiveInt | None = None
    """Learner processes that share a batch; None: machine.gpus_per_node."""
    learning_rate: PositiveFloat = 1e-3
    """The highest, after the warm-up."""
    warmup_steps: NonNegativeInt = 30
    """Optimizer steps over which the learning rate rises from 0."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's."""
    lora_rank: NonNegativeInt = 0
    """Rank of LoRA adapters; 0: all parameters are learned."""
    lora_alpha: PositiveInt = 32
    """LoRA's scale: an adapter counts lora_alpha / lora_rank."""
    save_every: PositiveInt = 200
    """Optimizer steps between checkpoints, from which a killed run resumes; the validation loss is
    measured at each."""
    max_tokens: PositiveInt = 1024
    """Longer trajectories are left out and counted."""
    validation_share: NonNegativeFloat = Field(default=0.05, lt=1)
    """Of the dialogues: kept out of learning, for the validation loss."""
    num_validation_dialogues: NonNegativeInt = 40
    """Dialogues of the split `valid` that every checkpoint plays; the one with the best EX is kept.
    0: the last one is kept."""


class WarmStartConfig(FineTuneConfig):
    """Supervised fine-tuning on scripted trajectories, before all else."""

    num_steps: PositiveInt | None = 600
    """Optimizer steps; None: what num_epochs come to."""
    validation_share: NonNegativeFloat = Field(default=0.0, lt=1)
    """Of the dialogues: kept out of learning, for the validation loss."""
    num_validation_dialogues: NonNegativeInt = 0
    """Dialogues of the split `valid` that every checkpoint plays; the one with the best EX is kept.
    0: the last one is kept."""
    scripts: ScriptConfig = ScriptConfig()
    """What the scripts do, in shares."""
    trajectories_per_turn: PositiveInt = 2
    """Scripted trajectories for each training turn."""
    turn_share: float = Field(default=1.0, ge=0, le=1)
    """Turns that scripts play, drawn at random; a dialogue's last turn always is. With
    learn_history the others are learned from its prompt, for a third of the tokens."""
    learn_mistakes: bool = True
    """Learn the proposals with which a script goes wrong, too; false: they are shown, and what
    follows them is learned. Where no policy could know better, as in the demo, they are its
    honest guess; a policy that reads makes enough mistakes of its own."""
    learn_history: bool = False
    """Learn the SQL of earlier turns in the prompt of a dialogue's last turn, too (`compact`): for
    few tokens more, another example of each query. It spells values as the database does."""
    corrections_per_turn: NonNegativeInt = 0
    """More trajectories for each turn that invites a wrong value, always looked at and corrected.
    The warm start learns their corrections only: they teach how to correct, not how often to
    look."""


class SelectionConfig(Section):
    """Which right trajectories of an item are learned, by its difficulty."""

    max_short: PositiveInt = 2
    """Kept for an item that is easy, or that every sample solves: the shorter ones."""
    short_up_to: NonNegativeInt = 2
    """Interactions (calls that show a result or the memory) of a short trajectory, at most."""
    short_from: NonNegativeInt = 1
    """The same, at least: 0 prefers answers that were never looked at."""
    max_long: PositiveInt = 3
    """Kept for every other item: the longer ones, one from each cluster."""
    long_from: NonNegativeInt = 2
    """Interactions of a long trajectory, at least."""
    same_from: PositiveFloat = Field(default=0.98, le=1)
    """Cosine similarity from which two trajectories of an item count as the same."""
    embedder: Path | None = None
    """Folder of a sentence-embedding model (Hugging Face); None: features of actions and SQL."""


class SelfTaughtConfig(Section):
    """Rounds of sampling, rejection by difficulty and fine-tuning."""

    rounds: PositiveInt = 3
    """In all; `mtsql selftaught --rounds` adds to them."""
    samples_per_item: PositiveInt = 20
    """Trajectories for each training turn that no earlier round has solved."""
    temperature: PositiveFloat = 0.7
    """Of the sampling."""
    max_items: PositiveInt | None = None
    """Training turns to draw on, the same in every round; None: all."""
    items_per_file: PositiveInt = 32
    """Items whose trajectories are written together; a killed run loses only those in flight."""
    init: Literal["last", "base"] = "last"
    """What each round fine-tunes: the last round's model, or the one that the rounds began with."""
    replay: NonNegativeFloat = 0.0
    """Scripted trajectories of the warm start learned in addition to each kept one. Every round
    draws them again from the right ones that looked, and learns them whole, drills of corrections
    included: a small model forgets what its own trajectories do not show."""
    selection: SelectionConfig = SelectionConfig()
    """Which trajectories are kept."""
    fine_tune: FineTuneConfig = FineTuneConfig()
    """How they are learned."""
