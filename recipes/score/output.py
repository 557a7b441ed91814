"""What `mtsql score` writes: rows, and a summary next to them; never over what it reads."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtsql.errors import ConfigError, DataError
from mtsql.files import partial_of, write_whole

SUMMARY = "summary.json"
MADE_BY = "mtsql score"


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse a place that holds something else; touches nothing.

    Raises:
        ConfigError: the rows or the summary would replace one of `inputs`, or each other.
        DataError: there is a folder, or a summary of another command.
    """
    if out.name == SUMMARY:
        raise ConfigError(f"--out {out}: the rows need a name of their own beside {SUMMARY}")
    if os.path.isdir(out):  # noqa: PTH112 - unlike Path, it takes a name that is too long
        raise DataError(f"--out {out}: is a folder; name a file, e.g. {out / 'rows.jsonl'}")
    summary = out.with_name(SUMMARY)
    written = (out, partial_of(out), summary, partial_of(summary))
    places = {os.path.realpath(path) for path in written}
    for path in inputs:
        if os.path.realpath(path) in places:
            raise ConfigError(f"--out {out}: would replace {path}, which is read; name another")
    for path in (out, summary):
        if os.path.exists(path) and not path.is_file():  # noqa: PTH110 - as above
            raise DataError(f"--out {out}: {path} is no plain file; choose another place")
    if os.path.isfile(summary):  # noqa: PTH113 - as above
        text = summary.read_text(encoding="utf-8", errors="replace")
        if MADE_BY not in text:
            raise DataError(f"{summary}: is not of `mtsql score`; choose --out in another folder")


def make_room(out: Path) -> None:
    """Make the folder of `out`, and see that a file can be written there.

    Raises:
        DataError: it cannot.
    """
    probe = partial_of(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"--out {out}: cannot be written ({error.filename}: {error.strerror}); choose another"
        ) from error


def write_scores(out: Path, rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    """One row a line, and the summary next to them."""
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    # A message may quote half of a surrogate pair, which UTF-8 lacks: \ud800 in JSON's spelling.
    write_whole(out, text.encode("utf-8", "backslashreplace").decode("utf-8"))
    write_whole(out.with_name(SUMMARY), json.dumps(summary, indent=1))
