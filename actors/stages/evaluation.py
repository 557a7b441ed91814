"""Greedy evaluation: vLLM, the environment of training, whole dialogues."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

from actors.rollout.codec import load_tokenizer
from actors.rollout.dialogues import play_dialogues
from actors.rollout.player import player_of
from actors.rollout.turns import load_run_data
from actors.stages.context import StageContext
from mtsql.config.environment import HistoryMode
from mtsql.config.machine import Device
from mtsql.config.run import RunConfig
from mtsql.data.dataset import check_databases
from mtsql.data.seen import shares_seen
from mtsql.evaluation.scores import ScoredTurn, Scores, summarise
from mtsql.rewards.abilities import ability_metrics
from mtsql.runs.folder import played_name, write_evaluation
from mtsql.runs.records import Evaluation
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Attempt, Label
from mtsql.trajectory.records import Ending
from mtsql.trajectory.store import write_trajectories

logger = logging.getLogger(__name__)


def scored_turn(attempt: Attempt, seen: float | None = None) -> ScoredTurn:
    """The verdict of the last proposal; None for a fault of the machinery.

    Args:
        seen: share of gold's names that golds of train use.
    """
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
        seen=seen,
    )


def evaluate_policy(context: StageContext, policy: str) -> None:
    """Evaluate a policy of the run, with the splits and histories that its recipe names."""
    _evaluate(
        context,
        context.policy_model(policy),
        policy,
        out=context.run.evaluation,
        trajectories=context.run.trajectories,
    )


def evaluate_request(context: StageContext) -> None:
    """Evaluate what `mtsql eval` asks for: any model with the recipe's data."""
    request = context.run.read_note().evaluate
    assert request is not None
    _evaluate(context, request.model, request.policy, out=request.out, trajectories=request.out)


def _evaluate(
    context: StageContext, model: Path, policy: str, *, out: Path, trajectories: Path
) -> None:
    config = context.config
    asyncio.run(
        evaluate(
            model,
            policy,
            config,
            context.device,
            out,
            trajectories,
            splits=config.evaluation.splits,
            histories=config.evaluation.histories,
            progress=lambda history, done, total: context.report(
                f"{history} history", done, total, "dialogues"
            ),
        )
    )


async def evaluate(
    model: Path,
    policy: str,
    config: RunConfig,
    device: Device,
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
    held_out = [dialogue for name in names for dialogue in dataset.splits[name]]
    seen = shares_seen(held_out, dataset.splits.get("train", ()), dataset.schemas)
    async with (
        LocalPool(dataset.databases, **config.sql.pool()) as pool,
        engine(model, config, device) as sample,
    ):
        player = player_of(config, pool, tokenizer, trains=False)
        for history in histories:
            started = time.monotonic()
            what = {"policy": policy, "history": history}
            logger.info("evaluation plays", extra=what | {"model": model})
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
            turns = [
                scored_turn(attempt, seen.get((attempt.dialogue_id, attempt.turn_index)))
                for attempt in attempts
            ]
            write_trajectories(trajectories / played_name(policy, history), attempts)
            scores = scores_by_split(turns, names, config.evaluation.num_bootstrap)
            ex = scores["all"].ex.question_match
            counts = {"ex": ex.share, "judged": ex.num_judged, "unjudged": ex.num_unjudged}
            logger.info("evaluation written", extra=what | counts)
            write_evaluation(
                out,
                Evaluation(
                    policy=policy,
                    history=history,
                    elapsed_s=time.monotonic() - started,
                    sampled_tokens=sample.num_tokens - tokens_before,
                    abilities=ability_metrics([attempt.trajectory for attempt in attempts]),
                    turns=tuple(turns),
                    **scores,
                ),
            )


class SplitScores(TypedDict):
    splits: dict[str, Scores]
    all: Scores


def scores_by_split(
    turns: Sequence[ScoredTurn], names: Sequence[str], num_samples: int
) -> SplitScores:
    """The scores of each split and of all turns.

    Args:
        num_samples: of each interval's bootstrap.
    """
    return {
        "splits": {
            name: summarise([turn for turn in turns if turn.split == name], num_samples)
            for name in names
        },
        "all": summarise(turns, num_samples),
    }
