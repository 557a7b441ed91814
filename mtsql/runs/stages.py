"""Where the self-taught rounds of a run lie, and which stages they have.

RUN/rounds/N/samples/*.parquet   every trajectory that was sampled
RUN/rounds/N/selection.json      what was kept of them and why
RUN/rounds/N/selected.parquet    the kept ones
RUN/rounds/N/model               the fine-tuned policy, a Hugging Face folder
"""

import json
import re
from pathlib import Path

PARTS = {
    "sample": "sample",
    "select": "select",
    "fine_tune": "fine-tune",
    "evaluate": "evaluate",
}
"""The stages of a round, in order, and their titles."""


def stages_of_round(number: int) -> list[str]:
    return [f"round_{number}_{part}" for part in PARTS]


def round_of(stage: str) -> tuple[int, str] | None:
    """Number and part of a round's stage, e.g. (2, "sample"); None for any other stage."""
    found = re.fullmatch(r"round_(\d+)_(\w+)", stage)
    return (int(found[1]), found[2]) if found and found[2] in PARTS else None


def part_of(stage: str) -> str:
    """A round's stage without its number; any other as it is."""
    found = round_of(stage)
    return found[1] if found else stage


def round_title(stage: str) -> str | None:
    found = round_of(stage)
    return f"round {found[0]}: {PARTS[found[1]]}" if found else None


def round_folder(run_folder: Path, number: int) -> Path:
    return run_folder / "rounds" / str(number)


def model_folder(run_folder: Path, policy: str) -> Path:
    """Where a run keeps the model of `warm_start`, `round_N` or `rl`."""
    found = re.fullmatch(r"round_(\d+)", policy)
    folder = round_folder(run_folder, int(found[1])) if found else run_folder / policy
    return folder / "model"


def policy_title(policy: str) -> str:
    return {"warm_start": "warm start", "rl": "RL"}.get(policy, policy.replace("_", " "))


def policy_order(policy: str) -> int:
    """The order in which a run makes its policies."""
    found = re.fullmatch(r"round_(\d+)", policy)
    return int(found[1]) if found else {"warm_start": 0, "rl": 1_000_000}.get(policy, 2_000_000)


def last_round(run_folder: Path) -> int:
    """The newest round with a model; 0 before the first one."""
    numbers = [int(path.parent.name) for path in (run_folder / "rounds").glob("*/model")]
    return max(numbers, default=0)


def num_kept(run_folder: Path, number: int) -> int | None:
    """Trajectories that a round added to the training set; None before its selection.

    Only this number is read: the whole file has its types in `mtsql.selftaught.records`.
    """
    path = round_folder(run_folder, number) / "selection.json"
    if not path.is_file():
        return None
    return int(json.loads(path.read_text(encoding="utf-8"))["figures"]["funnel"]["num_kept"])


def num_rounds(run_folder: Path) -> int:
    """Rounds with a selection."""
    number = 0
    while num_kept(run_folder, number + 1) is not None:
        number += 1
    return number


def is_needless(run_folder: Path, stage: str) -> bool:
    """A round's stage after a selection that found nothing new to learn."""
    found = round_of(stage)
    if found is None:
        return False
    number, part = found
    last = number if part in ("fine_tune", "evaluate") else number - 1
    return any(num_kept(run_folder, earlier) == 0 for earlier in range(1, last + 1))
