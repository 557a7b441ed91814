"""What kind of machine a run finds, and what it makes of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.run import machine
from helpers.places import ROOT
from mtsql.config import machine as machine_config
from mtsql.config.load import load_config
from mtsql.errors import MachineError

DEMO = ROOT / "recipes" / "demo_cpu.yaml"


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In the place of the kernel's own file."""
    path = tmp_path / "cpuinfo"

    def place(_: str) -> Path:
        return path

    monkeypatch.setattr(machine_config, "Path", place)
    machine_config.multiplies_bfloat16.cache_clear()
    yield path
    machine_config.multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("flags\t: fpu sse avx avx2 fma", "float32"),
        ("flags\t: avx2 avx512f avx512dq avx512bw avx512vl", "bfloat16"),
        ("flags\t: avx2 avx512f", "float32"),
        ("Features\t: fp asimd bf16 i8mm", "bfloat16"),
        (None, "float32"),
    ],
)
def test_the_format_that_this_processor_multiplies(
    cpuinfo: Path, flags: str | None, dtype: str
) -> None:
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\n{flags}\nbogomips\t: 4890.80\n")
    config = load_config(DEMO, ["machine.dtype=auto"]).machine
    assert (config.dtype_on("cpu"), config.dtype_on("gpu")) == (dtype, "bfloat16")
    # What is not asked for is not used.
    assert load_config(DEMO).machine.dtype_on("cpu") == "float32"


def test_a_format_that_would_take_for_ever_is_refused(cpuinfo: Path) -> None:
    cpuinfo.write_text("flags\t: avx2\n")
    overrides = ["machine.device=cpu", "machine.dtype=bfloat16"]
    with pytest.raises(MachineError, match=r"no instructions for it.*set machine\.dtype=auto"):
        machine.device_of(load_config(DEMO, overrides))
    assert (
        machine.device_of(load_config(DEMO, ["machine.device=cpu", "machine.dtype=auto"])) == "cpu"
    )
    cpuinfo.write_text("flags\t: avx512f avx512dq avx512bw avx512vl\n")
    machine_config.multiplies_bfloat16.cache_clear()
    assert machine.device_of(load_config(DEMO, overrides)) == "cpu"
