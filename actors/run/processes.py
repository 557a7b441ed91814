"""The processes of a run: found as our descendants, ended with nothing left."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil

GRACE_S = 4.0
"""Between asking processes to end and killing them."""


@contextmanager
def owned_processes() -> Iterator[None]:
    """Adopt what our descendants leave behind, and end all of them after the block.

    A polite kill is Ctrl-C in the block, as in `kill_as_interrupt`.
    """
    adopt_orphans()
    with kill_as_interrupt():
        try:
            yield
        finally:
            end_processes()


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind.

    Ray and vLLM start their own processes; as their reaper we find every one of them as our
    descendant, and end nothing else.
    """
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


@contextmanager
def kill_as_interrupt(*, within_s: float | None = None) -> Iterator[None]:
    """Turn a polite kill into Ctrl-C, so that the block can clean up.

    Args:
        within_s: after a polite kill and this time, everything ends even if a cleanup hangs (the
            client of a vLLM engine that died first does at times, while it closes its sockets).
    """

    def interrupt(*_: object) -> None:
        if within_s is not None:
            timer = threading.Timer(within_s, _give_up)
            timer.daemon = True
            timer.start()
        raise KeyboardInterrupt

    # A closed terminal counts too, unless `nohup` has it ignored.
    polite = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    previous = [signal.signal(number, interrupt) for number in polite]
    try:
        yield
    finally:
        for number, handler in zip(polite, previous, strict=True):
            signal.signal(number, handler)


def _give_up() -> None:
    end_processes()
    os._exit(130)


def end_processes() -> None:
    """End every descendant of this process: politely, then surely."""
    children = psutil.Process().children(recursive=True)
    _signal(children, lambda child: child.terminate())
    _, alive = psutil.wait_procs(children, timeout=GRACE_S)
    # Some started others while they ended.
    alive = list({*alive, *psutil.Process().children(recursive=True)})
    _signal(alive, lambda child: child.kill())
    psutil.wait_procs(alive, timeout=GRACE_S)


def _signal(processes: Sequence[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        try:
            action(process)
        except psutil.NoSuchProcess:
            continue
