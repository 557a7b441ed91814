"""Processes that end with their parent."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from helpers.places import ROOT

CHILD = """
import signal, time
from mtsql.parent import die_with_parent
die_with_parent(by=signal.{by})
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_when_its_parent_is_killed(by: signal.Signals) -> None:
    words = [sys.executable, "-c", PARENT, CHILD.format(by=by.name)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    until_s = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    program = "from mtsql.parent import die_with_parent\ndie_with_parent(1 << 30)\nprint('on')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout == b""
