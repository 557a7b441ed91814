"""Fixtures and settings that every test file shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: on a busy machine one example may be slow. No database: nothing is left in the tree.
settings.register_profile("mtsql", deadline=None, database=None)
settings.load_profile("mtsql")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the official SParC, CoSQL and Spider releases."""
    named = os.environ.get("MTSQL_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "sparc" / "dev.json").is_file():
        pytest.skip(f"needs the SParC release in {folder}; MTSQL_SHARED_DATA names another folder")
    return folder
