"""Greedy evaluation: vLLM, the environment of training, whole dialogues."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from actors.rollout.codec import load_tokenizer
from actors.rollout.dialogues import play_dialogues
from actors.rollout.player import player_of
from actors.rollout.turns import load_run_data
from mtsql.config.environment import HistoryMode
from mtsql.config.run import RunConfig
from mtsql.data.dataset import check_databases
from mtsql.evaluation.scores import ScoredTurn, summarise
from mtsql.files import write_whole
from mtsql.rewards.abilities import ability_metrics
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending
from mtsql.trajectory.store import write_trajectories


def scored_turn(attempt: Attempt) -> ScoredTurn:
    """The verdict of the last proposal; a fault of the machinery has none."""
    trajectory = attempt.trajectory
    final = trajectory.judgements[-1] if trajectory.judgements else None
    is_fault = trajectory.ending is Ending.INFRA_FAULT
    return ScoredTurn(
        dialogue_id=attempt.dialogue_id,
        turn_index=attempt.turn_index,
        hardness=attempt.hardness,
        ex=final.ex if final else (None if is_fault else False),
        em=final.em if final else (None if is_fault else False),
        status=final.status if final else ("infra_fault" if is_fault else "no_answer"),
        split=attempt.label.split,
        ex_strict=final.ex_strict if final else None,
        is_empty=final.is_empty if final else False,
    )


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
        LocalPool(dataset.databases, **config.sql.pool()) as pool,
        engine(model, config, device) as sample,
    ):
        player = player_of(config, pool, tokenizer)
        for history in histories:
            started = time.monotonic()
            tokens_before = sample.num_tokens
            labels = {
                name: Label(policy=policy, split=name, history_mode=history) for name in names
            }
            played = await play_dialogues(
                [(dialogue, labels[name]) for name in names for dialogue in dataset.splits[name]],
                dataset.schemas,
                player,
                sample,
                max_concurrent=config.evaluation.max_concurrent,
                progress=partial(progress, history),
            )
            attempts = [attempt for dialogue in played for attempt in dialogue]
            # Before anything is written: no verdict rests on a database that changed.
            check_databases(config.data_folder)
            turns = [scored_turn(attempt) for attempt in attempts]
            write_trajectories(trajectories / f"{policy}-{history}.parquet", attempts)
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
                "abilities": ability_metrics([attempt.trajectory for attempt in attempts]),
                "turns": [asdict(turn) for turn in turns],
            }
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / f"{policy}-{history}.json", json.dumps(result, indent=1))
