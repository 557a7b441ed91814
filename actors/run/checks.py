"""What is looked at before a stage starts, and after: model, data, disk. Nothing heavy loads."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from actors.run.machine import process_environment
from mtsql.config.run import RunConfig
from mtsql.data.dataset import SPLITS, check_databases, load_dataset
from mtsql.data.exclusions import read_exclusions
from mtsql.errors import ConfigError, DataError, MachineError, ModelError, some_of
from mtsql.runs.stages import Stage

MIN_FREE_GB = 2.0
FULL_DISK_MB = 50
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""`Qwen/Qwen3-0.6B`: an owner and a name, which is no path of this machine."""
MAX_POINTER_BYTES = 1000
LFS_SIGN = b"version https://git-lfs"


def check_model(folder: Path, name: str, *, given: Path | None = None) -> None:
    """Look whether a folder holds a Hugging Face model, without loading it.

    Args:
        name: the key or option that names the folder.
        given: the folder as the user wrote it, if that is not `folder`.

    Raises:
        ModelError: configuration, tokenizer or weights are missing.
    """
    fix = "give the folder of a Hugging Face model, e.g. one that `mtsql train` made"
    instead = _what_instead(folder, str(given or folder))
    if instead:
        shown = folder if folder.exists() or given is None else given
        raise ModelError(f"{name} {shown}: {instead}")
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except OSError as error:
        raise ModelError(f"{name} {folder}: no config.json there; {fix}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name} {folder}: config.json names no model_type; {fix}") from error
    for part, pattern in (("weights", "*.safetensors"), ("tokenizer", "tokenizer*.json")):
        if not any(folder.glob(pattern)):
            raise ModelError(f"{name} {folder}: {kind} without {part} ({pattern}); {fix}")
    for weights in sorted(folder.glob("*.safetensors")):
        if weights.stat().st_size < MAX_POINTER_BYTES and weights.read_bytes().startswith(LFS_SIGN):
            raise ModelError(
                f"{name} {folder}: {weights.name} is a pointer of Git LFS, not the weights: "
                "run `git lfs pull` there"
            )


def _what_instead(folder: Path, given: str) -> str:
    """What people give in place of a model's folder, with the way from there; "" for others."""
    if not folder.exists():
        if HUB_NAME.fullmatch(given) and not Path(given).parent.exists():
            return (
                "no such folder; it looks like a name on the Hugging Face Hub: "
                f"`mtsql model fetch {given}` brings it to where this name finds it"
            )
        return ""
    if folder.is_file():
        if folder.suffix == ".gguf":
            return f"is a GGUF file: `mtsql model import {folder} --out DIR` makes a folder of it"
        return f"is a file; give the folder that it is in: {folder.parent}"
    if (folder / "config.json").exists():
        return ""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        return (
            f"holds a LoRA adapter of {_base_of(adapter)}, not a whole model: merge the two (peft: "
            "merge_and_unload, then save_pretrained) and give that folder"
        )
    below = [path.parent for path in folder.glob("*/config.json")]
    below += [path.parent for path in folder.glob("snapshots/*/config.json")]  # the Hub's cache
    if len(below) == 1:
        return f"no config.json there, but in {below[0]}: give that folder"
    if below:
        names = some_of(sorted(path.relative_to(folder).as_posix() for path in below))
        return f"no config.json there, but in several folders below ({names}): give one of them"
    if any(folder.glob("*.gguf")):
        return "holds GGUF files: `mtsql model import FILE.gguf --out DIR` makes a folder of one"
    if any(folder.glob("*.safetensors")):
        return (
            "no config.json there, only weights: fetch the whole model, with config.json and "
            "tokenizer.json, e.g. with `mtsql model fetch OWNER/NAME`"
        )
    return ""


def _base_of(adapter: Path) -> str:
    return str(_json_of(adapter).get("base_model_name_or_path") or "another model")


def check_models(config: RunConfig) -> None:
    """Every model folder that a recipe names, and not only when a round has been sampled for hours.

    Raises:
        ModelError: one holds no model.
    """
    if config.model.path is not None:
        check_model(config.model.folder, "model.path")
        check_policy(config.model.folder, "model.path", config)
    if config.model.wire_tokens:
        check_plain_weights(config.model.folder)
    if config.selftaught is not None and config.selftaught.selection.embedder is not None:
        check_model(config.selftaught.selection.embedder, "selftaught.selection.embedder")


def check_plain_weights(folder: Path) -> None:
    """Whether rows can be added to a model's embedding.

    Raises:
        ModelError: it is quantised, or an adapter lies beside it.
    """
    lack = ""
    if (folder / "adapter_config.json").is_file():
        lack = "holds a LoRA adapter beside the weights: give the merged model"
    elif quantised := _json_of(folder / "config.json").get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        lack = f"its weights are quantised ({method or 'by a method it does not name'}): give the \
model before that"
    if lack:
        raise ModelError(f"model.wire_tokens: {folder}: {lack}, or set model.wire_tokens=false")


def check_policy(folder: Path, name: str, config: RunConfig) -> None:
    """Whether a model's window holds the recipe's turns, and its files agree on its end of text.

    Args:
        name: the key or option that names the folder.

    Raises:
        ConfigError: the window is too small.
        ModelError: tokenizer and generation config name different ends, as conversions do that mix
            them up; such a model would never stop.
    """
    kind = _json_of(folder / "config.json")
    text = kind.get("text_config")
    window = (text if isinstance(text, dict) else kind).get("max_position_embeddings")
    environment = config.environment
    room = environment.max_prompt_tokens + environment.max_response_tokens
    if isinstance(window, int) and room > window:
        raise ConfigError(
            f"{name} {folder}: its window is {window} tokens, and environment.max_prompt_tokens + "
            f"max_response_tokens is {room}: make them smaller, or give another model"
        )
    ends = _json_of(folder / "generation_config.json").get("eos_token_id")
    token = _json_of(folder / "tokenizer_config.json").get("eos_token")
    text_of = token.get("content") if isinstance(token, dict) else token
    ids = [
        one.get("id")
        for one in _json_of(folder / "tokenizer.json").get("added_tokens") or []
        if one.get("content") == text_of
    ]
    known = ends if isinstance(ends, list) else [ends]
    if ids and ends is not None and ids[0] not in known:
        raise ModelError(
            f"{name} {folder}: the tokenizer's end of text is {text_of!r}, token {ids[0]}, but "
            f"generation_config.json says {ends}: correct eos_token in tokenizer_config.json, or "
            "convert the model again"
        )


def _json_of(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_template(model: Path, config: RunConfig, device: str) -> None:
    """Whether the model's chat template serves the recipe's dialect, from its tokenizer alone.

    Raises:
        ModelError: it does not, or there is no tokenizer; the text says what it lacks.
    """
    done = subprocess.run(
        [sys.executable, "-m", "actors.rollout.check_template", str(model)],
        input=config.model_dump_json(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=process_environment(config, device),
        check=False,
    )
    if done.returncode == 2 and done.stdout:
        raise ModelError(done.stdout)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelError(
            f"model {model}: its tokenizer cannot be tried ({last[:200]}); give another folder"
        )


def check_data(config: RunConfig) -> None:
    """Look at data from outside the run's folder before an earlier run is touched.

    Raises:
        DataError: the prepared folder is not whole, there is no release, or the file of exclusions
            is wrong.
        ConfigError: a split that no dataset has.
    """
    data = config.data
    if data.folder is not None and data.folder.exists():
        dataset = load_dataset(data.folder)
        if data.exclude is not None:
            read_exclusions(data.exclude, dataset)
    elif data.source != "embedded":
        if data.source_dir is None:
            raise DataError(
                f"data.folder {data.folder}: no such folder; make it with `mtsql data prepare`, "
                "or set data.source_dir"
            )
        if not (data.source_dir / data.source).is_dir():
            raise DataError(
                f"data.source_dir {data.source_dir}: no folder {data.source} there; "
                "name the folder that holds it"
            )
    if data.exclude is not None and not data.exclude.is_file():
        raise DataError(f"data.exclude {data.exclude}: no such file; make it, or drop the key")
    for name in config.evaluation.splits:
        if name not in SPLITS:
            raise ConfigError(
                f"evaluation.splits: no split {name!r}; choose from {', '.join(SPLITS)}"
            )


def check_databases_again(stage: Stage, config: RunConfig) -> None:
    """A stage counts only if the databases are the same at its start and at its end.

    Raises:
        DataError: one is not; the text names it.
    """
    try:
        check_databases(config.data_folder)
    except DataError as error:
        lost = f"{stage.title} does not count"
        if stage.kind.learns:
            lost += ", nor what it saved: add --restart"
        raise DataError(f"{error}; {lost}") from error


def check_free_disk(folder: Path) -> None:
    """
    Args:
        folder: of a run, which need not be there yet.

    Raises:
        MachineError: too little room for a run on its disk.
    """
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    if free_gb < MIN_FREE_GB:
        raise MachineError(
            f"{folder}: {free_gb:.1f} GB free on that disk, a run needs {MIN_FREE_GB:g}: "
            "free some, or set run_dir="
        )


def check_disk_after(folder: Path, stage: Stage) -> None:
    """Whether a full disk is why a stage failed.

    What meets the full disk first (torch, Ray, SQLite) words it in its own way.

    Raises:
        MachineError: it is.
    """
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < FULL_DISK_MB:
        raise MachineError(
            f"{folder}: no space left ({free_mb:.0f} MB), so {stage.title} stopped: free some, and "
            "the same command resumes; or set run_dir= to another disk"
        )
