"""A process reward model: steps labelled, two models trained, both judged.

The stages work in RUN/prm (`PRMFolder`) on trajectories that the run has stored.
"""

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.learner import sft
from actors.learner.job import SftJob
from actors.learner.label_rows import LabelRow, write_label_rows
from actors.learner.sft_rows import validation_dialogues
from actors.prm.base import make_base
from actors.prm.scorer import Scorer
from actors.stages.context import StageContext
from mtsql.config.prm import PRMConfig
from mtsql.data.dataset import MANIFEST, load_dataset
from mtsql.errors import DataError
from mtsql.files import write_record
from mtsql.prm.agreement import facts_of
from mtsql.prm.calibration import calibrated
from mtsql.prm.certified import Certifier
from mtsql.prm.evaluation import Scored, evaluate
from mtsql.prm.form import NOTE, FormNote, step_text
from mtsql.prm.groups import group_labels
from mtsql.prm.labels import Labelled
from mtsql.prm.store import LabelledFile, digest_of, read_labels, write_labels
from mtsql.prm.targets import Target, balanced, targets_of
from mtsql.runs.folder import FineTuneFolder, PRMFolder
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryRequest, QueryStatus
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.store import read_trajectories

logger = logging.getLogger(__name__)

HELD_OUT = "held_out"
"""What the evaluation calls those dialogues of train that were not learned."""
GREEDY = "-gold.parquet"
"""Ends the names of files with greedy trajectories that read gold history, one for each turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    attempt: Attempt
    labelled: Labelled
    file: Path
    """Of the trajectory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Examples by what they are for; no dialogue is in two of them."""

    learned: list[Example]
    calibration: list[Example]
    held_out: list[Example]
    """Those of other splits than train, too."""


def prm_of(context: StageContext) -> PRMConfig:
    prm = context.config.prm
    assert prm is not None, "the command has looked"
    return prm


def label_stage(context: StageContext) -> None:
    """Label every file of trajectories that has no labels yet, then count and compare them."""
    folder = PRMFolder(context.run.path)
    files = trajectory_files(context.run.path.parent, prm_of(context))
    asyncio.run(_label(context, folder, files))
    dataset = digest_of(context.config.data_folder / MANIFEST)
    rows = [row for path in _label_files(folder) for row in read_labels(path, dataset=dataset)[1]]
    facts = facts_of(rows)
    write_record(folder.label_facts, facts)
    logger.info("steps labelled", extra={"steps": facts.num_steps, "right": facts.num_right})


def trajectory_files(run: Path, prm: PRMConfig) -> list[Path]:
    """The files that the recipe's patterns match, in order.

    Raises:
        DataError: none does.
    """
    files = sorted({path for pattern in prm.trajectories for path in run.glob(pattern)})
    if not files:
        raise DataError(
            f"{run}: no file matches prm.trajectories={list(prm.trajectories)}: let the run play "
            "first (`mtsql train RECIPE`), or name its files"
        )
    return files


def labels_of(folder: PRMFolder, run: Path, file: Path) -> Path:
    """Where a file's labels lie: `rounds/1/samples/00000.parquet` -> `rounds-1-samples-00000`."""
    return folder.labels / "-".join(file.relative_to(run).parts)


def _label_files(folder: PRMFolder) -> list[Path]:
    files = sorted(folder.labels.glob("*.parquet"))
    if not files:
        raise DataError(f"{folder.labels}: no labels; run `mtsql prm label RECIPE` first")
    return files


async def _label(context: StageContext, folder: PRMFolder, files: Sequence[Path]) -> None:
    config, run = context.config, context.run.path.parent
    missing = [file for file in files if not labels_of(folder, run, file).exists()]
    dataset = load_dataset(config.data_folder)
    fingerprint = digest_of(config.data_folder / MANIFEST)
    async with LocalPool(dataset.databases, **config.sql.pool()) as pool:
        certifier = Certifier(pool, dataset.schemas, config.sql.limits())
        for number, file in enumerate(missing):
            context.report("files labelled", number, len(missing), "files")
            attempts = read_trajectories(file)
            _check(file, attempts, dataset.databases)
            rows = [
                await _with_rules(labelled, attempt, certifier)
                for labelled, attempt in zip(group_labels(attempts), attempts, strict=True)
            ]
            of = LabelledFile(
                trajectories=str(file.absolute()), sha256=digest_of(file), dataset=fingerprint
            )
            write_labels(labels_of(folder, run, file), rows, of)


def _check(file: Path, attempts: Sequence[Attempt], databases: Mapping[str, Path]) -> None:
    for attempt in attempts:
        if attempt.db_id not in databases:
            raise DataError(
                f"{file}: is about database {attempt.db_id!r}, which the recipe's data do not "
                "have: name files of this run in prm.trajectories"
            )
        if attempt.trajectory.steps and not attempt.tokens.step_ends:
            raise DataError(
                f"{file}: {attempt.trajectory.turn_id} has no tokens, and a process reward model "
                "reads tokens: leave the file out of prm.trajectories"
            )


async def _with_rules(labelled: Labelled, attempt: Attempt, certifier: Certifier) -> Labelled:
    if labelled.is_right is None:
        return labelled
    rules = await certifier.labels(attempt)
    steps = tuple(
        step if rule is None else (rule, *step)
        for rule, step in zip(rules, labelled.steps, strict=True)
    )
    return Labelled(is_right=labelled.is_right, steps=steps)


def examples_of(context: StageContext) -> Iterator[Example]:
    """Every judged trajectory that has labels.

    Raises:
        DataError: no labels, damaged ones, or such of other data or trajectories.
    """
    dataset = digest_of(context.config.data_folder / MANIFEST)
    for path in _label_files(PRMFolder(context.run.path)):
        of, rows = read_labels(path, dataset=dataset)
        file = Path(of.trajectories)
        for attempt, labelled in zip(read_trajectories(file), rows, strict=True):
            if labelled.is_right is not None and labelled.steps:
                yield Example(attempt=attempt, labelled=labelled, file=file)


def parted(examples: Sequence[Example], prm: PRMConfig, *, seed: int) -> Parts:
    """Whole dialogues to learn from, to calibrate on and to evaluate on."""
    train = [one for one in examples if one.attempt.label.split == "train"]
    held_out = validation_dialogues(
        (one.attempt.dialogue_id for one in train), prm.held_out_share, seed=seed + 1
    )
    left = [one for one in train if one.attempt.dialogue_id not in held_out]
    kept = validation_dialogues(
        (one.attempt.dialogue_id for one in left), prm.fine_tune.validation_share, seed=seed
    )
    return Parts(
        learned=[one for one in left if one.attempt.dialogue_id not in kept],
        calibration=[one for one in left if one.attempt.dialogue_id in kept],
        held_out=[
            one
            for one in examples
            if one.attempt.label.split != "train" or one.attempt.dialogue_id in held_out
        ],
    )


def train_stage(context: StageContext) -> None:
    """The process reward model, then the outcome verifier: same base, same trajectories."""
    folder, prm = PRMFolder(context.run.path), prm_of(context)
    parts = parted(list(examples_of(context)), prm, seed=context.config.seed)
    for name, own, outcome in (
        ("steps", folder.steps, False),
        ("outcome", folder.outcome, True),
    ):
        if not own.model.exists():
            _train(context, parts, own, name=name, outcome=outcome)
        shutil.rmtree(own.checkpoints, ignore_errors=True)


def _train(
    context: StageContext, parts: Parts, folder: FineTuneFolder, *, name: str, outcome: bool
) -> None:
    config, prm = context.config, prm_of(context)
    fine_tune = prm.fine_tune
    base = folder.path / "base"
    shutil.rmtree(base, ignore_errors=True)
    folder.path.mkdir(parents=True, exist_ok=True)
    note = make_base(
        prm.base or _policy_base(context),
        base,
        digests=prm.digests,
        max_tokens=fine_tune.max_tokens,
        outcome=outcome,
    )
    _write_rows(folder.rows, parts.learned, note, "to learn")
    if parts.calibration:
        _write_rows(folder.validation, parts.calibration, note, "to calibrate on")
    job = SftJob(
        base=base,
        rows=folder.rows,
        validation=folder.validation if parts.calibration else None,
        out=folder.checkpoints,
        labels=(note.form.good, note.form.bad),
        device=context.device,
        fine_tune=fine_tune,
        recipe=config,
    )
    *_, last = sft.train(
        job, progress=lambda text, done, total: context.report(text, done, total, "steps")
    )
    metrics = context.run.metrics(name)
    metrics.write_text("".join(f"{json.dumps(row)}\n" for row in sft.metrics(folder.checkpoints)))
    fitted = _calibrated(last.folder, parts.calibration, context)
    write_record(last.folder / NOTE, fitted)
    # Last: the model's presence says that everything before it is whole.
    last.folder.rename(folder.model)
    shutil.rmtree(base)
    what = {"model": folder.model, "temperature": fitted.temperature, "shift": fitted.shift}
    logger.info("reward model trained", extra=what | {"trajectories": len(parts.learned)})


def _policy_base(context: StageContext) -> Path:
    """What the run's own learning begins from, or has begun with."""
    run = PRMFolder(context.run.path.parent)
    return (
        context.config.model.folder if context.config.warm_start is None else run.warm_start.model
    )


def _write_rows(path: Path, examples: Sequence[Example], note: FormNote, what: str) -> None:
    marked = _marked(examples, note)
    try:
        weights = balanced([targets for _, targets in marked])
    except ValueError as error:
        raise DataError(
            f"{path.parent}: {error} {what}: label more trajectories, of a policy that is "
            "sometimes right and sometimes wrong (prm.trajectories)"
        ) from error
    rows = [
        LabelRow(ids=ids, targets=tuple(targets), weights=tuple(weight))
        for (ids, targets), weight in zip(marked, weights, strict=True)
    ]
    write_label_rows(path, rows, closing=note.form.good)


def _marked(
    examples: Sequence[Example], note: FormNote
) -> list[tuple[tuple[int, ...], list[Target]]]:
    """Texts with their labelled marks; those without any are left out, and what is cut is told."""
    found: list[tuple[tuple[int, ...], list[Target]]] = []
    num_cut = 0
    for one in examples:
        text = step_text(one.attempt.tokens, note.form, max_tokens=note.max_tokens)
        num_cut += text.num_cut
        targets = targets_of(text, one.labelled, outcome=note.scores == "outcome")
        if targets:
            found.append((text.ids, targets))
    if num_cut:
        what = {"steps": num_cut, "max_tokens": note.max_tokens}
        logger.warning("steps cut off: raise prm.fine_tune.max_tokens", extra=what)
    return found


def _calibrated(model: Path, examples: Sequence[Example], context: StageContext) -> FormNote:
    """The model's note with the temperature and shift that fit what it has not learned."""
    scorer = Scorer(model, context.device)
    note = scorer.note
    texts = [scorer.text(one.attempt.tokens) for one in examples]
    margins: list[float] = []
    targets: list[Target] = []
    for text, row, one in zip(texts, scorer.margins(texts), examples, strict=True):
        at = dict(zip(text.positions, row, strict=True))
        for target in targets_of(text, one.labelled, outcome=note.scores == "outcome"):
            margin = at[target.position]
            assert margin is not None
            margins.append(margin)
            targets.append(target)
    temperature, shift = calibrated(
        margins, [target.value for target in targets], [target.weight for target in targets]
    )
    return note.model_copy(update={"temperature": temperature, "shift": shift})


def evaluate_stage(context: StageContext) -> None:
    """Score what was not learned, and write prm.json."""
    folder, prm, config = PRMFolder(context.run.path), prm_of(context), context.config
    examples = list(examples_of(context))
    held_out = parted(examples, prm, seed=config.seed).held_out
    if not held_out:
        raise DataError(
            f"{folder.path}: every labelled trajectory was learned: set prm.held_out_share, or "
            "label trajectories of a test split"
        )
    tokens = [one.attempt.tokens for one in held_out]

    def scored_by(own: FineTuneFolder, text: str) -> list[list[float | None]]:
        return Scorer(own.model, context.device).scores(
            tokens, progress=lambda done: context.report(text, done, len(tokens), "trajectories")
        )

    steps = scored_by(folder.steps, "scored by steps")
    outcomes = scored_by(folder.outcome, "scored by outcome")
    answers = asyncio.run(_answers(context, [one.attempt for one in held_out]))
    scored = [
        Scored(
            group=one.attempt.group,
            turn_id=one.attempt.trajectory.turn_id,
            dialogue_id=one.attempt.dialogue_id,
            split=HELD_OUT if one.attempt.label.split == "train" else one.attempt.label.split,
            dialect=config.environment.dialect,
            hardness=one.attempt.hardness,
            labelled=one.labelled,
            scores=tuple(by_steps),
            outcome_score=by_outcome[-1] if by_outcome else None,
            answer=answer,
        )
        for one, by_steps, by_outcome, answer in zip(
            held_out, steps, outcomes, answers, strict=True
        )
    ]
    greedy = {
        (one.attempt.label.split, one.attempt.trajectory.turn_id): one.labelled.is_right is True
        for one in held_out
        if one.file.name.endswith(GREEDY)
    }
    found = evaluate(scored, aggregation=prm.aggregation, digests=prm.digests, greedy=greedy)
    write_record(folder.figures, found)
    logger.info("reward models judged", extra={"step_auc": found.step_auc, "ece": found.ece})


async def _answers(context: StageContext, attempts: Sequence[Attempt]) -> list[str | None]:
    """By each answer's result, for the vote; None: no answer, or one that does not run."""
    config = context.config
    dataset = load_dataset(config.data_folder)
    limits = config.sql.limits()
    asked = {
        (attempt.db_id, attempt.trajectory.statements[-1])
        for attempt in attempts
        if attempt.trajectory.statements
    }
    order = sorted(asked)
    async with LocalPool(dataset.databases, **config.sql.pool()) as pool:
        results = await pool.execute_many(
            [QueryRequest(db_id=db_id, sql=sql, limits=limits) for db_id, sql in order]
        )
    told = {
        key: repr(sorted(map(repr, result.rows))) if result.status is QueryStatus.OK else None
        for key, result in zip(order, results, strict=True)
    }
    return [
        told[attempt.db_id, attempt.trajectory.statements[-1]]
        if attempt.trajectory.statements
        else None
        for attempt in attempts
    ]
