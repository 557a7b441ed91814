"""What a run's folder holds, as records: each file is written and read through its type."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mtsql.config.environment import HistoryMode
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.data.golds import GoldCounts
from mtsql.evaluation.scores import ScoredTurn, Scores
from mtsql.mistakes.kinds import ScriptFacts
from mtsql.selftaught.records import Behaviour, Coverage, Funnel


class _Record(BaseModel):
    """Keys that a newer version writes are no mistake."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: Sequence[object] | Mapping[str, object]) -> bool:
    return not value


class EvaluateRequest(_Record):
    """What `mtsql eval` asks for: any model with the recipe's data."""

    model: Path
    """Hugging Face folder."""
    policy: str
    """Label of the model in files and reports."""
    out: Path
    """Folder for scores and trajectories."""


class RunNote(_Record):
    """run.json: what a run is."""

    recipe: RunConfig
    device: Device
    prompt: str
    """Version of the prompt: it is part of the policy, and its file may change under a recipe that
    stays."""
    evaluate: EvaluateRequest | None = Field(default=None, exclude_if=_is_none)


class StageEnd(_Record):
    """stages/STAGE.json: a stage has ended well."""

    wall_s: float


FailureKind = Literal["user", "machine", "refusal", "killed", "fault"]
"""`user`: recipe, data or model hold a mistake. `machine`: it lacks disk space, a port, a package.
`refusal`: our code or a library refuses what it was given (a ValueError and the like). `killed`: a
signal ended the process. `fault`: all else, such as a lost connection or a process that died."""


class Failure(_Record):
    """stages/STAGE.error: why a stage has failed."""

    kind: FailureKind
    reason: str
    """One line; for the kinds user and machine it says what to do."""
    place: str | None = None
    """Innermost frame in our own code, e.g. `actors/learner/rl.py:101 (train)`."""
    actor: str | None = None
    """Rank or Ray actor, if it was not the stage's own process."""
    resumable: bool
    """Whether the same command may go on; otherwise it would meet the same again."""
    change: str | None = None
    """What to change, where more is known than the reason says."""


class RowFacts(_Record):
    """rounds/N/facts.json: what a fine-tuning learns."""

    num_rows: int
    """Of the file to learn from; each holds one trajectory or, with tree_tokens, several."""
    num_trajectories: int
    """To learn from."""
    num_validation: int
    """Trajectories kept out of learning."""
    num_too_long: int
    """Left out, beyond max_tokens."""
    num_row_tokens: int
    """Tokens of the rows to learn from: what one epoch computes."""
    num_learned_tokens: int
    """Those of them that the loss is on."""


class WarmStartFacts(ScriptFacts, frozen=True, use_attribute_docstrings=True):
    """warm_start/facts.json: what the warm start learns."""

    num_trajectories: int
    """Those kept for validation included."""
    num_validation: int
    num_rows: int
    """Of the file to learn from; each holds one trajectory or, with tree_tokens, several."""
    num_row_tokens: int
    """Tokens of the rows to learn from: what one epoch computes."""
    num_learned_tokens: int
    """Those of them that the loss is on."""
    num_drills: int
    """Trajectories of which the corrections only are learned."""
    num_too_long: int
    mean_tokens: float
    mean_prompt_tokens: float
    mean_steps: float
    vocab: int
    """Tokens that the tokenizer knows."""


class CheckpointScore(_Record):
    """What one checkpoint of a fine-tuning achieves."""

    step: int
    val_loss: float | None
    ex: float | None
    """None: not played, or nothing was judged."""
    num_right: int | None
    num_judged: int | None
    """Turns of validation dialogues, without faults of the machinery; None: not played."""


class CheckpointNote(_Record):
    """checkpoints.json of a fine-tuning."""

    checkpoints: tuple[CheckpointScore, ...]
    chosen: int | None
    """Step of the one that became the model; None: not yet decided."""


class Evaluation(_Record):
    """One file of RUN/evaluation: a policy on the held-out turns."""

    policy: str
    """warm_start, round_N, rl, or the label that `mtsql eval --policy` was given."""
    history: HistoryMode
    decoding: Literal["greedy"] = "greedy"
    elapsed_s: float
    sampled_tokens: int
    splits: Mapping[str, Scores]
    all: Scores
    abilities: Mapping[str, float]
    """Shares over the trajectories; see `ability_metrics`."""
    turns: tuple[ScoredTurn, ...]


class Figures(_Record):
    """Shares (0..1) of held-out turns; None: nothing was judged."""

    ex: float | None
    em: float | None
    qm: float | None
    """Question match under EX."""
    im: float | None
    """Interaction match under EX."""
    im_em: float | None
    """Interaction match under EM."""


class BandScore(_Record):
    """Turns of one kind."""

    ex: float | None
    """None: nothing was judged."""
    turns: int
    """Judged."""


class PolicyScores(Figures):
    """Over all held-out turns, and by split."""

    splits: Mapping[str, Figures]
    by_seen: Mapping[str, BandScore] = Field(default={}, exclude_if=_is_empty)
    """By the share of gold's tables and columns that golds of train use, too: `none`, `below half`,
    `half or more`, `all`. What is high where all are seen and low where none is was learned by
    heart."""


class SplitGain(_Record):
    """New minus base in EX, over the same turns."""

    ex: float
    ci95: tuple[float, float] | None
    """None: fewer than two dialogues."""
    turns: int
    """Judged in both."""


class SummaryGain(SplitGain):
    splits: Mapping[str, SplitGain | None]
    """None: nothing is judged."""


class Headline(_Record):
    """Both policies under one kind of history."""

    warm_start: PolicyScores | None = Field(default=None, exclude_if=_is_none)
    rl: PolicyScores | None = Field(default=None, exclude_if=_is_none)
    gain: SummaryGain | None = Field(default=None, exclude_if=_is_none)
    """RL minus warm start, over the same turns."""


class RoundScores(PolicyScores):
    """A self-taught round's policy on the held-out turns."""

    gain: SummaryGain | None = None
    """Round minus warm start, over the same turns; None: nothing is judged."""
    mended: float | None = None
    """Turns whose first proposal is wrong and whose answer is right."""


class RoundProgress(_Record):
    """One round's sampling and selection; coverage counts all rounds up to this one."""

    round: int
    coverage: Coverage
    """Items with a right trajectory in this or an earlier round, of all items of the first one."""
    coverage_by_hardness: dict[str, Coverage]
    num_sampled_items: int
    """Unsolved before this round."""
    funnel: Funnel
    scored: Behaviour
    """All scored samples of the round."""
    kept: Behaviour
    num_learned: int
    """Trajectories kept in this and the earlier rounds: the training set."""


class RoundSummary(RoundProgress):
    """A self-taught round: sampling, selection and, by history, scores."""

    gold: RoundScores | None = Field(default=None, exclude_if=_is_none)
    predicted: RoundScores | None = Field(default=None, exclude_if=_is_none)


class GoldNote(_Record):
    """golds.json: the golds of train under the run's own reward and limits."""

    num_turns: int
    counts: GoldCounts
    left_out: Mapping[str, str] = {}
    """Turns that no answer could earn the reward of, or that the recipe excludes, by turn_id: the
    kind of the reason. Training leaves them out."""

    @property
    def num_left_out(self) -> dict[str, int]:
        """By kind, the most frequent first."""
        return dict(Counter(self.left_out.values()).most_common())


class GoldSummary(GoldCounts, frozen=True, use_attribute_docstrings=True):
    """Of the turns of train."""

    num_turns: int
    left_out: Mapping[str, int]
    """Turns that training leaves out, by the kind of the reason."""


class Summary(Headline):
    """summary.json; the figures at the top are greedy decoding with gold history on every held-out
    turn."""

    name: str
    seed: int
    device: str
    wall_s: dict[str, float]
    """Seconds of each stage, in the order in which they ended."""
    golds: GoldSummary | None = Field(default=None, exclude_if=_is_none)
    """What the golds of train are worth; None: not looked at."""
    turns: int = 0
    """Held out; 0 before the first evaluation."""
    predicted: Headline | None = Field(default=None, exclude_if=_is_none)
    """The same with predicted history."""
    rounds: tuple[RoundSummary, ...] = Field(default=(), exclude_if=_is_empty)
    rl_steps: int | None = Field(default=None, exclude_if=_is_none)
    logprob_diff: float | None = Field(default=None, exclude_if=_is_none)
    """Mean difference of log-probabilities between rollout and learner on the first RL step."""
    num_dropped: float | None = Field(default=None, exclude_if=_is_none)
    """Trajectories of RL that faults of the machinery cost."""
