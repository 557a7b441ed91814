"""A process that ends with the one that started it."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From sys/prctl.h."""


def die_with_parent(parent_pid: int | None = None, *, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send a signal when the parent dies, however it dies. On Linux only.

    To the kernel the parent is the thread that started this process.

    Args:
        parent_pid: the parent, for one that may be gone before this is called.

    Raises:
        SystemExit: the parent is gone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by, 0, 0, 0)
    if parent_pid is not None and os.getppid() != parent_pid:
        raise SystemExit(0)
