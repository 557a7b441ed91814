"""The one place that plays a turn in tokens: environment, model, reward, record."""

import logging
from typing import Any

from actors.rollout.codec import Codec, run_codec, token_counter
from actors.rollout.play import Sample, play
from envs.turn import TurnEnv
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.reward import RewardConfig
from mtsql.config.run import RunConfig
from mtsql.dialogue import TurnSpec
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.rewards.golds import rules_of
from mtsql.rewards.score import score
from mtsql.shown.budget import CountTokens
from mtsql.sql.records import QueryLimits, SqlExecutor
from mtsql.trajectory.attempt import Attempt, Label, attempt_at
from mtsql.trajectory.records import Ending

logger = logging.getLogger(__name__)


class Player:
    """Plays turns for one tokenizer, any number of them at once.

    Args:
        executor: runs the statements of the model.
        codec: of the model in the run.
        count_tokens: measures the prompt's schema.
        rules: of the comparison with gold.
    """

    def __init__(
        self,
        executor: SqlExecutor,
        codec: Codec,
        *,
        count_tokens: CountTokens,
        environment: EnvironmentConfig,
        limits: QueryLimits,
        reward: RewardConfig,
        rules: Rules = OFFICIAL,
    ) -> None:
        self._executor = executor
        self._environment = environment
        self._limits = limits
        self._reward = reward
        self._rules = rules
        self._codec = codec
        self._count_tokens = count_tokens

    @property
    def end_of_turn(self) -> int:
        """The id at which a message ends: the chat template's own, which sampling must stop at."""
        return self._codec.end_of_turn

    async def attempt(self, spec: TurnSpec, sample: Sample, *, label: Label, group: str) -> Attempt:
        """Play one turn to its end and score it; a fault of the machinery stays unscored.

        Args:
            group: shared by the attempts that this one is compared with.
        """
        env = TurnEnv(
            spec,
            self._executor,
            self._environment,
            self._limits,
            count_tokens=self._count_tokens,
            rules=self._rules,
        )
        trajectory, tokens = await play(env, self._codec, sample, self._environment)
        reward = score(trajectory, self._reward)
        if trajectory.ending is Ending.INFRA_FAULT:
            what = {"turn": trajectory.turn_id, "policy": label.policy, "fault": trajectory.fault}
            logger.warning("trajectory lost to a fault", extra=what)
        return attempt_at(
            spec, trajectory=trajectory, tokens=tokens, reward=reward, label=label, group=group
        )


def player_of(
    config: RunConfig,
    executor: SqlExecutor,
    tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
    *,
    trains: bool,
) -> Player:
    """A player by the rules of a recipe.

    Args:
        trains: answers are compared with gold as the section `reward` says; else officially.
    """
    return Player(
        executor,
        run_codec(tokenizer, config),
        count_tokens=token_counter(tokenizer),
        environment=config.environment,
        limits=config.sql.limits(),
        reward=config.reward,
        rules=rules_of(config.reward) if trains else OFFICIAL,
    )
