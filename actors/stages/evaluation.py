"""Greedy evaluation: vLLM, the environment of training, whole dialogues."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from actors.learner.recorder import Played, stored_row
from actors.rollout.codec import codec_for, load_tokenizer, token_counter
from actors.rollout.play import Sample, play
from actors.rollout.turns import load_run_data
from envs.play import remembered
from envs.turn import TurnEnv
from mtsql.config.environment import HistoryMode
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset, check_databases
from mtsql.dialogue import Dialogue, PastTurn, turn_specs
from mtsql.evaluation.scores import ScoredTurn, summarise
from mtsql.files import write_whole
from mtsql.rewards.abilities import ability_metrics
from mtsql.rewards.score import score
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import SqlExecutor
from mtsql.trajectory.records import Ending
from mtsql.trajectory.store import write_trajectories


async def play_dialogue(
    dialogue: Dialogue,
    dataset: Dataset,
    history: HistoryMode,
    executor: SqlExecutor,
    tokenizer: object,
    sample: Sample,
    config: RunConfig,
) -> list[Played]:
    """All turns of one dialogue.

    With predicted history a turn waits for the one before it and remembers the agent's own SQL;
    with gold history the turns do not depend on each other and run together.
    """
    specs = turn_specs(dialogue, dataset.schemas[dialogue.db_id])

    async def one(number: int, past: tuple[PastTurn, ...]) -> Played:
        spec = replace(specs[number], history=past)
        env = TurnEnv(
            spec,
            executor,
            config.environment,
            config.sql.limits(),
            count_tokens=token_counter(tokenizer),
        )
        codec = codec_for(env.dialect, tokenizer, thinking=config.model.thinking)
        trajectory, sequence = await play(env, codec, sample, config.environment)
        return Played(
            spec=spec,
            trajectory=trajectory,
            sequence=sequence,
            reward=score(trajectory, config.reward),
            group=dialogue.dialogue_id,
            rl_step=0,
        )

    if history == "gold":
        return list(await asyncio.gather(*(one(i, spec.history) for i, spec in enumerate(specs))))
    played: list[Played] = []
    past: tuple[PastTurn, ...] = ()
    for number in range(len(specs)):
        row = await one(number, past)
        played.append(row)
        past = (*past, remembered(row.spec, row.trajectory))
    return played


def scored_turn(row: Played, split: str) -> ScoredTurn:
    """The verdict of the last proposal; a fault of the machinery has none."""
    trajectory = row.trajectory
    final = trajectory.judgements[-1] if trajectory.judgements else None
    is_fault = trajectory.ending is Ending.INFRA_FAULT
    return ScoredTurn(
        dialogue_id=row.spec.dialogue_id,
        turn_index=row.spec.turn_index,
        hardness=row.spec.turn.hardness,
        ex=final.ex if final else (None if is_fault else False),
        em=final.em if final else (None if is_fault else False),
        status=final.status if final else ("infra_fault" if is_fault else "no_answer"),
        split=split,
        ex_strict=final.ex_strict if final else None,
        is_empty=final.is_empty if final else False,
    )


async def play_dialogues(
    dialogues: Sequence[Dialogue],
    dataset: Dataset,
    history: HistoryMode,
    executor: SqlExecutor,
    tokenizer: object,
    sample: Sample,
    config: RunConfig,
    progress: Callable[[int, int], None],
) -> list[list[Played]]:
    """All turns of each dialogue, in the given order; `evaluation.max_concurrent` play together.

    Args:
        progress: told (dialogues done, dialogues in all).
    """
    slots = asyncio.Semaphore(config.evaluation.max_concurrent)
    num_done = 0

    async def one(dialogue: Dialogue) -> list[Played]:
        nonlocal num_done
        async with slots:
            rows = await play_dialogue(
                dialogue, dataset, history, executor, tokenizer, sample, config
            )
        num_done += 1
        progress(num_done, len(dialogues))
        return rows

    return list(await asyncio.gather(*(one(dialogue) for dialogue in dialogues)))


async def evaluate(
    model: Path,
    policy: str,
    config: RunConfig,
    device: str,
    out: Path,
    trajectories: Path,
    *,
    splits: Sequence[str],
    histories: Sequence[HistoryMode],
    progress: Callable[[str, int, int], None],
) -> None:
    """Play every dialogue of the splits and write what came out.

    For each history mode: `out/POLICY-HISTORY.json` (scores by split and every turn's verdict) and
    `trajectories/POLICY-HISTORY.parquet`.

    Args:
        model: Hugging Face folder.
        policy: label of the model in files and reports.
        progress: told (history, dialogues done, dialogues in all).

    Raises:
        DataError: the data are not whole, or a database changed meanwhile.
    """
    from actors.rollout.engine import engine

    dataset = load_run_data(config)
    tokenizer = load_tokenizer(model)
    names = [name for name in splits if dataset.splits.get(name)]
    async with (
        LocalPool(
            dataset.databases,
            **config.sql.pool(),
        ) as pool,
        engine(model, config, device) as sample,
    ):
        work = [(name, dialogue) for name in names for dialogue in dataset.splits[name]]
        for history in histories:
            started = time.monotonic()
            tokens_before = sample.num_tokens
            played = await play_dialogues(
                [dialogue for _, dialogue in work],
                dataset,
                history,
                pool,
                tokenizer,
                sample,
                config,
                partial(progress, history),
            )
            done = [
                (name, row) for (name, _), rows in zip(work, played, strict=True) for row in rows
            ]
            # Before anything is written: no verdict rests on a database that changed.
            check_databases(config.data_folder)
            turns = [scored_turn(row, name) for name, row in done]
            write_trajectories(
                trajectories / f"{policy}-{history}.parquet",
                [
                    stored_row(row, policy=policy, split=name, history_mode=history, rl_step=0)
                    for name, row in done
                ],
            )
            result = {
                "policy": policy,
                "history": history,
                "decoding": "greedy",
                "elapsed_s": time.monotonic() - started,
                "sampled_tokens": sample.num_tokens - tokens_before,
                "splits": {
                    name: asdict(summarise([turn for turn in turns if turn.split == name]))
                    for name in names
                },
                "all": asdict(summarise(turns)),
                "abilities": ability_metrics([row.trajectory for _, row in done]),
                "turns": [asdict(turn) for turn in turns],
            }
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / f"{policy}-{history}.json", json.dumps(result, indent=1))
