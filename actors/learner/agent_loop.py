"""Our agent loop in verl: one instance plays one turn; verl gets tokens, the Recorder the rest."""

from collections.abc import Sequence
from typing import Any

import ray
from verl.experimental.agent_loop.agent_loop import (
    AgentLoopBase,
    AgentLoopMetrics,
    AgentLoopOutput,
)

from actors import log, plugin
from actors.learner.recorder import NAMESPACE, RECORDER, SPEC, row_key
from actors.rollout.play import Sampled
from actors.rollout.player import player_of
from actors.sql_pool import sql_client
from mtsql.config.run import RunConfig
from mtsql.trajectory.attempt import Label

plugin.require()
log.follow()


class DialogueAgentLoop(AgentLoopBase):
    """Made by verl for every trajectory, so it holds nothing heavy.

    Args:
        run: the recipe as JSON.
        verl: what verl passes to every agent loop.
    """

    def __init__(self, *, run: str, **verl: Any) -> None:  # noqa: ANN401 - verl's own objects
        super().__init__(**verl)
        self._config = RunConfig.model_validate_json(run)

    async def run(
        self,
        sampling_params: dict[str, Any],
        **row: Any,  # noqa: ANN401 - the dataset's columns
    ) -> Sequence[AgentLoopOutput]:
        """Play one turn; after an infrastructure fault verl trains on its siblings only."""
        config = self._config
        spec = SPEC.validate_json(row["extra_info"]["spec"])
        group = f"{row['uid']}"
        versions: list[int] = []
        player = player_of(config, sql_client(NAMESPACE), self.tokenizer, trains=True)

        async def sample(prompt_ids: Sequence[int], *, max_tokens: int) -> Sampled:
            output = await self.server_manager.generate(
                request_id=f"{group}-{row['session_id']}",
                prompt_ids=list(prompt_ids),
                sampling_params={
                    **sampling_params,
                    "max_tokens": max_tokens,
                    "stop_token_ids": [player.end_of_turn],
                },
            )
            versions.append(output.extra_fields.get("global_steps") or 0)
            return Sampled(
                token_ids=tuple(output.token_ids), logprobs=tuple(output.log_probs or ())
            )

        label = Label(
            policy="rl",
            split="train",
            history_mode=config.environment.history,
            rl_step=int(row["global_steps"]),
        )
        attempt = await player.attempt(spec, sample, label=label, group=group)
        # Waited for, so that a row that verl trains on is one that the Recorder knows.
        recorder: Any = ray.get_actor(RECORDER, namespace=NAMESPACE)
        await recorder.add.remote(attempt, key=row_key(group, row["session_id"]))
        trajectory, tokens, reward = attempt.trajectory, attempt.tokens, attempt.reward
        if reward is None or not tokens.response_ids:
            return []
        return [
            AgentLoopOutput(
                prompt_ids=list(tokens.prompt_ids),
                response_ids=list(tokens.response_ids),
                response_mask=list(tokens.response_mask),
                response_logprobs=list(tokens.logprobs),
                reward_score=reward.total,
                num_turns=len(trajectory.steps),
                metrics=AgentLoopMetrics(),
                extra_fields={
                    "min_global_steps": min(versions),
                    "max_global_steps": max(versions),
                    "reward_extra_info": {
                        "acc": float(trajectory.judgements[-1].ex or 0)
                        if trajectory.judgements
                        else 0.0
                    },
                },
            )
        ]
