"""A round of sampling: scripted models on a real environment, pool and files; one real vLLM."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.places import ROOT, TESTS
from mtsql.dialogue import TurnSpec

pytest.importorskip("torch", reason="the core install holds no tokenizers")
pytest.importorskip("ray", reason="trajectories are recorded through a Ray actor's module")

from actors.rollout.codec import Codec
from actors.rollout.play import ModelFault, Sampled
from actors.rollout.sampling import Sampler, message_seed, round_files, sample_round
from actors.rollout.turns import gold_specs, load_run_data
from actors.run.machine import process_environment
from actors.tiny_model import create
from helpers.messages import ANSWER, EXECUTE, propose
from helpers.shops import ALL, FIRST, IN_PARIS, write_shops
from helpers.tokenizers import tiny_tokenizer
from mtsql.config.learning import SelfTaughtConfig
from mtsql.config.machine import MachineConfig
from mtsql.config.run import RunConfig
from mtsql.data.embedded import generate
from mtsql.errors import DataError
from mtsql.protocol import ACTIONS
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending, Fault, FaultKind
from mtsql.trajectory.store import read_trajectories

ITEMS = [
    replace(FIRST, turn=FIRST.turn.model_copy(update={"turn_id": f"hand-{n}/0"})) for n in range(5)
]
TAUGHT = SelfTaughtConfig(samples_per_item=3, items_per_file=2)
CONFIG = RunConfig.model_validate(
    {
        "name": "hand",
        "model": {"tiny": {}},
        "environment": {
            "prompt": "compact",
            "max_prompt_tokens": 400,
            "max_response_tokens": 400,
            "max_step_tokens": 100,
        },
        "rl": None,
        "selftaught": TAUGHT,
        "machine": {"max_running": 2},
    }
)
"""Five items in files of 2, 2 and 1; 6, 6 and 3 samples; four of them in flight."""


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shops(tmp_path_factory.mktemp("sampling") / "shops.sqlite")


class Model:
    """A `SeededSample`: the seed alone decides what is proposed, whether it is executed, and when.

    Args:
        fails: told the number of the call; raises to break it.
    """

    def __init__(self, tokenizer: object, fails: Callable[[int], None] = lambda call: None) -> None:
        self._codec = Codec(tokenizer, list(ACTIONS.tools))
        self._fails = fails
        self.seeds: list[int] = []

    async def __call__(self, prompt_ids: Sequence[int], *, max_tokens: int, seed: int) -> Sampled:
        self._fails(len(self.seeds))
        self.seeds.append(seed)
        for _ in range(seed % 7):
            await asyncio.sleep(0)
        num_replies = self._codec.message(prompt_ids).count("<tool_response>")
        if num_replies == 0:
            message = propose(IN_PARIS if seed % 2 else ALL)
        else:
            message = EXECUTE if num_replies == 1 and seed % 3 == 0 else ANSWER
        return Sampled(token_ids=tuple(self._codec.written(message)), logprobs=())


async def fill_within(
    pool: LocalPool,
    model: Any,
    tokenizer: object,
    out: Path,
    *,
    items: Sequence[TurnSpec] = ITEMS,
) -> list[tuple[int, int]]:
    """What `sample_round` does, with a model of its own; returns what progress was told."""
    told: list[tuple[int, int]] = []
    sampler = Sampler(model, pool, tokenizer, CONFIG, round_number=1)
    files = round_files(items, TAUGHT, out)
    await sampler.fill(files, lambda done, total: told.append((done, total)))
    return told


def fill(
    model: Any, database: Path, tokenizer: object, out: Path, **options: Any
) -> list[tuple[int, int]]:
    async def one() -> list[tuple[int, int]]:
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            return await fill_within(pool, model, tokenizer, out, **options)

    return asyncio.run(one())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def rows_of(path: Path) -> list[Attempt]:
    return read_trajectories(path / "*.parquet" if path.is_dir() else path)


@pytest.fixture(scope="module")
def whole(database: Path, tokenizer: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "samples"
    assert fill(Model(tokenizer), database, tokenizer, out)[-1] == (15, 15)
    return out


def test_files_hold_items_in_order_and_all_samples_of_each(whole: Path) -> None:
    names = sorted(path.name for path in whole.iterdir())
    assert names == ["00000.parquet", "00001.parquet", "00002.parquet"]
    found = [[row.trajectory.turn_id[5] for row in rows_of(whole / name)] for name in names]
    assert ["".join(one) for one in found] == ["000111", "222333", "444"]


def test_rows_are_scored_and_keep_their_tokens(whole: Path) -> None:
    for row in rows_of(whole):
        assert row.label == Label(policy="round_1", split="train", history_mode="gold", rl_step=0)
        assert row.group == row.trajectory.turn_id
        assert row.trajectory.ending is Ending.ANSWERED
        is_right = row.trajectory.statements == (IN_PARIS,)
        assert row.reward is not None
        assert row.reward.outcome == (2.0 if is_right else 0.0)
        assert row.tokens.prompt_ids
        assert len(row.tokens.step_ends) == len(row.trajectory.steps)
        assert sum(row.tokens.response_mask) > len(row.tokens.step_ends)


def test_every_message_has_a_seed_of_its_own(
    whole: Path, database: Path, tokenizer: object, tmp_path: Path
) -> None:
    model = Model(tokenizer)
    fill(model, database, tokenizer, tmp_path)
    names = [
        (row.trajectory.turn_id, attempt % 3, message)
        for attempt, row in enumerate(rows_of(tmp_path))
        for message in range(len(row.tokens.step_ends))
    ]
    assert sorted(model.seeds) == sorted(message_seed(1, 1, *name) for name in names)
    assert len(set(model.seeds)) == len(model.seeds)
    # What the seeds say differs between the attempts of an item, and is the same in each call.
    assert contents(tmp_path) == contents(whole)
    per_item = Counter((row.group, row.tokens.response_ids) for row in rows_of(whole))
    assert len(per_item) > len(ITEMS)


def test_seeds_are_stable_and_depend_on_all_they_name() -> None:
    # Stable: a resumed round must draw what it would have drawn, with any Python, anywhere.
    assert message_seed(1, 2, "hand-0/1", 3, 4) == 1716066351903800141
    around = [
        message_seed(1, 2, "hand-0/1", 3, 4),
        message_seed(2, 2, "hand-0/1", 3, 4),
        message_seed(1, 3, "hand-0/1", 3, 4),
        message_seed(1, 2, "hand-0/2", 3, 4),
        message_seed(1, 2, "hand-0/1", 4, 3),
        message_seed(1, 2, "hand-0/1", 3, 5),
        message_seed(1, 2, "hand-0/13", 4, 0),
    ]
    assert len(set(around)) == 7
    many = [message_seed(1, 1, f"d/{n}", attempt, 0) for n in range(500) for attempt in range(20)]
    assert len(set(many)) == 10_000
    assert 0 <= min(many) <= max(many) < 2**63


class CutError(Exception):
    """Stands for whatever ends a stage."""


def test_a_round_that_is_cut_anywhere_resumes_to_the_same_files(
    whole: Path, database: Path, tokenizer: object, tmp_path: Path
) -> None:
    num_calls = sum(len(row.tokens.step_ends) for row in rows_of(whole))
    num_saved: Counter[int] = Counter()

    async def cut_at(pool: LocalPool, cut: int) -> None:
        def fails(call: int) -> None:
            if call == cut:
                raise CutError

        out = tmp_path / str(cut)
        with pytest.raises(CutError):
            await fill_within(pool, Model(tokenizer, fails), tokenizer, out)
        saved = contents(out)
        assert saved.items() <= contents(whole).items()
        assert not out.exists() or len(saved) == len(list(out.iterdir()))
        told = await fill_within(pool, Model(tokenizer), tokenizer, out)
        assert contents(out) == contents(whole)
        assert told[0] == (sum(len(rows_of(whole / name)) for name in saved), 15)
        assert told[-1] == (15, 15)
        num_saved[len(saved)] += 1

    async def cut_everywhere() -> None:
        async with LocalPool({"shops": database}, num_workers=1) as pool:
            for cut in range(num_calls):
                await cut_at(pool, cut)

    asyncio.run(cut_everywhere())
    assert set(num_saved) == {0, 1, 2}


def killed(database: Path, out: Path, calls: int) -> None:
    """In a process of its own: dies without a word."""

    def fails(call: int) -> None:
        if call == calls:
            os.kill(os.getpid(), signal.SIGKILL)

    tokenizer = tiny_tokenizer()
    fill(Model(tokenizer, fails), database, tokenizer, out)


@pytest.mark.slow
def test_a_killed_process_leaves_whole_files_only(
    whole: Path, database: Path, tokenizer: object, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=killed, args=(database, tmp_path, 25))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert 1 <= len(contents(tmp_path)) < 3
    assert contents(tmp_path).items() < contents(whole).items()
    fill(Model(tokenizer), database, tokenizer, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_file_that_is_gone_is_made_again_and_the_others_are_not_played(
    whole: Path, database: Path, tokenizer: object, tmp_path: Path
) -> None:
    fill(Model(tokenizer), database, tokenizer, tmp_path)
    (tmp_path / "00001.parquet").unlink()
    model = Model(tokenizer)
    told = fill(model, database, tokenizer, tmp_path)
    assert told == [(9, 15), (12, 15), (15, 15)]  # three samples of an item
    assert contents(tmp_path) == contents(whole)
    played = [row for row in rows_of(tmp_path) if row.group in ("hand-2/0", "hand-3/0")]
    assert len(model.seeds) == sum(len(row.tokens.step_ends) for row in played)


def test_files_of_other_items_are_refused(whole: Path) -> None:
    with pytest.raises(DataError, match=r"00000\.parquet: holds samples of other items"):
        round_files(ITEMS[1:], TAUGHT, whole)
    assert not any(file.is_missing for file in round_files(ITEMS, TAUGHT, whole))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "00000.parquet").write_bytes(b"PAR0")
    with pytest.raises(DataError, match=r"00000\.parquet: not a Parquet file"):
        round_files(ITEMS, TAUGHT, tmp_path)


@pytest.mark.parametrize(("num_faults", "ending"), [(2, "answered"), (3, "infra_fault")])
def test_a_fault_is_played_again_twice_and_then_stored(
    num_faults: int,
    ending: str,
    whole: Path,
    database: Path,
    tokenizer: object,
    tmp_path: Path,
) -> None:
    broken = message_seed(1, 1, "hand-2/0", 1, 0)
    asked: Counter[int] = Counter()
    model = Model(tokenizer)

    async def sample(prompt_ids: Sequence[int], *, max_tokens: int, seed: int) -> Sampled:
        asked[seed] += 1
        if seed == broken and asked[seed] <= num_faults:
            raise ModelFault("gone")
        return await model(prompt_ids, max_tokens=max_tokens, seed=seed)

    fill(sample, database, tokenizer, tmp_path)
    assert asked[broken] == 3
    rows, expected = rows_of(tmp_path), rows_of(whole)
    row = rows.pop(7)
    assert row.trajectory.ending == ending
    # The same seed again: what was drawn does not tell whether there was a fault.
    if ending == "answered":
        assert row == expected[7]
    else:
        assert row.reward is None
        assert row.trajectory.fault == Fault(kind=FaultKind.MODEL_SERVER, message="gone")
    del expected[7]
    assert rows == expected


def test_no_more_are_begun_than_there_is_room_for(
    database: Path, tokenizer: object, tmp_path: Path
) -> None:
    # Four in flight and six samples in a file: twice their sum, 20 of 60, are in memory at most.
    # Three files wait for their first sample: 18 are held, and of the fourth file only 2 begin.
    items = [
        replace(FIRST, turn=FIRST.turn.model_copy(update={"turn_id": f"hand-{n}/0"}))
        for n in range(20)
    ]
    model = Model(tokenizer)
    hanging = {message_seed(1, 1, f"hand-{n}/0", 0, 0) for n in (0, 2, 4)}
    begun: set[int] = set()
    num_begun: list[int] = []
    firsts = {message_seed(1, 1, f"hand-{n}/0", a, 0) for n in range(20) for a in range(3)}
    num_in_flight = most = 0

    async def sample(prompt_ids: Sequence[int], *, max_tokens: int, seed: int) -> Sampled:
        nonlocal num_in_flight, most
        num_in_flight += 1
        most = max(most, num_in_flight)
        begun.add(seed)
        if seed in hanging:
            num_before = -1
            while len(model.seeds) > num_before:  # until nothing moves any more
                num_before = len(model.seeds)
                await asyncio.sleep(0.3)
            num_begun.append(len(begun & firsts))
        sampled = await model(prompt_ids, max_tokens=max_tokens, seed=seed)
        num_in_flight -= 1
        return sampled

    told = fill(sample, database, tokenizer, tmp_path, items=items)
    assert told[0] == (0, 60)
    assert told[-1] == (60, 60)
    assert num_begun[0] == 20
    assert most == 4
    assert len(rows_of(tmp_path)) == 60


def vllm_config(folder: Path) -> RunConfig:
    """An item in each file, 20 samples each, on the untrained model in `folder`."""
    tiny = {"vocab_size": 600, "hidden_size": 64, "num_layers": 2, "num_heads": 2}
    return CONFIG.model_copy(
        update={
            "run_dir": folder,
            "model": CONFIG.model.model_validate(
                {"tiny": tiny | {"num_kv_heads": 1, "intermediate_size": 128}}
            ),
            "environment": CONFIG.environment.model_copy(
                update={"max_prompt_tokens": 800, "max_step_tokens": 24}
            ),
            "selftaught": SelfTaughtConfig(items_per_file=1),
            "machine": MachineConfig(max_running=32, learner_threads=1),
        }
    )


def sample_with_vllm(folder: Path) -> None:
    """In a process of its own: two rounds, then one whose engine is killed."""
    config = vllm_config(folder)
    generate(config.data_folder, seed=1, num_train=4, num_valid=1, num_test=1, num_test_ood=1)
    dataset = load_run_data(config)
    items = gold_specs(dataset, "train")
    assert config.model.tiny is not None
    create(folder / "model", [item.turn.question for item in items], config.model.tiny, seed=1)

    def sample(items: Sequence[TurnSpec], out: str, progress: Callable[[int, int], None]) -> None:
        asyncio.run(
            sample_round(
                folder / "model",
                config,
                "cpu",
                dataset,
                items,
                folder / out,
                round_number=1,
                progress=progress,
            )
        )

    def kill(done: int, total: int) -> None:
        if any((folder / "dead").glob("*.parquet")):
            children = psutil.Process().children(recursive=True)
            for child in children:
                if "EngineCore" in child.name():
                    child.kill()

    sample(items[:2], "first", lambda done, total: None)
    sample(items[:2], "second", lambda done, total: None)
    sample(items, "dead", kill)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM: `make env`")
def test_vllm_draws_differently_in_each_sample_and_the_same_in_each_call(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, pathlib, test_sampling\n"
            "test_sampling.sample_with_vllm(pathlib.Path(sys.argv[1]))",
            str(tmp_path),
        ],
        env=process_environment(vllm_config(tmp_path), "cpu")
        | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, TESTS, Path(__file__).parent)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=500,
    )
    first, second = rows_of(tmp_path / "first"), rows_of(tmp_path / "second")
    assert len(first) == 40
    assert not any(row.trajectory.ending is Ending.INFRA_FAULT for row in first)
    for item in (first[:20], first[20:]):
        assert len({row.group for row in item}) == 1
        assert len({row.tokens.response_ids for row in item}) == 20
        # Neither do two messages of one trajectory draw the same.
        assert all(
            row.trajectory.steps[0].message != row.trajectory.steps[1].message for row in item
        )
    assert first == second
    # One engine start in each call.
    assert done.stdout.count("Initializing a V1 LLM engine") == 3, done.stdout[-3000:]
    # The last one died: what was saved stays, and the log ends with why.
    saved = sorted((tmp_path / "dead").iterdir())
    assert 1 <= len(saved) < 8
    assert all(len(rows_of(path)) == 20 for path in saved)
    assert done.returncode == 1
    errors = [line for line in done.stdout.splitlines() if "EngineDiedError" in line]
    assert errors[-1].startswith("actors.rollout.engine.EngineDiedError: vLLM's engine died")
