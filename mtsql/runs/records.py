"""What a run's folder holds, read back: summary, scores and metrics.

Each file is checked as it is read; a broken one is named with the fix.
"""

from pathlib import Path

from pydantic import BaseModel

from mtsql.evaluation.scores import Scores
from mtsql.files import read_record
from mtsql.mistakes.kinds import ScriptFacts
from mtsql.runs.rounds import RoundProgress
from mtsql.runs.stages import policy_order

AGAIN = "evaluate the run again"


class PolicyScores(BaseModel, frozen=True, use_attribute_docstrings=True):
    """Shares (0..1) over all held-out turns; None: nothing was judged."""

    ex: float | None
    em: float | None
    qm: float | None
    """Question match under EX."""
    im: float | None
    """Interaction match under EX."""


class SummaryGain(BaseModel, frozen=True, use_attribute_docstrings=True):
    ex: float
    ci95: tuple[float, float] | None
    """None: fewer than two dialogues."""


class Headline(BaseModel, frozen=True, use_attribute_docstrings=True):
    """Both policies under one kind of history."""

    warm_start: PolicyScores | None = None
    rl: PolicyScores | None = None
    gain: SummaryGain | None = None
    """RL minus warm start, over the same turns."""


class RoundScores(PolicyScores, frozen=True, use_attribute_docstrings=True):
    """A self-taught round's policy on the held-out turns."""

    gain: SummaryGain | None = None
    """Round minus warm start, over the same turns."""
    mended: float | None = None
    """Turns whose first proposal is wrong and whose answer is right."""


class RoundSummary(RoundProgress, frozen=True, extra="ignore"):
    """A self-taught round: sampling, selection and, by history, scores."""

    gold: RoundScores | None = None
    predicted: RoundScores | None = None


class Summary(Headline, frozen=True, use_attribute_docstrings=True):
    """What the report reads of summary.json; the figures at the top have gold history."""

    predicted: Headline | None = None
    """The same with predicted history."""
    rounds: tuple[RoundSummary, ...] = ()
    turns: int = 0
    seed: int
    wall_s: dict[str, float]
    """Seconds of each stage."""


class Evaluation(BaseModel, frozen=True, use_attribute_docstrings=True):
    """One file of RUN/evaluation."""

    policy: str
    """warm_start, round_N, rl, or the label that `mtsql eval --policy` was given."""
    history: str
    splits: dict[str, Scores]


def read_evaluations(run_folder: Path) -> list[Evaluation]:
    """All files of RUN/evaluation, gold history first, policies in the order of the run.

    Raises:
        DataError: one is not what a run writes.
    """
    paths = sorted((run_folder / "evaluation").glob("*.json"))
    found = [read_record(path, Evaluation, fix=AGAIN) for path in paths]
    return sorted(found, key=lambda one: (one.history, policy_order(one.policy)))


def read_summary(run_folder: Path) -> Summary | None:
    """The headline figures; None before the run has written them.

    Raises:
        DataError: the file is not what a run writes.
    """
    path = run_folder / "summary.json"
    return read_record(path, Summary, fix=AGAIN) if path.is_file() else None


def read_script_facts(run_folder: Path) -> ScriptFacts:
    """What the warm start's scripted trajectories hold; empty where that was not written.

    Raises:
        DataError: the file is not what a run writes.
    """
    path = run_folder / "warm_start" / "facts.json"
    if not path.is_file():
        return ScriptFacts()
    return read_record(path, ScriptFacts, fix="prepare the warm start again")
