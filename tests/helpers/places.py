"""Where things lie, for tests that open files of the project or of the real data."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent


def real_data(needed: str) -> Path:
    """The folder of the official releases; the test is skipped if the named file is not in it."""
    folder = Path(os.environ.get("MTSQL_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / needed).is_file():
        pytest.skip(f"needs {needed} in {folder}; MTSQL_SHARED_DATA names another folder")
    return folder
