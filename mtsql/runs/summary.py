"""A run in numbers: `summary.json`, read by people, the report and other programs."""

import json
from pathlib import Path
from typing import Any

from mtsql.evaluation.scores import ScoredTurn, paired_gain
from mtsql.files import write_whole
from mtsql.runs.rounds import rounds_of


def _load(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _turns(evaluation: dict[str, Any]) -> list[ScoredTurn]:
    return [ScoredTurn(**turn) for turn in evaluation["turns"]]


def _figures(scores: dict[str, Any]) -> dict[str, float | None]:
    """EX, EM: shares of turns; QM, IM: shares of questions and dialogues that match under EX."""
    return {
        "ex": scores["ex"]["question_match"]["share"],
        "em": scores["em"]["question_match"]["share"],
        "qm": scores["ex"]["question_match"]["share"],
        "im": scores["ex"]["interaction_match"]["share"],
        "im_em": scores["em"]["interaction_match"]["share"],
    }


def _scores(evaluation: dict[str, Any]) -> dict[str, Any]:
    splits = {name: _figures(part) for name, part in evaluation["splits"].items()}
    return {**_figures(evaluation["all"]), "splits": splits}


def _gain(
    before: list[ScoredTurn], after: list[ScoredTurn], num_samples: int
) -> dict[str, Any] | None:
    """EX of RL minus EX of the warm start, over all turns and by split; None: nothing is judged."""

    def paired(split: str | None) -> dict[str, Any] | None:
        old = [turn for turn in before if split in (None, turn.split)]
        new = [turn for turn in after if split in (None, turn.split)]
        if not any(turn.ex is not None for turn in old) or not any(
            turn.ex is not None for turn in new
        ):
            return None
        gain = paired_gain(old, new, metric="ex", num_samples=num_samples)
        ci95 = None if gain.ci95 is None else list(gain.ci95)
        return {"ex": gain.gain, "ci95": ci95, "turns": gain.num_turns}

    whole = paired(None)
    if whole is None:
        return None
    names = dict.fromkeys(turn.split for turn in before)
    return {**whole, "splits": {name: paired(name) for name in names}}


def _rounds(folder: Path, num_samples: int) -> list[dict[str, Any]]:
    """The self-taught rounds: sampling and selection, and each round's policy on held-out turns."""
    rounds: list[dict[str, Any]] = []
    for progress in rounds_of(folder):
        entry: dict[str, Any] = progress.model_dump(mode="json")
        for history in ("gold", "predicted"):
            evaluation = _load(folder / "evaluation" / f"round_{progress.round}-{history}.json")
            if evaluation is None:
                continue
            scores = _scores(evaluation)
            before = _load(folder / "evaluation" / f"warm_start-{history}.json")
            if before is not None:
                scores["gain"] = _gain(_turns(before), _turns(evaluation), num_samples)
            scores["mended"] = evaluation["abilities"].get("mended")
            entry[history] = scores
        rounds.append(entry)
    return rounds


def summarise_run(folder: Path) -> dict[str, Any]:
    """What a run's folder says, whole or in part.

    The figures at the top are greedy decoding with gold history on every held-out turn; `predicted`
    holds those with predicted history.
    """
    saved = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    # In the order in which they ended.
    done = sorted((folder / "stages").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    walls = {path.stem: json.loads(path.read_text(encoding="utf-8"))["wall_s"] for path in done}
    summary: dict[str, Any] = {
        "name": saved["recipe"]["name"],
        "seed": saved["recipe"]["seed"],
        "device": saved["device"],
        "wall_s": walls,
    }
    for policy in ("warm_start", "rl"):
        for history in ("gold", "predicted"):
            evaluation = _load(folder / "evaluation" / f"{policy}-{history}.json")
            if evaluation is None:
                continue
            if history == "gold":
                summary[policy] = _scores(evaluation)
                summary["turns"] = evaluation["all"]["num_turns"]
            else:
                summary.setdefault("predicted", {})[policy] = _scores(evaluation)
    for history in ("gold", "predicted"):
        before = _load(folder / "evaluation" / f"warm_start-{history}.json")
        after = _load(folder / "evaluation" / f"rl-{history}.json")
        if before is None or after is None:
            continue
        num_samples = saved["recipe"]["evaluation"]["num_bootstrap"]
        entry = _gain(_turns(before), _turns(after), num_samples)
        if entry is None:
            continue
        if history == "gold":
            summary["gain"] = entry
        else:
            summary["predicted"]["gain"] = entry
    rounds = _rounds(folder, saved["recipe"]["evaluation"]["num_bootstrap"])
    if rounds:
        summary["rounds"] = rounds
    metrics = folder / "metrics" / "rl.jsonl"
    if metrics.exists():
        steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        diffs = [step["logprob_diff"] for step in steps if step.get("logprob_diff") is not None]
        summary["rl_steps"] = len({step["step"] for step in steps})
        summary["logprob_diff"] = diffs[0] if diffs else None
        summary["num_dropped"] = sum(step.get("num_dropped", 0) for step in steps)
    return summary


def write_summary(folder: Path) -> dict[str, Any]:
    """Write `summary.json` and return what it holds."""
    summary = summarise_run(folder)
    write_whole(folder / "summary.json", json.dumps(summary, indent=1))
    return summary
