"""`mtsql bench sampling`: what a round of sampling costs, compared with vLLM alone.

Ours is `actors.rollout.sampling.Sampler` as a round runs it: trajectories through environment,
SQL pool, judging and files. Offline is `vllm.LLM.generate` with the same engine arguments. It is
given all those prompts at once, also the later ones of each trajectory, which only the
environment's replies made known; each with its seed, to stop after as many tokens. Both engines
are started and warm before the clock runs, and begin each run with an empty prefix cache. Each run
has its own items, so that no cache of ours knows their queries.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from actors.rollout.turns import gold_specs, load_run_data
from actors.run.checks import check_model
from actors.run.machine import device_of, process_environment
from actors.run.processes import owned_processes
from mtsql.config.learning import SelfTaughtConfig
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset
from mtsql.dialogue import TurnSpec
from mtsql.errors import DataError
from mtsql.runs.folder import RunFolder
from mtsql.sql.pool import LocalPool
from recipes.bench.common import Spent, show

NUM_WARM_UP = 4
"""Items before the first run."""


def run(
    config: RunConfig, *, model: Path | None, num_items: int, num_runs: int, as_json: bool
) -> None:
    """Measure in a separate process, as a stage is one, and print the figures.

    Args:
        model: a model folder; None: the warm start of the recipe's run.
        num_items: of each run.

    Raises:
        UserError: no model, no data, or fewer training turns than the runs need.
    """
    if config.selftaught is None:
        config = config.model_copy(update={"selftaught": SelfTaughtConfig()})
    chosen = model if model is not None else RunFolder(config.folder).warm_start.model
    check_model(chosen, "--model" if model is not None else "the run's warm start")
    num_turns, num_needed = len(items_of(load_run_data(config))), NUM_WARM_UP + num_runs * num_items
    if num_turns < num_needed:
        raise DataError(
            f"{config.data_folder}: {num_turns} training turns; {num_runs} runs of {num_items} "
            f"items take {num_needed}: give smaller --runs or --items"
        )
    device = device_of(config)
    with tempfile.TemporaryDirectory() as scratch, owned_processes():
        job, figures = Path(scratch) / "job.json", Path(scratch) / "figures.json"
        recipe = config.model_dump(mode="json")
        job.write_text(json.dumps([recipe, device, str(chosen), num_items, num_runs]), "utf-8")
        # vLLM speaks on standard output, which is for the figures.
        environment = process_environment(config, device) | {"VLLM_LOGGING_LEVEL": "ERROR"}
        child = [sys.executable, "-m", "recipes.bench.sampling", str(job), str(figures)]
        subprocess.run(child, env=environment, stdout=2, check=True)
        shown = json.loads(figures.read_text("utf-8"))
    title = f"Sampling on {device}, {num_items} items in each of {num_runs} runs"
    show(shown, title, as_json=as_json, digits=3)


def items_of(dataset: Dataset) -> list[TurnSpec]:
    """All training turns, in the order of the dialogues."""
    return gold_specs(dataset, "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One message as it was sampled."""

    prompt_ids: list[int]
    seed: int
    num_tokens: int = 0


class Recording:
    """A `SeededSample` that remembers what it was asked, in that order, and how much it gave."""

    def __init__(self, engine: Any) -> None:  # noqa: ANN401 - its module imports vLLM
        self._engine = engine
        self.requests: list[Request] = []

    async def __call__(self, prompt_ids: Sequence[int], *, max_tokens: int, seed: int) -> Any:  # noqa: ANN401
        place = len(self.requests)
        self.requests.append(Request(prompt_ids=list(prompt_ids), seed=seed))
        sampled = await self._engine(prompt_ids, max_tokens=max_tokens, seed=seed)
        self.requests[place] = replace(self.requests[place], num_tokens=len(sampled.token_ids))
        return sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run took, and what was generated in it."""

    ours: Spent
    offline: Spent
    unseeded: Spent
    """Offline again, all requests sharing one generator."""
    num_requests: int
    num_tokens: int
    num_prompt_tokens: int


class Offline:
    """vLLM as a script uses it: every prompt at once, each to stop after as many tokens."""

    def __init__(self, config: RunConfig, device: Device, model: Path, temperature: float) -> None:
        from vllm import LLM

        from actors.rollout.engine import engine_arguments

        self._llm = LLM(**engine_arguments(model, config, device))
        self._temperature = temperature

    def generate(self, requests: Sequence[Request], *, is_seeded: bool) -> Spent:
        from vllm import TokensPrompt

        from actors.rollout.engine import sampling_params

        self._llm.reset_prefix_cache()
        begin = Spent.now()
        params = [
            sampling_params(self._temperature, one.num_tokens, one.seed if is_seeded else None)
            for one in requests
        ]
        for one in params:
            one.ignore_eos = True
        prompts = [TokensPrompt(prompt_token_ids=one.prompt_ids) for one in requests]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        spent = Spent.now().since(begin)
        lengths = [len(one.outputs[0].token_ids) for one in outputs]
        assert lengths == [one.num_tokens for one in requests]
        return spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A round's sampling."""

    llm: Any
    config: RunConfig
    taught: SelfTaughtConfig
    dataset: Dataset
    tokenizer: Any

    async def sample(self, items: Sequence[TurnSpec]) -> tuple[Spent, list[Request]]:
        """All samples of the items, and what the engine was asked for them."""
        from actors.rollout.sampling import Sampler, round_files

        await self.llm.reset_prefix_cache()
        recording = Recording(self.llm)
        with tempfile.TemporaryDirectory() as folder:
            async with LocalPool(self.dataset.databases, **self.config.sql.pool()) as pool:
                begin = Spent.now()
                files = round_files(items, self.taught, Path(folder))
                sampler = Sampler(recording, pool, self.tokenizer, self.config, round_number=1)
                await sampler.fill(files, lambda done, total: None)
                return Spent.now().since(begin), recording.requests


async def measure(
    config: RunConfig,
    device: Device,
    model: Path,
    *,
    num_items: int,
    num_runs: int,
    advance: Callable[[], None],
) -> dict[str, float]:
    """The figures by name; call it in a process that has the stage's environment."""
    from actors.rollout.codec import load_tokenizer
    from actors.rollout.engine import engine

    taught = config.selftaught
    assert taught is not None
    temperature = taught.temperature
    dataset, tokenizer = load_run_data(config), load_tokenizer(model)
    items = items_of(dataset)
    begin = Spent.now()
    offline = Offline(config, device, model, temperature)
    offline_start = Spent.now().since(begin)
    begin = Spent.now()
    async with engine(model, config, device, temperature=temperature) as llm:
        ours_start = Spent.now().since(begin)
        ours = Ours(llm=llm, config=config, taught=taught, dataset=dataset, tokenizer=tokenizer)
        _, requests = await ours.sample(items[:NUM_WARM_UP])
        for is_seeded in (True, False):
            offline.generate(requests, is_seeded=is_seeded)
        runs: list[Run] = []
        for number in range(num_runs):
            first = NUM_WARM_UP + number * num_items
            spent, requests = await ours.sample(items[first : first + num_items])
            runs.append(
                Run(
                    ours=spent,
                    offline=offline.generate(requests, is_seeded=True),
                    unseeded=offline.generate(requests, is_seeded=False),
                    num_requests=len(requests),
                    num_tokens=sum(one.num_tokens for one in requests),
                    num_prompt_tokens=sum(len(one.prompt_ids) for one in requests),
                )
            )
            advance()
    return figures_of(
        runs,
        num_samples=num_items * taught.samples_per_item,
        ours_start_s=ours_start.wall_s,
        offline_start_s=offline_start.wall_s,
    )


def figures_of(
    runs: Sequence[Run], *, num_samples: int, ours_start_s: float, offline_start_s: float
) -> dict[str, float]:
    """Medians over the runs, each of `num_samples` trajectories."""

    def median(figure: Callable[[Run], float]) -> float:
        return statistics.median(map(figure, runs))

    ours_s = median(lambda one: one.ours.wall_s)
    offline_s = median(lambda one: one.offline.wall_s)
    return {
        "times_offline": ours_s / offline_s,
        "ours_s": ours_s,
        "offline_s": offline_s,
        "offline_unseeded_s": median(lambda one: one.unseeded.wall_s),
        "ours_cpu_s": median(lambda one: one.ours.cpu_s),
        "offline_cpu_s": median(lambda one: one.offline.cpu_s),
        "ours_start_s": ours_start_s,
        "offline_start_s": offline_start_s,
        "trajectories_per_s": num_samples / ours_s,
        "tokens_per_s": median(lambda one: one.num_tokens / one.ours.wall_s),
        "requests": median(lambda one: one.num_requests),
        "tokens": median(lambda one: one.num_tokens),
        "prompt_tokens": median(lambda one: one.num_prompt_tokens),
    }


def main() -> None:
    job, out = map(Path, sys.argv[1:])
    recipe, device, model, num_items, num_runs = json.loads(job.read_text("utf-8"))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=num_runs)
        figures = asyncio.run(
            measure(
                RunConfig.model_validate(recipe),
                device,
                Path(model),
                num_items=num_items,
                num_runs=num_runs,
                advance=lambda: bar.advance(task),
            )
        )
    out.write_text(json.dumps(figures), "utf-8")


if __name__ == "__main__":
    main()
