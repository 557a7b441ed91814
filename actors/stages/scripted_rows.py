"""The warm start's rows: scripted trajectories in tokens, and a tiny model if asked for."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from random import Random

from actors import tiny_model
from actors.learner.sft_rows import SFTRow, learned_history, sft_row, write_rows
from actors.pretrained.wire_model import make_wire_model
from actors.rollout.codec import load_tokenizer, model_codec, run_codec, token_counter
from actors.rollout.play import encode
from actors.rollout.prompt_texts import prompts_of
from actors.rollout.turns import load_run_data, training_specs
from envs.scripts.belief import misleading_columns
from envs.scripts.policy import scripted_trajectories
from mtsql.chains.chain import Chain
from mtsql.config.learning import ScriptConfig, WarmStartConfig
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset
from mtsql.dialogue import Message, TurnSpec
from mtsql.files import write_record
from mtsql.mistakes.kinds import Scripted, script_facts
from mtsql.protocol import DIALECTS, HERMES, ActionName, CallFormat
from mtsql.rewards.golds import rules_of
from mtsql.runs.folder import WarmStartFolder
from mtsql.runs.records import WarmStartFacts
from mtsql.shown.budget import CountTokens, approximate_tokens
from mtsql.shown.harmless import neutral
from mtsql.sql.pool import LocalPool
from mtsql.trajectory.attempt import Attempt, Label, attempt_at
from mtsql.trajectory.records import Step, Trajectory
from mtsql.trajectory.store import write_trajectories
from mtsql.trajectory.tokens import TokenSequence

logger = logging.getLogger(__name__)


async def _scripts(
    config: RunConfig,
    warm_start: WarmStartConfig,
    dataset: Dataset,
    specs: list[TurnSpec],
    call_format: CallFormat,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Scripted], list[Scripted]]:
    """Trajectories to learn from whole, and those of which only the corrections are learned."""
    misleading = [spec for spec in specs if misleading_columns(spec)]
    num_whole = len(specs) * warm_start.trajectories_per_turn
    num_all = num_whole + len(misleading) * warm_start.corrections_per_turn

    async def played(
        specs: list[TurnSpec], scripts: ScriptConfig, per_turn: int, num_before: int
    ) -> list[Scripted]:
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
            call_format=call_format,
            rules=rules_of(config.reward),
            progress=tell,
        )

    async with LocalPool(dataset.databases, **config.sql.pool()) as pool:
        whole = await played(specs, warm_start.scripts, warm_start.trajectories_per_turn, 0)
        always = {"wrong_case": 1.0, "execute": 1.0, "correct": 1.0}
        scripts = warm_start.scripts.model_copy(update=always)
        drills = await played(misleading, scripts, warm_start.corrections_per_turn, num_whole)
    corrected = [
        one for one in drills if any(s.calls(ActionName.CORRECT) for s in one.trajectory.steps)
    ]
    return whole, corrected


def learned_tokens(
    trajectory: Trajectory, tokens: TokenSequence, *, is_drill: bool, mistakes: bool
) -> list[int]:
    """1 for each token of the response to learn.

    Args:
        is_drill: only its corrections are learned.
        mistakes: wrong proposals are learned, too.
    """
    mask = list(tokens.response_mask)
    begin = 0
    for step, end in zip(trajectory.steps, tokens.step_ends, strict=True):
        if (is_drill and not step.calls(ActionName.CORRECT)) or (
            not mistakes and _is_mistake(trajectory, step)
        ):
            mask[begin : end + 1] = [0] * (end + 1 - begin)
        begin = end + 1
    return mask


def _is_mistake(trajectory: Trajectory, step: Step) -> bool:
    """It proposes what gold does not answer; of views, what is replaced or leads to no answer."""
    proposes = step.calls(ActionName.PROPOSE) or step.calls(ActionName.CORRECT)
    if not proposes or step.proposal is None:
        return False
    if isinstance(trajectory.proposals[step.proposal], Chain) and trajectory.stands(step.proposal):
        return not trajectory.judgements[-1].ex
    return not trajectory.judgements[step.proposal].ex


def _last_turns(specs: Iterable[TurnSpec]) -> list[TurnSpec]:
    """The last one of each dialogue."""
    ordered = sorted(specs, key=lambda one: one.turn_index)
    return list({spec.dialogue_id: spec for spec in ordered}.values())


def _played(specs: Sequence[TurnSpec], share: float, *, seed: int) -> list[TurnSpec]:
    """Each dialogue's last turn and, of the others, those that the seed draws."""
    last = {spec.turn.turn_id for spec in _last_turns(specs)}
    return [
        spec
        for spec in specs
        if spec.turn.turn_id in last or Random(f"{seed}/{spec.turn.turn_id}").random() < share
    ]


def prepare_rows(
    config: RunConfig,
    warm_start: WarmStartConfig,
    folder: WarmStartFolder,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the rows, the trajectories they are made of, and the model to start from if the run
    makes it.

    Args:
        progress: told (trajectories played, all) now and then.

    Returns:
        The Hugging Face folder to start from.

    Raises:
        DataError: no trajectory fits max_tokens.
        ModelError: no model there, or its chat template cannot serve the dialect.
        MachineError: too little room for a copy of the model.
    """
    base = folder.base if config.model.is_made else config.model.folder
    if config.model.wire_tokens:
        make_wire_model(config.model.folder, base, config)
    call_format = HERMES
    if config.model.path is not None:
        call_format = model_codec(base, config).call_format
    dataset = load_run_data(config)
    specs = _played(training_specs(config, dataset), warm_start.turn_share, seed=config.seed)
    logger.info("scripts are played", extra={"turns": len(specs)})
    whole, drills = asyncio.run(_scripts(config, warm_start, dataset, specs, call_format, progress))
    scripted = [*((one, False) for one in whole), *((one, True) for one in drills)]
    by_turn = {spec.turn.turn_id: spec for spec in specs}

    def prompts_by_turn(count_tokens: CountTokens) -> dict[str, list[Message]]:
        prompts = asyncio.run(prompts_of(config, dataset, list(by_turn.values()), count_tokens))
        return dict(zip(by_turn, prompts, strict=True))

    prompts = prompts_by_turn(approximate_tokens)
    dialect = DIALECTS[config.environment.dialect]
    if config.model.tiny is not None:
        texts = [message["content"] for messages in prompts.values() for message in messages]
        for one, _ in scripted:
            for step in one.trajectory.steps:
                texts.append(step.message)
                texts.append(step.observation or "")
        tiny_model.create(
            base, texts, config.model.tiny, seed=config.seed, fixed_texts=dialect.fixed_texts
        )
    tokenizer = load_tokenizer(base)
    if config.environment.max_schema_tokens is not None:
        # A tiny model's tokenizer is made of prompts, so only now they can be measured with it.
        prompts = prompts_by_turn(token_counter(tokenizer))
    codec = run_codec(tokenizer, config)
    prompt_ids = {turn_id: codec.prompt(messages) for turn_id, messages in prompts.items()}
    histories: dict[str, list[int]] = {}
    if warm_start.learn_history:
        text_of = cache(lambda one: tokenizer.decode([one]))
        # The last turn shows all SQL before it: one row of each dialogue learns it.
        for spec in _last_turns(specs):
            turn_id = spec.turn.turn_id
            shown = [neutral(past.sql) for past in spec.history]
            histories[turn_id] = learned_history(prompt_ids[turn_id], shown, text_of)
    label = Label(policy="scripted", split="train", history_mode=config.environment.history)
    attempts: list[Attempt] = []
    rows: list[SFTRow] = []
    learned_whole: list[Scripted] = []
    num_drills = 0
    for one, is_drill in scripted:
        trajectory = one.trajectory
        tokens = encode(trajectory, prompt_ids[trajectory.turn_id], codec)
        learned = learned_tokens(
            trajectory, tokens, is_drill=is_drill, mistakes=warm_start.learn_mistakes
        )
        spec = by_turn[trajectory.turn_id]
        attempt = attempt_at(
            spec,
            trajectory=trajectory,
            tokens=tokens,
            reward=None,
            label=label,
            group=trajectory.turn_id,
        )
        prompt = histories.pop(trajectory.turn_id, ())
        rows.append(sft_row(attempt, learned, prompt))
        if tokens.num_tokens > warm_start.max_tokens:
            continue
        if is_drill:
            num_drills += 1
        else:
            learned_whole.append(one)
        attempts.append(attempt)
    written = write_rows(rows, folder, warm_start, seed=config.seed)
    write_trajectories(folder.scripted, attempts)
    num_attempts = len(attempts)
    facts = WarmStartFacts(
        num_trajectories=num_attempts,
        **written.model_dump(exclude={"num_trajectories"}),
        num_drills=num_drills,
        mean_tokens=sum(one.tokens.num_tokens for one in attempts) / num_attempts,
        mean_prompt_tokens=sum(len(one.tokens.prompt_ids) for one in attempts) / num_attempts,
        mean_steps=sum(len(one.trajectory.steps) for one in attempts) / num_attempts,
        vocab=len(tokenizer),
        **dict(script_facts(learned_whole)),
    )
    write_record(folder.facts, facts)
    counts = facts.model_dump(exclude={"mistakes", "shares"})
    logger.info("scripted rows written", extra={"base": base, **counts})
    return base
