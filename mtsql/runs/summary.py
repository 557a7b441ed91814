"""A run in numbers: `summary.json`, read by people, the report and other programs."""

import logging
from collections.abc import Sequence

from mtsql.config.environment import HistoryMode
from mtsql.evaluation.scores import ScoredTurn, Scores, paired_gain
from mtsql.files import write_record
from mtsql.runs.folder import RunFolder
from mtsql.runs.metrics import number_at, read_rows
from mtsql.runs.records import (
    BandScore,
    Evaluation,
    Figures,
    GoldNote,
    GoldSummary,
    Headline,
    PolicyScores,
    RoundScores,
    RoundSummary,
    SplitGain,
    Summary,
    SummaryGain,
)
from mtsql.runs.rounds import rounds_of
from mtsql.runs.stages import round_policy

logger = logging.getLogger(__name__)


def write_summary(run: RunFolder) -> Summary:
    """Write `summary.json` and return what it holds.

    Raises:
        DataError: a file of the run is not what a run writes.
    """
    summary = summarise_run(run)
    write_record(run.summary, summary)
    logger.info("summary written", extra={"summary": run.summary, "turns": summary.turns})
    return summary


def summarise_run(run: RunFolder) -> Summary:
    """What a run's folder says, whole or in part.

    Raises:
        DataError: a file of the run is not what a run writes.
    """
    note = run.read_note()
    num_samples = note.recipe.evaluation.num_bootstrap
    judged = run.read_evaluation("rl", "gold") or run.read_evaluation("warm_start", "gold")
    gold = _headline(run, "gold", num_samples)
    predicted = _headline(run, "predicted", num_samples)
    is_predicted = predicted.warm_start is not None or predicted.rl is not None
    steps = read_rows(run.metrics("rl"))
    differences = [
        value for step in steps if (value := number_at(step, "logprob_diff")) is not None
    ]
    golds = run.read_golds()
    return Summary(
        name=note.recipe.name,
        seed=note.recipe.seed,
        device=note.device,
        wall_s={name: end.wall_s for name, end in run.read_stage_ends().items()},
        golds=None if golds is None else gold_summary(golds),
        warm_start=gold.warm_start,
        rl=gold.rl,
        gain=gold.gain,
        turns=judged.all.num_turns if judged is not None else 0,
        predicted=predicted if is_predicted else None,
        rounds=tuple(_rounds(run, num_samples)),
        # A resumed run plays the steps after its last checkpoint again.
        rl_steps=len({number_at(step, "step") for step in steps}) if steps else None,
        logprob_diff=differences[0] if differences else None,
        num_dropped=sum(number_at(step, "num_dropped") or 0.0 for step in steps) if steps else None,
    )


def gold_summary(note: GoldNote) -> GoldSummary:
    return GoldSummary(
        **note.counts.model_dump(), num_turns=note.num_turns, left_out=note.num_left_out
    )


def gold_line(golds: GoldSummary) -> str:
    """One line for the terminal and the log, or "" where every gold is a good measure.

    Example: golds of 8,000 training turns: 257 empty, 20 wrong against themselves; 20 turns left
    out (gold_wrong 20)
    """
    words = {
        "do not run": golds.num_fails,
        "beyond sql.max_rows": golds.num_cut,
        "that EM cannot read": golds.num_unread,
        "wrong against themselves": golds.num_wrong,
        "empty": golds.num_empty,
        "with a LIMIT that cuts a tie": golds.num_cut_ties,
    }
    found = ", ".join(f"{number} {text}" for text, number in words.items() if number)
    if not found and not golds.left_out:
        return ""
    line = f"golds of {golds.num_turns} training turns: {found or 'all good'}"
    if golds.left_out:
        kinds = ", ".join(f"{kind} {number}" for kind, number in golds.left_out.items())
        line += f"; {sum(golds.left_out.values())} turns left out of training ({kinds})"
    return line


def _headline(run: RunFolder, history: HistoryMode, num_samples: int) -> Headline:
    before = run.read_evaluation("warm_start", history)
    after = run.read_evaluation("rl", history)
    return Headline(
        warm_start=None if before is None else _scores(before),
        rl=None if after is None else _scores(after),
        gain=_gain(before, after, num_samples),
    )


def _rounds(run: RunFolder, num_samples: int) -> list[RoundSummary]:
    """The self-taught rounds: sampling and selection, and each round's policy on held-out turns."""

    def scores(number: int, history: HistoryMode) -> RoundScores | None:
        evaluation = run.read_evaluation(round_policy(number), history)
        if evaluation is None:
            return None
        return RoundScores(
            **dict(_scores(evaluation)),
            gain=_gain(run.read_evaluation("warm_start", history), evaluation, num_samples),
            mended=evaluation.abilities.get("mended"),
        )

    return [
        RoundSummary(
            **dict(progress),
            gold=scores(progress.round, "gold"),
            predicted=scores(progress.round, "predicted"),
        )
        for progress in rounds_of(run)
    ]


def _scores(evaluation: Evaluation) -> PolicyScores:
    splits = {name: _figures(scores) for name, scores in evaluation.splits.items()}
    by_seen = {
        band: BandScore(ex=share.share, turns=share.num_judged)
        for band, share in evaluation.all.ex.by_seen.items()
    }
    return PolicyScores(**dict(_figures(evaluation.all)), splits=splits, by_seen=by_seen)


def _figures(scores: Scores) -> Figures:
    return Figures(
        ex=scores.ex.question_match.share,
        em=scores.em.question_match.share,
        qm=scores.ex.question_match.share,
        im=scores.ex.interaction_match.share,
        im_em=scores.em.interaction_match.share,
    )


def _gain(
    before: Evaluation | None, after: Evaluation | None, num_samples: int
) -> SummaryGain | None:
    """EX of `after` minus EX of `before`, over all turns and by split; None: nothing to compare."""
    if before is None or after is None:
        return None
    whole = _split_gain(before.turns, after.turns, num_samples)
    if whole is None:
        return None
    names = dict.fromkeys(turn.split for turn in before.turns)

    def of_split(name: str) -> SplitGain | None:
        old, new = (
            [turn for turn in evaluation.turns if turn.split == name]
            for evaluation in (before, after)
        )
        return _split_gain(old, new, num_samples)

    return SummaryGain(**dict(whole), splits={name: of_split(name) for name in names})


def _split_gain(
    old: Sequence[ScoredTurn], new: Sequence[ScoredTurn], num_samples: int
) -> SplitGain | None:
    if not all(any(turn.ex is not None for turn in turns) for turns in (old, new)):
        return None
    gain = paired_gain(old, new, metric="ex", num_samples=num_samples)
    return SplitGain(ex=gain.gain, ci95=gain.ci95, turns=gain.num_turns)
