"""Other projects' SQL executors, run from the user's own checkouts for a comparison.

Each entry loads a checkout and gives a callable (database file, sql) -> result, as that project
calls it: with its own thread or semaphore, and a live limit of 5 s.
"""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mtsql.errors import ConfigError

TIMEOUT_S = 5.0
Execute = Callable[[Path, str], Awaitable[Any]]


def _module(checkout: Path, folder: str, name: str) -> Any:  # noqa: ANN401 - a stranger's module
    root = checkout / folder
    if not root.is_dir():
        raise ConfigError(f"--peer: {checkout} has no folder {folder!r}; name its checkout")
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"--peer: {checkout}: {error}; install what it needs") from error
    finally:
        sys.path.remove(str(root))


def skyrl(checkout: Path) -> Execute:
    """NovaSky-AI/SkyRL: a thread and a connection for each call; its tool blocks, so one more."""
    module = _module(checkout, "skyrl-gym", "skyrl_gym.tools.sql")

    async def execute(database: Path, sql: str) -> str:
        tools = module.SQLCodeExecutorToolGroup(str(database.parent.parent))
        return await asyncio.to_thread(tools.sql, database.stem, sql, 5, timeout=TIMEOUT_S)

    return execute


def nemo_gym(checkout: Path) -> Execute:
    """NVIDIA-NeMo/Gym, its BIRD server: the loop's threads behind a semaphore of 32."""
    module = _module(checkout, "resources_servers/bird_sql", "eval_utils")
    semaphore = asyncio.Semaphore(32)

    async def execute(database: Path, sql: str) -> list[tuple[Any, ...]] | None:
        return await module.execute_sqlite_async(database, sql, semaphore, TIMEOUT_S)

    return execute


PEERS: dict[str, Callable[[Path], Execute]] = {
    "nemo_gym": nemo_gym,
    "skyrl": skyrl,
}
