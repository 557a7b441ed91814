"""A checkout of the official evaluator, run in a separate process that may hang or die."""

import json
import queue
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtsql.errors import MachineError
from mtsql.schema import Schema

RUNNER = Path(__file__).with_name("official_runner.py")
NEEDED = ("nltk", "sqlparse", "tqdm")


def require_official(checkout: Path, python: Path) -> None:
    """Raises MachineError when the official evaluator cannot be run here."""
    if not (checkout / "evaluation.py").is_file():
        raise MachineError(
            f"{checkout}: no evaluation.py; name a checkout of taoyds/test-suite-sql-eval"
        )
    program = f"import {', '.join(NEEDED)}"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, check=False)
    except OSError as error:
        raise MachineError(f"{python}: cannot be run ({error.strerror})") from error
    if done.returncode:
        raise MachineError(
            f"{python}: lacks one of {', '.join(NEEDED)}, which the official evaluator "
            "needs; name an interpreter that has them with --official-python"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    db_id: str
    gold: str
    pred: str
    kind: str = ""
    """What was done to gold to get the prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """Where the official evaluator is, and what it reads."""

    checkout: Path
    python: Path
    """An interpreter that has nltk, sqlparse and tqdm."""
    db_root: Path
    tables: Path
    core: int | None = None
    """The only core it may use."""
    timeout_s: float = 20.0
    """A pair that takes longer hangs: the process is killed and the next pair gets a new one."""

    def judge(
        self,
        pairs: Sequence[Pair],
        what: str,
        *,
        keep_distinct: bool = False,
        plug_value: bool = False,
    ) -> list[dict[str, Any]]:
        """One answer for each pair: `ex` or `em`, or `error` when it crashed or hung; `seconds`.

        Args:
            what: "exec" or "match".
        """
        job = {
            "checkout": str(self.checkout),
            "db_root": str(self.db_root),
            "tables": str(self.tables),
            "core": self.core,
            "what": what,
            "keep_distinct": keep_distinct,
            "plug_value": plug_value,
        }
        answers: list[dict[str, Any]] = []
        while len(answers) < len(pairs):
            answers += self._some(job, pairs[len(answers) :])
        return answers

    def _some(self, job: dict[str, Any], pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        """Answers until the end, or to the pair that stopped the process."""
        lines: queue.Queue[str | None] = queue.Queue()
        process = subprocess.Popen(
            [self.python, RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        threads = [
            threading.Thread(target=_write, args=(process.stdin, job, pairs), daemon=True),
            threading.Thread(target=_read, args=(process.stdout, lines), daemon=True),
        ]
        for thread in threads:
            thread.start()
        answers: list[dict[str, Any]] = []
        try:
            while len(answers) < len(pairs):
                line = lines.get(timeout=self.timeout_s)
                answers.append({"error": "died"} if line is None else json.loads(line))
                if line is None:
                    break
        except queue.Empty:
            answers.append({"error": f"hangs: no answer in {self.timeout_s:g} s"})
        finally:
            process.kill()
            process.wait()
            for thread in threads:
                thread.join()
            process.stdout.close()
        return answers


def _write(stream: Any, job: dict[str, Any], pairs: Sequence[Pair]) -> None:  # noqa: ANN401
    try:
        stream.write(json.dumps(job) + "\n")
        for pair in pairs:
            row = {"db_id": pair.db_id, "gold": pair.gold, "pred": pair.pred}
            stream.write(json.dumps(row) + "\n")
        stream.close()
    except OSError:  # it is gone; its reader says so
        return


def _read(stream: Any, lines: "queue.Queue[str | None]") -> None:  # noqa: ANN401
    for line in stream:
        lines.put(line)
    lines.put(None)


def spider_tables(schemas: Sequence[Schema]) -> list[dict[str, Any]]:
    """Schemas as the official script reads them from tables.json."""
    return [_spider_entry(schema) for schema in schemas]


def _spider_entry(schema: Schema) -> dict[str, Any]:
    columns: list[tuple[int, str]] = [(-1, "*")]
    place: dict[tuple[str, str], int] = {}
    for number, table in enumerate(schema.tables):
        for column in table.columns:
            place[table.name.lower(), column.name.lower()] = len(columns)
            columns.append((number, column.name))
    return {
        "db_id": schema.db_id,
        "table_names_original": [table.name for table in schema.tables],
        "column_names_original": columns,
        "foreign_keys": [
            (
                place[key.table.lower(), key.column.lower()],
                place[key.ref_table.lower(), key.ref_column.lower()],
            )
            for key in schema.foreign_keys
        ],
    }
