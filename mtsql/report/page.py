"""A run's report: one HTML page that opens offline, made from the files in the run's folder.

    RUN/summary.json              the headline figures
    RUN/warm_start/facts.json     what the scripted trajectories hold
    RUN/metrics/warm_start.jsonl  one object for each supervised step
    RUN/metrics/rl.jsonl          one object for each RL step
    RUN/evaluation/P-H.json       scores of policy P under history H
    RUN/trajectories/*.parquet    what was played

A file that is not there yet is named where its section would stand.
"""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from rich.table import Table

from mtsql.dialogue import HARDNESSES
from mtsql.errors import DataError
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.scores import Share
from mtsql.files import write_whole
from mtsql.report.charts import bar_chart, line_chart, stacked_chart
from mtsql.report.html import charts_row, gain_text, missing, percent, section, table
from mtsql.report.rounds import COLUMNS, NOTE, rounds_rows, rounds_section, training_charts
from mtsql.runs.folder import RunFolder
from mtsql.runs.metrics import Row, number_at, read_rows, series_of
from mtsql.runs.records import Headline, Summary
from mtsql.runs.stages import policy_title
from mtsql.trajectory.attempt import Attempt
from mtsql.trajectory.records import Ending, Step
from mtsql.trajectory.store import read_trajectories

SUMMARY_COLUMNS = ("EX", "EM", "QM", "IM", "EX gain, points (95 % interval)")
EXAMPLES = (12, 4, 4)
"""Trajectories shown: a correction mends the answer, it does not, there is none."""


def summary_table(summary: Summary) -> Table:
    """The final table of a run, for the terminal."""
    table = Table(title=f"{summary.turns} held-out turns, seed {summary.seed}")
    table.add_column("")
    for name in SUMMARY_COLUMNS:
        table.add_column(name, justify="right")
    for cells in _summary_rows(summary):
        table.add_row(*cells)
    return table


def summary_tables(summary: Summary) -> list[Table]:
    """What a run shows at its end: the headline figures and, if there are any, its rounds."""
    tables = [summary_table(summary)]
    if summary.rounds:
        rounds = Table(title="self-taught rounds", caption=NOTE, caption_justify="left")
        for name in COLUMNS:
            rounds.add_column(name, justify="right")
        for cells in rounds_rows(summary.rounds):
            rounds.add_row(*cells)
        tables.append(rounds)
    return tables


def write_report(run: RunFolder) -> Path:
    """Write RUN/report.html, whole or not at all, and return its path.

    Raises:
        DataError: no such folder, or one of its files is not what a run writes.
    """
    if not run.path.is_dir():
        raise DataError(f"{run.path}: no such run folder; `mtsql train RECIPE` makes one")
    summary = run.read_summary()
    body = "\n".join(
        [
            _summary_section(summary),
            rounds_section(summary, run) if summary is not None else "",
            _rl_section(run),
            _evaluation_section(run),
            _warm_start_section(run),
            _trajectory_section(run),
        ]
    )
    template = files("mtsql.report").joinpath("template.html").read_text(encoding="utf-8")
    title = escape(f"MTSQL run {run.path.resolve().name}")
    page = Template(template).substitute(title=title, body=body)
    return write_whole(run.report, page)


def _summary_section(summary: Summary | None) -> str:
    if summary is None:
        return missing("Summary", "summary.json")
    total_s = sum(summary.wall_s.values())
    stages = [(name, f"{seconds:.1f}") for name, seconds in summary.wall_s.items()]
    return section(
        "Summary",
        f'<p class="note">{summary.turns} held-out turns, greedy decoding, seed {summary.seed}. '
        "QM and IM: question and interaction match under EX.</p>",
        table(("policy, history", *SUMMARY_COLUMNS), _summary_rows(summary)),
        table(("stage", "seconds"), [*stages, ("all", f"{total_s:.1f}")]),
    )


def _summary_rows(summary: Summary) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for history, headline in (("gold", summary), ("predicted", summary.predicted or Headline())):
        rounds = [
            (f"round {one.round}", scores, scores.gain)
            for one in summary.rounds
            if (scores := one.gold if history == "gold" else one.predicted) is not None
        ]
        for name, scores, gain in (
            ("warm start", headline.warm_start, None),
            *rounds,
            ("RL", headline.rl, headline.gain),
        ):
            if scores is None:
                continue
            shares = (scores.ex, scores.em, scores.qm, scores.im)
            rows.append(
                (f"{name}, {history}", *(percent(share) for share in shares), gain_text(gain))
            )
    return rows


def _rl_section(run: RunFolder) -> str:
    written = read_rows(run.metrics("rl"))
    # A resumed run plays the steps after its last checkpoint again: the later line counts.
    rows = list({number_at(row, "step"): row for row in written}.values())
    if not rows:
        return missing("Reinforcement learning", "metrics/rl.jsonl")
    xs = [round(number_at(row, "step") or 0) for row in rows]

    def lines(**keys: str) -> dict[str, list[float | None]]:
        """Series by label, an underscore for a space; those without any value are left out."""
        series = {label.replace("_", " "): series_of(rows, key) for label, key in keys.items()}
        return {label: ys for label, ys in series.items() if any(y is not None for y in ys)}

    used = lines(
        executed="ability/executed",
        corrected="ability/corrected",
        verdict_given="ability/verified",
        memory_looked_at="ability/memory_verified",
        answered_blindly="ability/blind_answer",
    )
    proposals = lines(
        first_proposal_right="ability/first_right",
        answer_right="ability/right",
        correction_mends="ability/corrected_to_right",
        verdict_right="ability/verdict_right",
        memory_verdict_right="ability/memory_verdict_right",
    )
    clauses = lines(
        first_proposal="ability/first_f1",
        answer="ability/final_f1",
        gain_of_corrections="ability/improvement",
        answer_with_values="ability/coherence",
        parsed="ability/parse_rate",
    )
    times = lines(
        generate="generate_s", log_probabilities="logprob_s", update="update_s", sync="sync_s"
    )
    totals = series_of(rows, "step_s")
    if times and any(total is not None for total in totals):
        known = [sum(ys[index] or 0.0 for ys in times.values()) for index in range(len(rows))]
        times["other"] = [max(0.0, (t or 0.0) - k) for t, k in zip(totals, known, strict=True)]
    charts = [
        line_chart(title, xs, series, is_share=is_share)
        for title, series, is_share in (
            ("Reward, mean of a trajectory", lines(reward="reward"), False),
            ("Execution and exact match, training turns", lines(EX="ex", EM="em"), True),
            ("Actions used, share of trajectories", used, True),
            ("Right proposals and verdicts", proposals, True),
            ("Clause F1 against gold, proposals that can be read", clauses, False),
            (
                "Tokens of a trajectory",
                lines(all="response_tokens", sampled="sampled_tokens"),
                False,
            ),
            ("Steps of a trajectory", lines(steps="ability/mean_steps"), False),
            ("Curriculum, success by band", _nested(rows, "curriculum", "success/"), True),
            ("Curriculum, share of the draws by band", _nested(rows, "curriculum", "share/"), True),
            ("Entropy", lines(entropy="entropy"), False),
        )
        if series
    ]
    charts += [
        stacked_chart(title, xs, parts)
        for title, parts in (
            ("Endings, trajectories", _nested(rows, "endings", "")),
            ("Time of a step, seconds", times),
        )
        if parts
    ]
    dropped = sum(number_at(row, "num_dropped") or 0.0 for row in rows)
    seconds = sum(total or 0.0 for total in totals)
    note = f"{len(rows)} steps in {seconds:.0f} s; {dropped:.0f} trajectories dropped as faults."
    for step, difference in zip(xs, series_of(rows, "logprob_diff"), strict=True):
        if difference is not None:
            note += (
                f" Log-probabilities of rollout and learner on step {step}: "
                f"{difference:.1g} apart on average."
            )
    return section("Reinforcement learning", f'<p class="note">{note}</p>', charts_row(charts))


def _warm_start_section(run: RunFolder) -> str:
    rows = read_rows(run.metrics("warm_start"))
    scripts = _script_parts(run)
    if not rows:
        return "\n".join([missing("Warm start", "metrics/warm_start.jsonl"), *scripts])
    last = number_at(rows[-1], "loss")
    note = f"{len(rows)} steps; last loss {'-' if last is None else f'{last:.3f}'}."
    return section(
        "Warm start",
        f'<p class="note">{note}</p>',
        charts_row(training_charts(rows, "")),
        *scripts,
    )


def _script_parts(run: RunFolder) -> list[str]:
    """The kinds of mistakes in scripted trajectories, and what these do; [] if nothing is known."""
    facts = run.read_script_facts()
    if not facts.mistakes:
        return []
    rows = [
        (
            kind.replace("_", " "),
            str(counts.made),
            percent(counts.share),
            *(
                percent(number / counts.made)
                for number in (counts.noticed, counts.repaired, counts.right)
            ),
        )
        for kind, counts in facts.mistakes.items()
    ]
    note = "; ".join(
        f"{name.replace('_', ' ')} {percent(share)}" for name, share in facts.shares.items()
    )
    return [
        '<p class="note">Mistakes made on purpose in scripted trajectories, percent; noticed, '
        "repaired and right are shares of those with the mistake.</p>",
        table(("mistake", "trajectories", "share", "noticed", "repaired", "right"), rows),
        f'<p class="note">Scripted trajectories, percent: {escape(note)}.</p>',
    ]


def _evaluation_section(run: RunFolder) -> str:
    found = run.read_evaluations()
    if not found:
        return missing("Held-out turns", "evaluation/POLICY-HISTORY.json")
    header = ("split", "history", "policy", "EX QM", "EX IM", "EM QM", "EM IM", "turns", "unjudged")
    splits = list(dict.fromkeys(split for one in found for split in one.splits))
    rows = [
        (
            split,
            one.history,
            policy_title(one.policy),
            *(
                percent(share.share)
                for metric in (one.splits[split].ex, one.splits[split].em)
                for share in (metric.question_match, metric.interaction_match)
            ),
            str(one.splits[split].num_turns),
            str(one.splits[split].ex.question_match.num_unjudged),
        )
        for split in splits
        for one in found
        if split in one.splits
    ]
    charts: list[str] = []
    for split in splits:
        compared = {
            policy_title(one.policy): one.splits[split].ex
            for one in found
            if one.history == "gold" and split in one.splits
        }
        for kind, by_label in (
            ("hardness", {name: scores.by_hardness for name, scores in compared.items()}),
            ("turn", {name: scores.by_turn for name, scores in compared.items()}),
        ):
            if by_label:
                charts.append(_share_bars(f"EX by {kind}, {split}, gold history", by_label))
    return section("Held-out turns", table(header, rows), charts_row(charts))


def _trajectory_section(run: RunFolder) -> str:
    folder = run.trajectories
    rounds = [f"round_{number}-gold.parquet" for number in range(run.last_round(), 0, -1)]
    patterns = (
        "rl-gold.parquet",
        "rl-predicted.parquet",
        *rounds,
        "warm_start-*.parquet",
        "*.parquet",
    )
    pattern = next((one for one in patterns if any(folder.glob(one))), None)
    if pattern is None:
        return missing("Trajectories", "trajectories/*.parquet")
    played = read_trajectories(folder / pattern)
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


def _trajectory(stored: Attempt) -> str:
    trajectory = stored.trajectory
    final = trajectory.judgements[-1] if trajectory.judgements else None
    label = stored.label
    facts = f"{stored.db_id}, {label.split}, {stored.hardness}, {label.history_mode} history"
    reward = "unscored" if stored.reward is None else f"reward {stored.reward.total:.2f}"
    ending = f"{trajectory.ending}, {reward}"
    if trajectory.ending is Ending.INFRA_FAULT:
        ending += f": {trajectory.fault}"
    return "\n".join(
        [
            f"<details><summary>{_verdict(final)} {escape(stored.question)}</summary>",
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


def _share_bars(title: str, by_label: Mapping[str, Mapping[str, Share]]) -> str:
    labels = list(dict.fromkeys(label for shares in by_label.values() for label in shares))
    groups = {
        name: [shares[label].share if label in shares else None for label in labels]
        for name, shares in by_label.items()
    }
    return bar_chart(title, labels, groups)


def _nested(rows: Sequence[Row], key: str, prefix: str) -> dict[str, list[float | None]]:
    """Series of the object under `key` by name after the prefix; those of zeros are left out."""
    parts = [row.get(key) for row in rows]
    objects = [part if isinstance(part, dict) else {} for part in parts]
    found = dict.fromkeys(name for part in objects for name in part if name.startswith(prefix))
    grades = [prefix + grade for grade in HARDNESSES]
    names = sorted(found, key=lambda name: grades.index(name) if name in grades else len(grades))
    series = {
        name.removeprefix(prefix): [number_at(part, name) for part in objects] for name in names
    }
    return {name: ys for name, ys in series.items() if any(ys)}
