"""The table of `mtsql score`, in the layout of the official script."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from mtsql.errors import some_of
from mtsql.evaluation.em.match import COMPONENTS
from mtsql.evaluation.em.partial import PartialScore
from mtsql.evaluation.scores import TURN_LABELS, MetricScores, Scores, Share
from recipes.score.input import kind_of

TITLES = {"ex": "EXECUTION ACCURACY", "em": "EXACT MATCHING ACCURACY"}
NAMES = {"ex": "execution", "em": "exact match"}


def print_table(
    scores: Scores,
    partial: Mapping[str, Mapping[str, PartialScore]] | None,
    *,
    etype: str,
    num_outside: int,
    num_gold_empty: int,
    num_cut_ties: int,
    with_dialogues: bool,
    left_out: Sequence[str] = (),
    unread: Sequence[str] = (),
) -> None:
    """Shares by hardness and by turn, then partial scores, then what lies behind the figures.

    Args:
        left_out: of each pair that is in no figure, why, as `KIND: DETAIL`.
        unread: keys of the rows that nothing reads.
        num_outside: predictions that Spider's parser does not read.
        num_gold_empty: pairs whose gold gives no row.
        num_cut_ties: pairs whose gold has a LIMIT that cuts a tie.
        with_dialogues: show interaction match and shares by turn.
    """
    metrics = {"ex": scores.ex, "em": scores.em}
    shown = [name for name in metrics if etype == "all" or (name == "ex") == (etype == "exec")]
    first = metrics[shown[0]]
    levels = [*first.by_hardness, "all"]
    columns = [*levels, *(["joint_all"] if with_dialogues else [])]
    _line("", columns)
    _line("count", [_count(share) for share in _by_level(first, with_dialogues)])
    if left_out:
        _line("left out", [*("" for _ in first.by_hardness), len(left_out)])
    for name in shown:
        _title(TITLES[name])
        _line(NAMES[name], map(_figure, _by_level(metrics[name], with_dialogues)))
        _line("95 % interval", map(_interval, _by_level(metrics[name], with_dialogues)))
    if partial is not None:
        _print_partial(partial, levels)
    if with_dialogues:
        print()
        turns = [first.by_turn[label] for label in TURN_LABELS]
        _line("", [f"turn {label.replace('>', '> ')}" for label in TURN_LABELS])
        _line("count", map(_count, turns))
        for name in shown:
            _title(f"TURN {TITLES[name]}")
            _line(NAMES[name], [_figure(metrics[name].by_turn[label]) for label in TURN_LABELS])
    _print_behind(scores, etype, num_outside, len(left_out), (num_gold_empty, num_cut_ties))
    for kind, count in Counter(map(kind_of, left_out)).most_common():
        first = dict.fromkeys(fault for fault in left_out if kind_of(fault) == kind)
        reasons = some_of([fault.removeprefix(f"{kind}: ") for fault in first], num=3)
        _line("left out", [f"{count} of {scores.num_turns}: {kind}: {reasons}"])
    if unread:
        _line("keys not read", [some_of(unread)])


def _by_level(metric: MetricScores, with_dialogues: bool) -> list[Share]:
    return [
        *metric.by_hardness.values(),
        metric.question_match,
        *([metric.interaction_match] if with_dialogues else []),
    ]


def _print_partial(
    partial: Mapping[str, Mapping[str, PartialScore]], levels: Sequence[str]
) -> None:
    """A level whose golds cannot be read has no clauses to score."""
    kinds: dict[str, Callable[[PartialScore], float]] = {
        "ACCURACY": lambda score: score.accuracy,
        "RECALL": lambda score: score.recall,
        "F1": lambda score: score.f1,
    }
    for kind, value in kinds.items():
        _title(f"PARTIAL MATCHING {kind}", "-")
        for component in COMPONENTS:
            cells = (
                f"{value(partial[level][component]):.3f}" if level in partial else "-"
                for level in levels
            )
            _line(component, cells)


def _print_behind(
    scores: Scores, etype: str, num_outside: int, num_left_out: int, luck: tuple[int, int]
) -> None:
    _title("BEHIND THE FIGURES")
    _line("status", [f"{name} {count}" for name, count in scores.statuses.items()])
    if etype != "match":
        assert scores.ex_strict is not None
        assert scores.executed is not None
        _line("not judged (EX)", [scores.ex.question_match.num_unjudged])
        _line("predictions that run", [_figure(scores.executed)])
        _line("strict execution", [_figure(scores.ex_strict), _interval(scores.ex_strict)])
        _line("empty matches", [scores.num_empty_matches])
        _line("golds without rows", [luck[0]])
        _line("golds cutting a tie", [luck[1]])
    if etype != "exec":
        parsed = 1 - num_outside / (scores.num_turns - num_left_out)
        _line("not judged (EM)", [scores.em.question_match.num_unjudged])
        _line("predictions parsed", [f"{parsed:.3f}"])


def _line(name: str, cells: Iterable[object]) -> None:
    print(f"{name:20} " + " ".join(f"{cell!s:20}" for cell in cells).rstrip())


def _title(text: str, sign: str = "=") -> None:
    print(f"\n{f' {text} ':{sign}^68}")


def _count(share: Share) -> int:
    return share.num_judged + share.num_unjudged


def _figure(share: Share) -> str:
    return "-" if share.share is None else f"{share.share:.3f}"


def _interval(share: Share) -> str:
    return "-" if share.ci95 is None else f"{share.ci95[0]:.3f} to {share.ci95[1]:.3f}"
