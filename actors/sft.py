"""The warm start: scripted trajectories, a tiny model if asked for, and verl's SFT trainer."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer

from actors import plugin, tiny_model
from actors.codec import codec_for, token_counter
from actors.recorder import Played, stored_row
from actors.rollout import TokenSequence, encode
from actors.run_data import gold_specs, load_run_data
from envs.scripted import misleading_columns, scripted_trajectories
from envs.turn_env import TurnEnv, TurnSpec
from mtsql.config import RunConfig
from mtsql.data.dataset import Dataset
from mtsql.errors import DataError, ModelError
from mtsql.protocol import DIALECTS, ActionName
from mtsql.schema_budget import CountTokens, approximate_tokens
from mtsql.sql.pool import LocalPool
from mtsql.store import write_trajectories
from mtsql.supervised_config import ScriptConfig, WarmStartConfig
from mtsql.trajectory import Trajectory


def load_tokenizer(model: str | Path) -> Any:  # noqa: ANN401 - transformers' tokenizers share no useful type
    """The tokenizer of a model folder.

    Raises:
        ModelError: the folder holds none.
    """
    try:
        return AutoTokenizer.from_pretrained(str(model))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model.path {str(model)!r}: no Hugging Face model there "
            f"({str(error).splitlines()[0][:120]}); give a folder with config.json, "
            "tokenizer.json and weights"
        ) from error


async def _scripts(
    config: RunConfig,
    warm_start: WarmStartConfig,
    dataset: Dataset,
    specs: list[TurnSpec],
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Trajectory], list[Trajectory]]:
    """Trajectories to learn from whole, and those of which only the corrections are learned."""
    misleading = [spec for spec in specs if misleading_columns(spec)]
    num_whole = len(specs) * warm_start.trajectories_per_turn
    num_all = num_whole + len(misleading) * warm_start.corrections_per_turn

    async def played(
        specs: list[TurnSpec], scripts: ScriptConfig, per_turn: int, num_before: int
    ) -> list[Trajectory]:
        def tell(done: int, _: int) -> None:
            done += num_before
            if progress is not None and (done % 200 == 0 or done == num_all):
                progress(done, num_all)

        return await scripted_trajectories(
            specs,
            pool,
            config.environment,
            config.sql.limits(),
            scripts,
            seed=config.seed,
            per_turn=per_turn,
            progress=tell,
        )

    async with LocalPool(dataset.databases, **config.sql.pool()) as pool:
        whole = await played(specs, warm_start.scripts, warm_start.trajectories_per_turn, 0)
        always = {"wrong_case": 1.0, "execute": 1.0, "correct": 1.0}
        scripts = warm_start.scripts.model_copy(update=always)
        drills = await played(misleading, scripts, warm_start.corrections_per_turn, num_whole)
    corrected = [one for one in drills if any(s.calls(ActionName.CORRECT) for s in one.steps)]
    return whole, corrected


def _loss_mask(trajectory: Trajectory, sequence: TokenSequence, *, is_drill: bool) -> list[int]:
    """1 for each token to learn; of a drill, its corrections only."""
    mask = list(sequence.response_mask)
    if is_drill:
        begin = 0
        for step, end in zip(trajectory.steps, sequence.step_ends, strict=True):
            if not step.calls(ActionName.CORRECT):
                mask[begin : end + 1] = [0] * (end + 1 - begin)
            begin = end + 1
    return [0] * len(sequence.prompt_ids) + mask


async def _prompts(
    config: RunConfig,
    dataset: Dataset,
    specs: list[TurnSpec],
    count_tokens: CountTokens = approximate_tokens,
) -> dict[str, list[dict[str, str]]]:
    """The first messages of every turn, by turn_id; they may show values of the database."""
    async with LocalPool(dataset.databases, **config.sql.pool()) as pool:
        return {
            spec.turn.turn_id: await TurnEnv(
                spec, pool, config.environment, config.sql.limits(), count_tokens=count_tokens
            ).start()
            for spec in specs
        }


def prepare_rows(
    config: RunConfig,
    warm_start: WarmStartConfig,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Path]:
    """Write the SFT rows and, for a tiny model, its folder.

    Args:
        progress: told (trajectories played, all) now and then.

    Returns:
        (Hugging Face folder to start from, Parquet of `input_ids` and `loss_mask`).
    """
    dataset = load_run_data(config)
    specs = gold_specs(dataset, "train")
    whole, drills = asyncio.run(_scripts(config, warm_start, dataset, specs, progress))
    scripted = [*((one, False) for one in whole), *((one, True) for one in drills)]
    by_turn = {spec.turn.turn_id: spec for spec in specs}
    prompts = asyncio.run(_prompts(config, dataset, list(by_turn.values())))
    dialect = DIALECTS[config.environment.dialect]
    if config.model.tiny is not None:
        base = folder / "base"
        texts = [message["content"] for messages in prompts.values() for message in messages]
        for trajectory, _ in scripted:
            for step in trajectory.steps:
                texts.append(step.message)
                texts.append(step.observation or "")
        tiny_model.create(
            base, texts, config.model.tiny, seed=config.seed, fixed_texts=dialect.fixed_texts
        )
    else:
        assert config.model.path is not None
        base = Path(config.model.path)
    tokenizer = load_tokenizer(base)
    if config.environment.max_schema_tokens is not None:
        # A tiny model's tokenizer is made of prompts, so only now they can be measured with it.
        counter = token_counter(tokenizer)
        prompts = asyncio.run(_prompts(config, dataset, list(by_turn.values()), counter))
    codec = codec_for(dialect, tokenizer, thinking=config.model.thinking)
    prompt_ids = {turn_id: codec.prompt(messages) for turn_id, messages in prompts.items()}
    rows: list[Played] = []
    loss_masks: list[list[int]] = []
    num_drills = num_long = 0
    for number, (trajectory, is_drill) in enumerate(scripted):
        sequence = encode(trajectory, prompt_ids[trajectory.turn_id], codec)
        if len(sequence.prompt_ids) + len(sequence.response_ids) > warm_start.max_tokens:
            num_long += 1
            continue
        num_drills += is_drill
        loss_masks.append(_loss_mask(trajectory, sequence, is_drill=is_drill))
        spec = by_turn[trajectory.turn_id]
        rows.append(
            Played(
                spec=spec,
                trajectory=trajectory,
                sequence=sequence,
                reward=None,
                group=str(number),
                rl_step=0,
            )
        )
    if not rows:
        raise DataError(
            f"{config.data_folder}: no scripted trajectory fits "
            f"warm_start.max_tokens={warm_start.max_tokens}; raise it"
        )
    write_trajectories(
        folder / "scripted.parquet",
        [
            stored_row(row, policy="scripted", split="train", history_mode="gold", rl_step=0)
            for row in rows
        ],
    )
    path = folder / "rows.parquet"
    pq.write_table(
        pa.table(
            {
                "input_ids": [
                    [*row.sequence.prompt_ids, *row.sequence.response_ids] for row in rows
                ],
                "loss_mask": loss_masks,
            }
        ),
        path,
    )
    lengths = [len(row.sequence.prompt_ids) + len(row.sequence.response_ids) for row in rows]
    facts = {
        "num_trajectories": len(rows),
        "num_drills": num_drills,
        "num_too_long": num_long,
        "mean_tokens": sum(lengths) / len(lengths),
        "mean_prompt_tokens": sum(len(row.sequence.prompt_ids) for row in rows) / len(rows),
        "mean_steps": sum(len(row.trajectory.steps) for row in rows) / len(rows),
        "vocab": len(tokenizer),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return base, path


def train(config: RunConfig, device: str, base: Path, rows: Path, out: Path) -> Path:
    """Run verl's SFT trainer on this machine's devices and return the exported Hugging Face folder.

    One rank runs in this process; more of them are processes of torchrun.
    """
    assert config.warm_start is not None
    num_ranks = config.warm_start.num_ranks or config.machine.gpus_per_node
    if num_ranks == 1:
        for name, value in {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "0",
        }.items():
            os.environ.setdefault(name, value)
        train_rank(config, device, base, rows, out)
    else:
        job = {
            "recipe": config.model_dump(mode="json"),
            "device": device,
            "paths": [str(base), str(rows), str(out)],
        }
        note = rows.with_name("sft_job.json")
        note.write_text(json.dumps(job), encoding="utf-8")
        ranks = f"--nproc-per-node={num_ranks}"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", ranks]
        # The ranks share the threads that one process would have.
        threads = max(1, config.machine.learner_threads // num_ranks)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run([*torchrun, "-m", "actors.sft", str(note)], check=True, env=environment)
    return out / f"global_step_{config.warm_start.num_steps}" / "huggingface"


def train_rank(config: RunConfig, device: str, base: Path, rows: Path, out: Path) -> None:
    """One rank of the SFT trainer; its place stands in RANK and WORLD_SIZE."""
    from verl.trainer.sft_trainer import run_sft

    from actors.verl_config import sft_config

    plugin.require()
    assert config.warm_start is not None
    run_sft(sft_config(config, config.warm_start, device=device, base=base, rows=rows, out=out))


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    base, rows, out = map(Path, job["paths"])
    train_rank(RunConfig.model_validate(job["recipe"]), job["device"], base, rows, out)


if __name__ == "__main__":
    main()
