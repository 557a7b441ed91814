"""What verl loads in every process, through its entry point group `verl.plugins`.

Loading this module registers what a machine without a GPU needs (platform, process group, vLLM's
CPU build). On a GPU machine it registers nothing. verl hides an import error of an entry point at
DEBUG level, so every actor of ours calls `require()` at its start and fails loudly.
"""

import os

LOADED = False


def on_cpu() -> bool:
    """Whether this process belongs to a run on a machine without a GPU."""
    return os.environ.get("VERL_PLATFORM") == "cpu"


def _load() -> None:
    global LOADED
    if on_cpu():
        # They need VERL_PLATFORM=cpu.
        from actors.cpu import platform as platform_cpu  # noqa: PLC0415
        from actors.cpu import vllm as vllm_cpu  # noqa: PLC0415

        platform_cpu.register()
        vllm_cpu.register()
    LOADED = True


def require() -> None:
    """Fail with the cause when verl did not load this plugin.

    Raises:
        RuntimeError: the package is not installed (its entry point is unknown), or loading failed.
    """
    if LOADED:
        return
    try:
        _load()
    except ImportError as error:
        raise RuntimeError(f"verl did not load the plugin of mtsql: {error}") from error
    raise RuntimeError("verl did not load the plugin of mtsql: install it with `make env`")


_load()
