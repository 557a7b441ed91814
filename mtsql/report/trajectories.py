"""Trajectories in a report: what was said and replied, corrections that mend the answer first."""

from collections.abc import Sequence
from html import escape

from mtsql.dialogue import band_of
from mtsql.evaluation.records import Judgement
from mtsql.report.html import missing, section
from mtsql.runs.folder import RunFolder, played_name
from mtsql.runs.stages import round_policy
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.records import Step
from mtsql.trajectory.store import read_trajectories

EXAMPLES = (12, 4, 4)
"""Trajectories shown: a correction mends the answer, it does not, there is none."""


def newest_played(run: RunFolder) -> tuple[str, list[Attempt]] | None:
    """Pattern and content of the Parquet files that show the run's newest policy; None: no file."""
    rounds = [round_policy(number) for number in range(run.last_round(), 0, -1)]
    patterns = (
        played_name("rl", "gold"),
        played_name("rl", "predicted"),
        *(played_name(policy, "gold") for policy in rounds),
        played_name("warm_start", "*"),
        "*.parquet",
    )
    for pattern in patterns:
        if any(run.trajectories.glob(pattern)):
            return pattern, read_trajectories(run.trajectories / pattern)
    return None


def example_section(newest: tuple[str, Sequence[Attempt]] | None) -> str:
    """One turn as it was played, so that a reader sees first what all the figures are about."""
    if newest is None or not newest[1]:
        return ""
    # Right by EM, too, so that it is not luck, and short.
    best = min(newest[1], key=lambda one: (_rank(one), *_lacks(one), len(one.trajectory.steps)))
    return section("One turn, as the newest policy plays it", _trajectory(best, is_open=True))


def trajectories_section(newest: tuple[str, Sequence[Attempt]] | None) -> str:
    if newest is None:
        return missing("Trajectories", "trajectories/*.parquet")
    pattern, played = newest
    ranked = [[one for one in played if _rank(one) == rank] for rank in range(len(EXAMPLES))]
    shown = [one for few, limit in zip(ranked, EXAMPLES, strict=True) for one in few[:limit]]
    note = (
        f"{len(shown)} of {len(played)} in {pattern}. In all, a correction mends the answer of "
        f"{len(ranked[0])}, does not mend that of {len(ranked[1])}, and {len(ranked[2])} have none."
    )
    parts = [_trajectory(one) for one in shown]
    return section("Trajectories", f'<p class="note">{escape(note)}</p>', *parts)


def _rank(stored: Attempt) -> int:
    trajectory, first = stored.trajectory, stored.trajectory.first_answer
    if not trajectory.is_corrected or first is None:
        return 2
    judgements = trajectory.judgements
    is_mended = bool(judgements) and judgements[first].ex is False and judgements[-1].ex is True
    return 0 if is_mended else 1


def _lacks(stored: Attempt) -> tuple[bool, bool]:
    """Whether the answer is not right under EX, under EM."""
    judgements = stored.trajectory.judgements
    return (True, True) if not judgements else (not judgements[-1].ex, not judgements[-1].em)


def _trajectory(stored: Attempt, *, is_open: bool = False) -> str:
    trajectory = stored.trajectory
    final = trajectory.judgements[-1] if trajectory.judgements else None
    label = stored.label
    facts = (
        f"{stored.db_id}, {label.split}, {band_of(stored.hardness)}, {label.history_mode} history"
    )
    reward = "unscored" if stored.reward is None else f"reward {stored.reward.total:.2f}"
    ending = f"{trajectory.ending}, {reward}"
    if trajectory.fault is not None:
        ending += f": {trajectory.fault.kind}, {trajectory.fault.message}"
    return "\n".join(
        [
            "<details open>" if is_open else "<details>",
            f"<summary>{_verdict(final)} {escape(stored.question)}</summary>",
            f'<p class="note">{escape(trajectory.turn_id)}: {escape(facts)}</p>',
            f"<p>gold</p><pre>{escape(stored.gold_sql)}</pre>",
            *(
                f"<p>proposal {number}: {_verdict(judgement)}</p><pre>{escape(sql)}</pre>"
                for number, (sql, judgement) in enumerate(
                    zip(trajectory.statements, trajectory.judgements, strict=False), start=1
                )
            ),
            *(_step(number, step) for number, step in enumerate(trajectory.steps, start=1)),
            f'<p class="note">{escape(ending)}</p></details>',
        ]
    )


def _verdict(judgement: Judgement | None) -> str:
    if judgement is None:
        return '<span class="bad">no answer</span>'
    if judgement.ex is None:
        return f'<span class="note">unjudged ({escape(judgement.status)})</span>'
    exact = ", EM" if judgement.em else ""
    return f'<span class="{"good" if judgement.ex else "bad"}">' + (
        f"right{exact}</span>" if judgement.ex else "wrong</span>"
    )


def _step(number: int, step: Step) -> str:
    reply = (
        "" if step.observation is None else f'<pre class="reply">{escape(step.observation)}</pre>'
    )
    return f"<p>step {number}</p><pre>{escape(step.message)}</pre>{reply}"
