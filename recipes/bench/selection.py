"""`mtsql bench selection`: how long rejection by difficulty takes, and how much memory.

Simulated samples of turns from the embedded data, in the files that a self-taught round writes:
gold and realistic mistakes in it, executed, judged and corrected or not, with messages,
observations and token ids of the usual length. No query runs and no model speaks; the verdicts are
drawn. Each run selects in a fresh process and so parses every query anew.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import Progress

from mtsql.chains.chain import Query, Relation, relation_of
from mtsql.config.learning import SelectionConfig
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.embedded import generate
from mtsql.dialogue import Turn
from mtsql.evaluation.records import Judgement
from mtsql.protocol import ActionName, Answer, ToolCall
from mtsql.query.edits import dropped_condition, flip_case, guessed_columns, wrong_column
from mtsql.schema import Schema
from mtsql.selftaught.selection import select
from mtsql.sql.records import ResultClass
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Fault, FaultKind, Step, Trajectory
from mtsql.trajectory.store import write_trajectories
from mtsql.trajectory.tokens import TokenSequence
from recipes.bench.common import message, show

ITEMS_PER_FILE = 32
TURNS_PER_DIALOGUE = 3
"""At least; so many dialogues are generated that every item is a turn of its own."""
NUM_MISTAKES = 6
"""Wrong queries that a policy comes upon, for each item."""
PROMPT_TOKENS = 700
STEP_TOKENS = (60, 160)
"""Of a message and its observation, at least and at most."""
TOKENS = tuple(Random(0).choices(range(150_000), k=20_000))
RIGHT = Judgement(ex=True, em=True, status="ok")
WRONG = Judgement(ex=False, em=False, status="ok")
EXECUTE = ToolCall(name=ActionName.EXECUTE)
THOUGHT = "<think>The question asks for one thing more than the one before; {}.</think>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedItem:
    turn: Turn
    dialogue_id: str
    turn_index: int
    db_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One selection: its cost, and its outcome, which is the same in every run."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    """Resident memory of the process at its highest, interpreter and libraries included."""
    num_samples: int
    num_valid: int
    num_solved: int
    num_kept: int


def run(*, num_items: int, num_samples: int, num_runs: int, as_json: bool) -> None:
    """Simulate, select in processes of their own and print medians over the runs."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        num_files = -(-num_items // ITEMS_PER_FILE)
        task = bar.add_task("selection", total=num_files + num_runs)
        folder = Path(scratch) / "samples"
        simulate(
            Path(scratch) / "data",
            folder,
            num_items=num_items,
            num_samples=num_samples,
            advance=lambda: bar.advance(task),
        )
        runs: list[Selected] = []
        for _ in range(num_runs):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
                runs.append(child.submit(spend, folder).result())
            bar.advance(task)
    figures = {
        name: statistics.median(asdict(one)[name] for one in runs) for name in Selected.__slots__
    }
    title = f"Selection, {num_items:,} items, {num_samples} samples each, {num_runs} runs"
    show(figures, title, as_json=as_json, digits=3)


def spend(folder: Path) -> Selected:
    """Select and measure; call it in a fresh process."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    figures = select(folder, SelectionConfig()).figures
    return Selected(
        wall_s=time.perf_counter() - start_s,
        cpu_s=time.process_time() - start_cpu_s,
        peak_mb=_peak_mb(),
        num_samples=figures.funnel.num_samples,
        num_valid=figures.funnel.num_valid,
        num_solved=figures.coverage.num_solved,
        num_kept=figures.funnel.num_kept,
    )


def _peak_mb() -> float:
    # ru_maxrss would hold what the parent had when it started this process.
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError("no VmHWM in /proc/self/status")


def simulate(
    data: Path,
    folder: Path,
    *,
    num_items: int,
    num_samples: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Write the samples of a round to `folder`, in as many processes as there are cores.

    Args:
        data: becomes an embedded dataset.
        advance: called after each file.
    """
    num_dialogues = -(-num_items // TURNS_PER_DIALOGUE)
    generate(data, seed=1, num_train=num_dialogues, num_valid=1, num_test=1, num_test_ood=1)
    dataset = load_dataset(data)
    items = [
        SimulatedItem(
            turn=turn, dialogue_id=dialogue.dialogue_id, turn_index=index, db_id=dialogue.db_id
        )
        for dialogue in dataset.split("train")
        for index, turn in enumerate(dialogue.turns)
    ][:num_items]
    assert len(items) == num_items
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(
                _write_file,
                folder / f"{at // ITEMS_PER_FILE:05d}.parquet",
                items[at : at + ITEMS_PER_FILE],
                _schemas(dataset, items[at : at + ITEMS_PER_FILE]),
                num_samples,
            )
            for at in range(0, num_items, ITEMS_PER_FILE)
        ]
        for job in jobs:
            job.result()
            advance()


def _schemas(dataset: Dataset, items: Sequence[SimulatedItem]) -> dict[str, Schema]:
    return {item.db_id: dataset.schemas[item.db_id] for item in items}


def _write_file(
    path: Path, items: Sequence[SimulatedItem], schemas: dict[str, Schema], num_samples: int
) -> None:
    rows: list[Attempt] = []
    for item in items:
        rng = Random(item.turn.turn_id)
        skill = rng.choice((0.0, 0.1, 0.4, 0.7, 0.95, 1.0))
        schema = schemas[item.db_id]
        mistakes = [_mistaken(item.turn.gold_sql, schema, rng) for _ in range(NUM_MISTAKES)]
        rows += [
            _stored(item, _trajectory(item, mistakes, skill, rng), rng) for _ in range(num_samples)
        ]
    write_trajectories(path, rows)


def _trajectory(
    item: SimulatedItem, mistakes: Sequence[str], skill: float, rng: Random
) -> Trajectory:
    """Wrong first proposals with probability 1 - skill, seen and corrected more often than not."""
    if rng.random() < 0.005:
        fault = Fault(kind=FaultKind.SQL_POOL, message="a worker was lost")
        return _finished(item, [], [], [], Ending.INFRA_FAULT, fault)
    steps: list[Step] = []
    proposals: list[Query] = []
    judgements: list[Judgement] = []

    def say(action: ToolCall | Answer, reply: str | None, shown: ResultClass | None = None) -> None:
        steps.append(
            Step(
                message=THOUGHT.format(rng.randrange(1000)) + message(action),
                action=action,
                observation=reply,
                proposal=len(proposals) - 1,
                relation=_relation(action, proposals),
                result_class=shown,
            )
        )

    for number in range(4):
        is_wrong = rng.random() >= (skill if number == 0 else skill / 2)
        sql = rng.choice(mistakes) if is_wrong else _style(item, rng)
        name = ActionName.CORRECT if number else ActionName.PROPOSE
        proposals.append(Query(sql))
        judgements.append(WRONG if is_wrong else RIGHT)
        say(ToolCall(name=name, sql=sql), '{"ok": true}')
        if item.turn_index and rng.random() < 0.2:
            compared = '{"kept": ["from shop", "select name"], "added": ["where city = Paris"]}'
            say(ToolCall(name=ActionName.VERIFY, target="memory"), compared)
        if rng.random() < 0.25:
            break
        shown = rng.choice((ResultClass.EMPTY, ResultClass.ERROR)) if is_wrong else ResultClass.OK
        say(EXECUTE, '{"columns": ["name"], "rows": [["Ada"], ["Bob"]], "num_rows": 2}', shown)
        if rng.random() < 0.3:
            verdict = "fail" if is_wrong else "pass"
            say(
                ToolCall(name=ActionName.VERIFY, target="execution", verdict=verdict),
                '{"ok": true}',
            )
        if not is_wrong:
            break
    say(Answer(), None)
    return _finished(item, steps, proposals, judgements, Ending.ANSWERED)


def _relation(action: ToolCall | Answer, proposals: Sequence[Query]) -> Relation | None:
    if not isinstance(action, ToolCall) or action.name is not ActionName.CORRECT:
        return None
    return relation_of(proposals[-1], proposals[-2], is_correction=True)


def _finished(
    item: SimulatedItem,
    steps: Sequence[Step],
    proposals: Sequence[Query],
    judgements: Sequence[Judgement],
    ending: Ending,
    fault: Fault | None = None,
) -> Trajectory:
    return Trajectory(
        turn_id=item.turn.turn_id,
        steps=tuple(steps),
        ending=ending,
        proposals=tuple(proposals),
        judgements=tuple(judgements),
        fault=fault,
    )


def _mistaken(sql: str, schema: Schema, rng: Random) -> str:
    kind = rng.randrange(3)
    if kind == 0 and (columns := guessed_columns(sql)):
        return flip_case(sql, columns)
    if kind == 1 and (shorter := dropped_condition(sql, rng)):
        return shorter
    return wrong_column(sql, schema, rng) or f"{sql} LIMIT 1"


def _style(item: SimulatedItem, rng: Random) -> str:
    """Gold as a policy might write it."""
    sql = item.turn.gold_sql
    if rng.random() < 0.3:
        sql = sql.replace("count(*)", "COUNT(*)").replace(" ASC", "")
    if rng.random() < 0.2:
        sql = sql.replace("SELECT ", "SELECT DISTINCT ", 1)
    return sql + ";" if rng.random() < 0.1 else sql


def _stored(item: SimulatedItem, trajectory: Trajectory, rng: Random) -> Attempt:
    num_tokens = [rng.randint(*STEP_TOKENS) for _ in trajectory.steps]
    mask = [bit for number in num_tokens for bit in (*[1] * (number - 30), *[0] * 30)]
    mask = mask[: len(mask) - 30] if mask else mask  # nothing answers the last message
    start = rng.randrange(len(TOKENS) - len(mask))
    ends = [at for at, bit in enumerate(mask) if bit and mask[at + 1 : at + 2] != [1]]
    return Attempt(
        trajectory=trajectory,
        dialogue_id=item.dialogue_id,
        turn_index=item.turn_index,
        db_id=item.db_id,
        hardness=item.turn.hardness,
        question=item.turn.question,
        gold_sql=item.turn.gold_sql,
        label=Label(policy="round_1", split="train", history_mode="gold"),
        group=item.turn.turn_id,
        reward=None,
        tokens=TokenSequence(
            prompt_ids=TOKENS[:PROMPT_TOKENS],
            response_ids=TOKENS[start : start + len(mask)],
            response_mask=tuple(mask),
            step_ends=tuple(ends),
        ),
    )
