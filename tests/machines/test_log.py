"""Our code logs JSON objects to one file, a line each, whichever process writes; no noise in it."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from actors import log
from helpers.places import ROOT


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


CHILD = """
import logging, sys
from actors import log
log.follow()
logging.getLogger("mtsql.sql.lane").warning("worker killed", extra={"worker": 7})
logging.getLogger("vllm.engine").error("noise")
logging.getLogger().error("more noise")
print("printed noise")
try:
    raise ValueError("two\\nlines")
except ValueError:
    logging.getLogger("actors.stages").exception("stage process failed")
"""


def test_a_process_and_those_it_starts_log_to_one_file(tmp_path: Path) -> None:
    file = tmp_path / "mtsql.jsonl"
    with log.written_to(file, "info"):
        logging.getLogger("actors.run.stage").info("stage starts", extra={"of": "rl", "at": file})
        logging.getLogger("mtsql.sql.lane").debug("below the level")
        logging.getLogger("ray").error("noise")
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            env={**os.environ, **log.variables("rl"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
    logging.getLogger("actors.run.stage").error("behind the block")
    first, second, third = lines_of(file)
    assert (first["level"], first["logger"]) == ("info", "actors.run.stage")
    assert (first["message"], first["of"], first["at"]) == ("stage starts", "rl", str(file))
    assert (first["stage"], first["process"]) == (None, os.getpid())
    assert first["time"].endswith("Z")
    assert (second["stage"], second["level"], second["worker"]) == ("rl", "warning", 7)
    assert second["process"] != os.getpid()
    assert third["exception"].endswith("ValueError: two\nlines")
    # What the libraries say goes where it went, and ours does not go there.
    assert "noise" in done.stderr
    assert "worker killed" not in done.stderr
    assert log.variables() == {}


def test_nothing_is_said_where_nobody_asked_for_a_log(tmp_path: Path) -> None:
    program = (
        "import logging, actors, envs, mtsql\n"
        "from actors import log\n"
        "log.follow()\n"
        "for name in ('actors.a', 'envs.b', 'mtsql.c'): logging.getLogger(name).error('word')"
    )
    environment = {name: value for name, value in os.environ.items() if name != log.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, capfd: Any) -> None:
    with log.written_to(tmp_path / "gone" / "mtsql.jsonl", "info"):
        logging.getLogger("mtsql.a").error("word")
    assert capfd.readouterr() == ("", "")
