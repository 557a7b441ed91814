"""Rules about sections of a recipe that must fit each other: one function for each rule.

Each returns what is wrong and how to change it, in one line, or None.
"""

from collections.abc import Callable
from typing import Protocol

from mtsql.config.data import DataConfig
from mtsql.config.environment import EnvironmentConfig
from mtsql.config.learning import FineTuneConfig, SelfTaughtConfig, WarmStartConfig
from mtsql.config.machine import MachineConfig
from mtsql.config.model import ModelConfig


class Recipe(Protocol):
    """The sections that the rules look at."""

    @property
    def data(self) -> DataConfig: ...
    @property
    def model(self) -> ModelConfig: ...
    @property
    def environment(self) -> EnvironmentConfig: ...
    @property
    def warm_start(self) -> WarmStartConfig | None: ...
    @property
    def selftaught(self) -> SelfTaughtConfig | None: ...
    @property
    def machine(self) -> MachineConfig: ...


def release_has_a_folder(recipe: Recipe) -> str | None:
    data = recipe.data
    if data.source == "embedded" or data.source_dir is not None or data.folder is not None:
        return None
    return f"data.source is {data.source!r}: set data.source_dir to the folder of the release"


def random_weights_are_trained_first(recipe: Recipe) -> str | None:
    if recipe.model.tiny is None or recipe.warm_start is not None:
        return None
    return "model.tiny starts from random weights: keep warm_start"


def wire_tokens_are_learned(recipe: Recipe) -> str | None:
    if not recipe.model.wire_tokens:
        return None
    if recipe.warm_start is None:
        return "model.wire_tokens adds tokens that only the warm start teaches: keep warm_start"
    if recipe.warm_start.lora_rank:
        return (
            f"model.wire_tokens adds tokens, and warm_start.lora_rank={recipe.warm_start.lora_rank}"
            " learns no embeddings: set warm_start.lora_rank=0, or drop model.wire_tokens"
        )
    return None


def history_is_found(recipe: Recipe) -> str | None:
    warm_start = recipe.warm_start
    if warm_start is None or not warm_start.learn_history or recipe.environment.prompt == "compact":
        return None
    return (
        "warm_start.learn_history reads the prompt `compact`: set environment.prompt=compact, or "
        "warm_start.learn_history=false"
    )


def replay_has_scripts(recipe: Recipe) -> str | None:
    taught = recipe.selftaught
    if taught is None or not taught.replay or recipe.warm_start is not None:
        return None
    return (
        "selftaught.replay repeats the warm start's scripts: keep warm_start, or set "
        "selftaught.replay=0"
    )


def ranks_share_a_batch(recipe: Recipe) -> str | None:
    fine_tunes: dict[str, FineTuneConfig] = {}
    if recipe.warm_start is not None:
        fine_tunes["warm_start"] = recipe.warm_start
    if recipe.selftaught is not None:
        fine_tunes["selftaught.fine_tune"] = recipe.selftaught.fine_tune
    for key, fine_tune in fine_tunes.items():
        num_ranks = fine_tune.num_ranks or recipe.machine.gpus_per_node
        if fine_tune.batch_size % num_ranks:
            return (
                f"{key}.batch_size is {fine_tune.batch_size}, but {num_ranks} ranks share it: "
                f"make it a multiple, or set {key}.num_ranks"
            )
    return None


def replicas_fill_a_node(recipe: Recipe) -> str | None:
    machine = recipe.machine
    if machine.gpus_per_node % machine.tensor_parallel == 0:
        return None
    return (
        f"machine.tensor_parallel is {machine.tensor_parallel}, which does not divide "
        f"machine.gpus_per_node {machine.gpus_per_node}: set one of them"
    )


def tiny_model_holds_a_turn(recipe: Recipe) -> str | None:
    environment, tiny = recipe.environment, recipe.model.tiny
    room = environment.max_prompt_tokens + environment.max_response_tokens
    if tiny is None or room <= tiny.max_position:
        return None
    return (
        f"environment.max_prompt_tokens + max_response_tokens is {room}, beyond "
        f"model.tiny.max_position {tiny.max_position}"
    )


def training_plays_gold_history(recipe: Recipe) -> str | None:
    if recipe.environment.history == "gold":
        return None
    return (
        "environment.history: training plays with gold history; evaluation.histories chooses what "
        "evaluation plays"
    )


RULES: tuple[Callable[[Recipe], str | None], ...] = (
    release_has_a_folder,
    random_weights_are_trained_first,
    history_is_found,
    wire_tokens_are_learned,
    replay_has_scripts,
    ranks_share_a_batch,
    replicas_fill_a_node,
    tiny_model_holds_a_turn,
    training_plays_gold_history,
)
"""In the order in which a recipe is told of its mistakes."""
