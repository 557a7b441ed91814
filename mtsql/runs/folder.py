"""A run's folder: every path in it once, and its records read and written through their types.

RUN/run.json                        recipe, device and prompt of the run
RUN/stages/STAGE.json, STAGE.error  what a stage that ended took; why one failed
RUN/logs/mtsql.jsonl, STAGE.log     what we log; what a stage and its libraries print
RUN/golds.json                      what the golds of train are worth; the turns left out
RUN/progress.jsonl                  how far the stage is that runs now
RUN/metrics/NAME.jsonl              a line for each optimizer step: warm_start, round_N, rl
RUN/evaluation/POLICY-HISTORY.json  scores and every turn's verdict
RUN/trajectories/*.parquet          what was played: POLICY-HISTORY, rl-step-N
RUN/warm_start/, RUN/rounds/N/      a fine-tuning: rows, checkpoints, model (`FineTuneFolder`)
RUN/rl/                             rows, checkpoints, model
RUN/prm/                            a process reward model (`PRMFolder`)
RUN/summary.json, report.html       the figures, and the page made of them
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from mtsql.errors import DataError
from mtsql.files import read_record, write_record
from mtsql.mistakes.kinds import ScriptFacts
from mtsql.runs.records import Evaluation, Failure, GoldNote, RunNote, StageEnd, Summary
from mtsql.runs.stages import policy_order, round_of_policy, round_policy
from mtsql.selftaught.records import Selection, read_selection

EVALUATE_AGAIN = "evaluate the run again"
NOTE = "run.json"
SCRIPTED = "scripted.parquet"
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class FineTuneFolder:
    """Where one supervised fine-tuning keeps its files: the warm start's, or a round's."""

    path: Path

    @property
    def rows(self) -> Path:
        """What is learned: token ids and loss masks."""
        return self.path / "rows.parquet"

    @property
    def validation(self) -> Path:
        """The rows kept out of learning; not there without a validation share."""
        return self.path / "validation.parquet"

    @property
    def facts(self) -> Path:
        """What the rows are made of, in numbers."""
        return self.path / "facts.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints; removed once one of them is the model."""
        return self.path / "checkpoints"

    @property
    def checkpoints_note(self) -> Path:
        """Every checkpoint's loss and EX, and which was chosen."""
        return self.path / "checkpoints.json"

    @property
    def model(self) -> Path:
        """The published Hugging Face folder."""
        return self.path / "model"


@dataclass(frozen=True, slots=True)
class WarmStartFolder(FineTuneFolder):
    @property
    def scripted(self) -> Path:
        """The scripted trajectories."""
        return self.path / SCRIPTED

    @property
    def base(self) -> Path:
        """The model that the run makes to start from: a tiny one with random weights, or a copy of
        model.path with the wire's tokens."""
        return self.path / "base"

    @property
    def base_note(self) -> Path:
        """Names the Hugging Face folder to start from; the last file of the preparation."""
        return self.path / "base.txt"


@dataclass(frozen=True, slots=True)
class RoundFolder(FineTuneFolder):
    @property
    def samples(self) -> Path:
        """Folder of every trajectory that was sampled, in Parquet files."""
        return self.path / "samples"

    @property
    def selection(self) -> Path:
        """What was kept of them and why."""
        return self.path / "selection.json"

    @property
    def selected(self) -> Path:
        """The trajectories that were kept."""
        return self.path / "selected.parquet"

    def read_selection(self) -> Selection:
        """
        Raises:
            DataError: no selection, or not what a round writes.
        """
        return read_selection(self.selection)


@dataclass(frozen=True, slots=True)
class RLFolder:
    path: Path

    @property
    def rows(self) -> Path:
        """One row for each training turn."""
        return self.path / "rows.parquet"

    @property
    def agent_loops(self) -> Path:
        """Names our agent loop to the trainer."""
        return self.path / "agent_loops.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path

    @property
    def note(self) -> Path:
        return self.path / NOTE

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def golds(self) -> Path:
        return self.path / "golds.json"

    def read_golds(self) -> GoldNote | None:
        """What the data stage found out about the golds of train; None before it.

        Raises:
            DataError: the file is not what the stage writes.
        """
        return _read(self.golds, GoldNote, fix="run again with --restart")

    @property
    def progress(self) -> Path:
        """One JSON object a line, from the stage that runs now."""
        return self.path / "progress.jsonl"

    @property
    def stages(self) -> Path:
        return self.path / "stages"

    def stage_end(self, stage: str) -> Path:
        """There once the stage has ended well."""
        return self.stages / f"{stage}.json"

    def stage_error(self, stage: str) -> Path:
        """There once the stage has failed."""
        return self.stages / f"{stage}.error"

    def read_failure(self, stage: str) -> Failure | None:
        """Why a stage has failed; None if it has not, or died without a word.

        Raises:
            DataError: the file is not what a stage writes.
        """
        return _read(self.stage_error(stage), Failure, fix="remove it and run again")

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def stage_log(self, stage: str) -> Path:
        """All that a stage's processes print, our libraries' noise included."""
        return self.logs / f"{stage}.log"

    @property
    def log(self) -> Path:
        """What our own code logs, one JSON object a line."""
        return self.logs / "mtsql.jsonl"

    @property
    def metrics_folder(self) -> Path:
        return self.path / "metrics"

    def metrics(self, policy: str) -> Path:
        """One JSON object for each optimizer step on the way to `warm_start`, `round_N`, `rl`."""
        return self.metrics_folder / f"{policy}.jsonl"

    @property
    def trajectories(self) -> Path:
        return self.path / "trajectories"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def warm_start(self) -> WarmStartFolder:
        return WarmStartFolder(self.path / "warm_start")

    @property
    def rounds(self) -> Path:
        return self.path / "rounds"

    def round(self, number: int) -> RoundFolder:
        """Of a self-taught round, from 1."""
        return RoundFolder(self.rounds / str(number))

    @property
    def rl(self) -> RLFolder:
        return RLFolder(self.path / "rl")

    def model(self, policy: str) -> Path:
        """Where the run keeps the model of `warm_start`, `round_N` or `rl`."""
        number = round_of_policy(policy)
        return (self.path / policy if number is None else self.round(number).path) / "model"

    @property
    def is_run(self) -> bool:
        return self.note.is_file()

    def make(self) -> None:
        """Make the folders that every run has."""
        for folder in (
            self.stages,
            self.logs,
            self.metrics_folder,
            self.trajectories,
            self.evaluation,
        ):
            folder.mkdir(parents=True, exist_ok=True)

    def read_note(self, *, fix: str = "run again with the mtsql that made the run") -> RunNote:
        """What the run is.

        Raises:
            DataError: the folder holds no run, or the note is not what a run writes.
        """
        if not self.is_run:
            raise DataError(f"{self.path}: holds no run ({NOTE}); name a run's folder")
        return read_record(self.note, RunNote, fix=fix)

    def read_summary(self) -> Summary | None:
        """The headline figures; None before the run has written them.

        Raises:
            DataError: the file is not what a run writes.
        """
        return _read(self.summary, Summary, fix=EVALUATE_AGAIN)

    def read_evaluation(self, policy: str, history: str) -> Evaluation | None:
        """Scores of one policy under one kind of history; None before they are written.

        Raises:
            DataError: the file is not what a run writes.
        """
        path = self.evaluation / evaluation_name(policy, history)
        return _read(path, Evaluation, fix=EVALUATE_AGAIN)

    def read_evaluations(self) -> list[Evaluation]:
        """All evaluations, gold history first, policies in the order of the run.

        Raises:
            DataError: one is not what a run writes.
        """
        paths = sorted(self.evaluation.glob("*.json"))
        found = [read_record(path, Evaluation, fix=EVALUATE_AGAIN) for path in paths]
        return sorted(found, key=lambda one: (one.history, policy_order(one.policy)))

    def read_script_facts(self) -> ScriptFacts:
        """What the scripted trajectories hold; empty where that was not written.

        Raises:
            DataError: the file is not what a run writes.
        """
        facts = _read(self.warm_start.facts, ScriptFacts, fix="prepare the warm start again")
        return facts if facts is not None else ScriptFacts()

    def read_stage_ends(self) -> dict[str, StageEnd]:
        """By the stages' names, in the order in which they ended.

        Raises:
            DataError: a file is not what a run writes.
        """
        done = sorted(self.stages.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return {
            path.stem: read_record(path, StageEnd, fix="remove it and run again") for path in done
        }

    def last_round(self) -> int:
        """The newest round with a model; 0 before the first one."""
        numbers = [int(path.parent.name) for path in self.rounds.glob("*/model")]
        return max(numbers, default=0)

    def newest_model(self, up_to: int) -> Path | None:
        """Of the self-taught rounds up to `up_to`; None if none of them has made one."""
        for number in range(up_to, 0, -1):
            model = self.model(round_policy(number))
            if model.exists():
                return model
        return None


@dataclass(frozen=True, slots=True)
class PRMFolder(RunFolder):
    """RUN/prm: like a run's folder, with its own recipe and stages, so that it can be made anew."""

    @property
    def labels(self) -> Path:
        """Folder of the labels, a file for each file of trajectories."""
        return self.path / "labels"

    @property
    def label_facts(self) -> Path:
        """What the labels are, in numbers, and how their sources agree."""
        return self.path / "labels.json"

    @property
    def steps(self) -> FineTuneFolder:
        """The process reward model's own fine-tuning."""
        return FineTuneFolder(self.path / "steps")

    @property
    def outcome(self) -> FineTuneFolder:
        """The outcome verifier's."""
        return FineTuneFolder(self.path / "outcome")

    @property
    def figures(self) -> Path:
        """What both are worth on dialogues that they have not learned."""
        return self.path / "prm.json"


def _read(path: Path, model: type[Model], *, fix: str) -> Model | None:
    return read_record(path, model, fix=fix) if path.is_file() else None


def evaluation_name(policy: str, history: str) -> str:
    return f"{policy}-{history}.json"


def played_name(policy: str, history: str) -> str:
    """Of the Parquet file with the trajectories behind an evaluation."""
    return f"{policy}-{history}.parquet"


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write the scores of one policy under one kind of history; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_record(folder / evaluation_name(evaluation.policy, evaluation.history), evaluation)


def sources(source: Path) -> tuple[RunFolder, list[Path]]:
    """The run and the Parquet files that are meant: those selected for learning, or scripted.

    Args:
        source: a run's folder, or one Parquet file in it.

    Raises:
        DataError: no run, or nothing in it that was selected or scripted.
    """
    if source.is_file():
        for folder in source.absolute().parents:
            if RunFolder(folder).is_run:
                return RunFolder(folder), [source]
        raise DataError(
            f"{source}: lies in no run's folder (no {NOTE} above it), and the run says what its "
            "prompts were; leave the file where the run wrote it"
        )
    run = RunFolder(source)
    if not run.is_run:
        raise DataError(f"{source}: holds no run ({NOTE}); name a run's folder or a file in one")
    numbers = sorted(int(path.name) for path in run.rounds.glob("*") if path.name.isdigit())
    selected = [path for number in numbers if (path := run.round(number).selected).is_file()]
    if not selected and not run.warm_start.scripted.is_file():
        raise DataError(
            f"{source}: neither rounds/*/selected.parquet nor warm_start/{SCRIPTED} is "
            "there; let the run get that far, or name a file of RUN_DIR/trajectories"
        )
    return run, selected or [run.warm_start.scripted]
