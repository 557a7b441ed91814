"""What `make env` says while it works, and where it fails; nothing is installed here."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helpers.places import ROOT


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "docker" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packages_are_counted_by_their_folders(bootstrap: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("torch-2.11.0+cpu", "absl_py-2.5.1", "pip-23.2.1"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    # pip is not in the lock, ray is not there yet.
    said = bootstrap.packages_in_place(tmp_path, {"torch", "absl-py", "ray"})
    assert said == "fetching and unpacking: 2 of 3 packages are in place"
    said = bootstrap.packages_in_place(tmp_path, {"torch", "absl-py"})
    assert said == "all 2 packages are in place, compiling them"


def test_long_work_says_how_far_it_is_and_its_failure(
    bootstrap: ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # It ends only once it has been asked twice.
    asked: list[int] = []
    flag = tmp_path / "asked twice"
    wait = (
        "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\nsys.exit(3)"
    )

    def count() -> str:
        asked.append(1)
        if len(asked) == 2:
            flag.touch()
        return f"{len(asked)} of 2"

    command = [sys.executable, "-c", wait, str(flag)]
    with pytest.raises(bootstrap.SetupError, match=r"failed; its output is above"):
        bootstrap.run_counted(command, None, count, every_s=0.05)
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines[:2]] == ["  1 of 2", "  2 of 2"]
