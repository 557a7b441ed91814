"""The RL section of a report: what the steps of the training say, as charts and one note."""

from collections.abc import Mapping, Sequence

from mtsql.dialogue import HARDNESS_BANDS
from mtsql.report.charts import line_chart, stacked_chart
from mtsql.report.html import charts_row, missing, section
from mtsql.runs.metrics import Row, number_at, series_of

Series = dict[str, list[float | None]]
"""Values by label, one for each step."""

CHARTS: Sequence[tuple[str, Mapping[str, str], bool]] = (
    ("Reward, mean of a trajectory", {"reward": "reward"}, False),
    ("Execution and exact match, training turns", {"EX": "ex", "EM": "em"}, True),
    (
        "Actions used, share of trajectories",
        {
            "executed": "ability/executed",
            "corrected": "ability/corrected",
            "verdict given": "ability/verified",
            "memory looked at": "ability/memory_verified",
            "answered blindly": "ability/blind_answer",
        },
        True,
    ),
    (
        "Right proposals and verdicts",
        {
            "first proposal right": "ability/first_right",
            "answer right": "ability/right",
            "correction mends": "ability/corrected_to_right",
            "verdict right": "ability/verdict_right",
            "memory verdict right": "ability/memory_verdict_right",
        },
        True,
    ),
    (
        "Clause F1 against gold, proposals that can be read",
        {
            "first proposal": "ability/first_f1",
            "answer": "ability/final_f1",
            "gain of corrections": "ability/improvement",
            "answer with values": "ability/coherence",
            "parsed": "ability/parse_rate",
        },
        False,
    ),
    ("Tokens of a trajectory", {"all": "response_tokens", "sampled": "sampled_tokens"}, False),
    ("Steps of a trajectory", {"steps": "ability/mean_steps"}, False),
)
"""Title, the key of each label in the metrics file, and whether the values are shares."""
BANDS = (
    ("Curriculum, success by band", "success/"),
    ("Curriculum, share of the draws by band", "share/"),
)
"""Title, and the prefix of the curriculum's keys."""
MEAN_OVER = 5
"""Steps whose mean a line shows."""
TIMES = {
    "generate": "generate_s",
    "log probabilities": "logprob_s",
    "update": "update_s",
    "sync": "sync_s",
}


def rl_section(written: Sequence[Row]) -> str:
    """
    Args:
        written: the lines of metrics/rl.jsonl.
    """
    # A resumed run plays the steps after its last checkpoint again: the later line counts.
    rows = list({number_at(row, "step"): row for row in written}.values())
    if not rows:
        return missing("Reinforcement learning", "metrics/rl.jsonl")
    xs = [round(number_at(row, "step") or 0) for row in rows]
    lines = [(title, series(rows, keys), is_share) for title, keys, is_share in CHARTS]
    lines += [(title, nested(rows, "curriculum", prefix), True) for title, prefix in BANDS]
    lines.append(("Entropy", series(rows, {"entropy": "entropy"}), False))
    stacks = (
        ("Endings, trajectories", nested(rows, "endings", "")),
        ("Faults, trajectories", nested(rows, "faults", "")),
        ("Time of a step, seconds", times(rows)),
    )
    # One step is few turns: its values jump more than the policy moves.
    over = MEAN_OVER if len(xs) >= 2 * MEAN_OVER else 1
    charts = [
        *(
            line_chart(title, xs, ys, is_share=is_share, mean_over=over)
            for title, ys, is_share in lines
            if ys
        ),
        *(stacked_chart(title, xs, parts) for title, parts in stacks if parts),
    ]
    note = f'<p class="note">{_note(rows, xs)}'
    note += f" Lines are means of {over} steps, dots single steps.</p>" if over > 1 else "</p>"
    return section("Reinforcement learning", note, charts_row(charts))


def series(rows: Sequence[Row], keys: Mapping[str, str]) -> Series:
    """Values by label; labels without any value are left out.

    Args:
        keys: of the metrics file, by label.
    """
    found = {label: series_of(rows, key) for label, key in keys.items()}
    return {label: ys for label, ys in found.items() if any(y is not None for y in ys)}


def nested(rows: Sequence[Row], key: str, prefix: str) -> Series:
    """Series of the object under `key` by name after the prefix; those of zeros are left out."""
    parts = [row.get(key) for row in rows]
    objects = [part if isinstance(part, dict) else {} for part in parts]
    found = dict.fromkeys(name for part in objects for name in part if name.startswith(prefix))
    grades = [prefix + grade for grade in HARDNESS_BANDS]
    names = sorted(found, key=lambda name: grades.index(name) if name in grades else len(grades))
    series = {
        name.removeprefix(prefix): [number_at(part, name) for part in objects] for name in names
    }
    return {name: ys for name, ys in series.items() if any(ys)}


def times(rows: Sequence[Row]) -> Series:
    """Seconds of a step by what they were spent on; what is not measured by itself is `other`."""
    found = series(rows, TIMES)
    totals = series_of(rows, "step_s")
    if found and any(total is not None for total in totals):
        known = [sum(ys[index] or 0.0 for ys in found.values()) for index in range(len(rows))]
        found["other"] = [max(0.0, (t or 0.0) - k) for t, k in zip(totals, known, strict=True)]
    return found


def _note(rows: Sequence[Row], xs: Sequence[int]) -> str:
    dropped = sum(number_at(row, "num_dropped") or 0.0 for row in rows)
    seconds = sum(total or 0.0 for total in series_of(rows, "step_s"))
    note = f"{len(rows)} steps in {seconds:.0f} s; {dropped:.0f} trajectories dropped as faults."
    for step, difference in zip(xs, series_of(rows, "logprob_diff"), strict=True):
        if difference is not None:
            note += (
                f" Log-probabilities of rollout and learner on step {step}: "
                f"{difference:.1g} apart on average."
            )
    return note
