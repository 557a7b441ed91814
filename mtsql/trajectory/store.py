# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (pyarrow ships no types; the rows below are checked by the round-trip test instead)
"""Trajectories as Parquet files: what report, viewer, selection and re-scoring read.

One row is one trajectory; steps and judgements are nested, so DuckDB reads the files as they are:
    SELECT policy, avg(reward.outcome) FROM 'run/trajectories/*.parquet' GROUP BY policy
"""

import glob
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]

from mtsql.chains.chain import Chain, Proposal, Query, View
from mtsql.chains.truth import Truth
from mtsql.errors import DataError
from mtsql.evaluation.records import Judgement
from mtsql.protocol import Action, ActionName, Answer, ParseFailure, ToolCall
from mtsql.query.match import ClauseMatch
from mtsql.sql.records import ResultClass
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Fault, FaultKind, Step, Trajectory
from mtsql.trajectory.reward import Reward
from mtsql.trajectory.tokens import TokenSequence

VERSION = 4
"""Of the columns, in each file's metadata; only files of this version are read."""


_VERSION_KEY = b"mtsql_version"
_ACTION = pa.struct(
    [(name, pa.string()) for name in ("kind", "name", "sql", "target", "verdict", "reason", "view")]
)
_STEP_FACTS: dict[str, pa.DataType] = {
    "message": pa.string(),
    "observation": pa.string(),
    "proposal": pa.int32(),
    "relation": pa.string(),
    "num_rows": pa.int64(),
    "is_accepted": pa.bool_(),
    "num_kept": pa.int32(),
    "num_added": pa.int32(),
    "num_dropped": pa.int32(),
    "num_changed": pa.int32(),
    "num_ignored": pa.int32(),
    "lacks_verdict": pa.bool_(),
}
_STEP = pa.struct(
    [
        ("action", _ACTION),
        ("earlier", pa.list_(_ACTION)),
        ("result_class", pa.string()),
        *_STEP_FACTS.items(),
    ]
)
_VIEW = pa.struct([("name", pa.string()), ("sql", pa.string())])
_PROPOSAL = pa.struct([("kind", pa.string()), ("sql", pa.string()), ("views", pa.list_(_VIEW))])
_JUDGEMENT = pa.struct(
    [
        ("ex", pa.bool_()),
        ("em", pa.bool_()),
        ("status", pa.string()),
        ("message", pa.string()),
        ("ex_strict", pa.bool_()),
        ("is_empty", pa.bool_()),
    ]
)
_MATCH = pa.struct([("f1", pa.float64()), ("coherence", pa.float64()), ("is_parsed", pa.bool_())])
_VALUES = pa.list_(pa.float64())
_REWARD = pa.struct(
    [
        ("total", pa.float64()),
        ("outcome", pa.float64()),
        ("step_rewards", pa.list_(pa.float64())),
        ("attribution", pa.string()),
        ("parts", pa.list_(pa.struct([("name", pa.string()), ("values", _VALUES)]))),
    ]
)
_FAULT = pa.struct([("kind", pa.string()), ("message", pa.string())])
_FACTS: dict[str, pa.DataType] = {
    "dialogue_id": pa.string(),
    "turn_index": pa.int32(),
    "db_id": pa.string(),
    "hardness": pa.string(),
    "question": pa.string(),
    "gold_sql": pa.string(),
    "group": pa.string(),
}
_LABEL: dict[str, pa.DataType] = {
    "policy": pa.string(),
    "split": pa.string(),
    "history_mode": pa.string(),
    "rl_step": pa.int32(),
}
_TOKENS: dict[str, pa.DataType] = {
    "prompt_ids": pa.list_(pa.int32()),
    "response_ids": pa.list_(pa.int32()),
    "response_mask": pa.list_(pa.int8()),
    "step_ends": pa.list_(pa.int32()),
    "logprobs": pa.list_(pa.float64()),
}
SCHEMA = pa.schema(
    [
        ("turn_id", pa.string()),
        *_FACTS.items(),
        *_LABEL.items(),
        ("ending", pa.string()),
        ("fault", _FAULT),
        ("steps", pa.list_(_STEP)),
        ("proposals", pa.list_(_PROPOSAL)),
        ("judgements", pa.list_(_JUDGEMENT)),
        ("reward", _REWARD),
        *_TOKENS.items(),
        ("matches", pa.list_(_MATCH)),
        ("truths", pa.list_(pa.string())),
    ],
    metadata={_VERSION_KEY: str(VERSION)},
)
"""The columns of every file, an empty one's too."""


def write_trajectories(path: Path, rows: Sequence[Attempt]) -> None:
    """Write one file, whole or not at all; an older one of that name is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name does not end in .parquet: a reader's pattern never meets a half-written file.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        table = pa.Table.from_pylist([_to_row(row) for row in rows], schema=SCHEMA)
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_trajectories(pattern: str | Path) -> list[Attempt]:
    """Read all files that match a glob pattern, in the order of their names.

    Raises:
        DataError: no file matches, or one is not a trajectory file or holds tokens without a mask.
    """
    paths = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207 -- may be absolute
    if not paths:
        raise DataError(f"{pattern}: no such file; trajectories lie in RUN_DIR/trajectories")
    rows: list[Attempt] = []
    for path in paths:
        with _opened(path) as file:
            rows += [_from_row(row) for row in file.read().to_pylist()]
    return rows


def read_turn_ids(path: Path) -> list[str]:
    """The turn of each row of one file, read without the rest.

    Raises:
        DataError: it is not a trajectory file.
    """
    with _opened(str(path)) as file:
        return file.read(columns=["turn_id"])["turn_id"].to_pylist()


def read_rows(path: Path, numbers: Sequence[int]) -> list[Attempt]:
    """Read some rows of one file, by number from 0, in the order of `numbers`.

    Raises:
        DataError: no such file or row, or not a trajectory file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of trajectories")
    with _opened(str(path)) as file:
        num_rows = file.metadata.num_rows
        if any(not 0 <= number < num_rows for number in numbers):
            raise DataError(f"{path}: {num_rows} rows; there is no row {max(numbers)}")
        taken = file.read().take(pa.array(numbers, pa.int64()))
        return [_from_row(row) for row in taken.to_pylist()]


@contextmanager
def _opened(path: str) -> Generator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check(path, file.schema_arrow.names, file.schema_arrow.metadata or {})
            yield file
    # A damaged file is an OSError to Arrow, too, or a text that is not UTF-8.
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a Parquet file, or a damaged one: {reason}") from error


def _check(path: str, names: Sequence[str], metadata: Mapping[bytes, bytes]) -> None:
    version = int(metadata.get(_VERSION_KEY, b"1"))
    # Every version has the facts: a file without them is another one, not an older one.
    wanted = SCHEMA.names if version == VERSION else [*_FACTS]
    if missing := sorted(set(wanted) - set(names)):
        raise DataError(f"{path}: no column {missing[0]!r}; not a file of trajectories")
    if version != VERSION:
        raise DataError(
            f"{path}: trajectories of version {version}, and this mtsql reads version {VERSION}: "
            "play them again, or read them with the mtsql that wrote them"
        )


def _to_row(attempt: Attempt) -> dict[str, Any]:
    trajectory, reward, fault = attempt.trajectory, attempt.reward, attempt.trajectory.fault
    return {
        "turn_id": trajectory.turn_id,
        **{name: getattr(attempt, name) for name in _FACTS},
        **{name: getattr(attempt.label, name) for name in _LABEL},
        **{name: getattr(attempt.tokens, name) for name in _TOKENS},
        "ending": str(trajectory.ending),
        "fault": None if fault is None else {"kind": str(fault.kind), "message": fault.message},
        "steps": [
            {
                "action": _action_to_row(step.action),
                "earlier": [_action_to_row(action) for action in step.earlier],
                "result_class": step.result_class,
                **{name: getattr(step, name) for name in _STEP_FACTS},
            }
            for step in trajectory.steps
        ],
        "proposals": [_proposal_to_row(one) for one in trajectory.proposals],
        "judgements": [
            {field.name: getattr(one, field.name) for field in _JUDGEMENT}
            for one in trajectory.judgements
        ],
        "matches": [
            {"f1": one.f1, "coherence": one.coherence, "is_parsed": one.is_parsed}
            for one in trajectory.matches
        ],
        "truths": trajectory.truths,
        "reward": None
        if reward is None
        else {
            "total": reward.total,
            "outcome": reward.outcome,
            "step_rewards": reward.step_rewards,
            "attribution": reward.attribution,
            "parts": [{"name": name, "values": values} for name, values in reward.parts.items()],
        },
    }


def _from_row(row: dict[str, Any]) -> Attempt:
    trajectory = Trajectory(
        turn_id=row["turn_id"],
        steps=tuple(_step_from_row(step) for step in row["steps"]),
        ending=Ending(row["ending"]),
        proposals=tuple(_proposal_from_row(one) for one in row["proposals"]),
        judgements=tuple(Judgement(**one) for one in row["judgements"]),
        fault=None
        if (fault := row["fault"]) is None
        else Fault(kind=FaultKind(fault["kind"]), message=fault["message"]),
        matches=tuple(ClauseMatch(**one) for one in row["matches"]),
        truths=tuple(None if one is None else Truth(one) for one in row["truths"]),
    )
    reward = row["reward"]
    facts: dict[str, Any] = {name: row[name] for name in _FACTS}
    label: dict[str, Any] = {name: row[name] for name in _LABEL}
    return Attempt(
        trajectory=trajectory,
        tokens=_tokens_from_row(row),
        reward=None
        if reward is None
        else Reward(
            outcome=reward["outcome"],
            parts={part["name"]: tuple(part["values"]) for part in reward["parts"]},
            attribution=reward["attribution"],
        ),
        label=Label(**label),
        **facts,
    )


def _tokens_from_row(row: dict[str, Any]) -> TokenSequence:
    tokens: dict[str, Any] = {name: tuple(row[name]) for name in _TOKENS}
    try:
        return TokenSequence(**tokens)
    except ValueError as error:
        raise DataError(f"{row['turn_id']}: {error}") from error


def _step_from_row(row: dict[str, Any]) -> Step:
    facts: dict[str, Any] = {name: row[name] for name in _STEP_FACTS}
    shown = row["result_class"]
    return Step(
        action=_action_from_row(row["action"]),
        earlier=tuple(_call_from_row(action) for action in row["earlier"]),
        result_class=None if shown is None else ResultClass(shown),
        **facts,
    )


def _proposal_to_row(proposal: Proposal) -> dict[str, Any]:
    match proposal:
        case Query(sql=sql):
            return {"kind": "query", "sql": sql}
        case Chain(views=views):
            parts = [{"name": view.name, "sql": view.sql} for view in views]
            return {"kind": "chain", "sql": proposal.sql, "views": parts}


def _proposal_from_row(row: dict[str, Any]) -> Proposal:
    if row["kind"] == "query":
        return Query(row["sql"])
    return Chain(tuple(View(**view) for view in row["views"]))


def _action_to_row(action: Action) -> dict[str, str | None]:
    match action:
        case ToolCall():
            return {
                "kind": "tool_call",
                "name": str(action.name),
                "sql": action.sql,
                "target": action.target,
                "verdict": action.verdict,
                "view": action.view,
            }
        case Answer():
            return {"kind": "answer"}
        case ParseFailure():
            return {"kind": "parse_failure", "reason": action.reason}


def _action_from_row(row: dict[str, Any]) -> Action:
    match row["kind"]:
        case "tool_call":
            return _call_from_row(row)
        case "answer":
            return Answer()
        case kind:
            assert kind == "parse_failure", kind
            return ParseFailure(reason=row["reason"])


def _call_from_row(row: dict[str, Any]) -> ToolCall:
    return ToolCall(
        name=ActionName(row["name"]),
        sql=row["sql"],
        target=row["target"],
        verdict=row["verdict"],
        view=row["view"],
    )
