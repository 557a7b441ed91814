"""Every recipe that ships is valid, and a misspelt key in it is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from omegaconf import DictConfig, OmegaConf

from helpers.places import ROOT
from mtsql.config.environment import DialectName, EnvironmentConfig, PromptName
from mtsql.config.load import load_config
from mtsql.config.rl import RLConfig
from mtsql.config.run import RunConfig
from mtsql.errors import ConfigError
from mtsql.protocol import DIALECTS
from mtsql.rewards.advantages import MODES

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def leaves(tree: DictConfig, path: str = "") -> Iterator[str]:
    for name, value in tree.items():
        here = f"{path}{name}"
        if isinstance(value, DictConfig) and value:
            yield from leaves(value, f"{here}.")
        else:
            yield here


def test_there_are_recipes() -> None:
    assert "demo_cpu.yaml" in {path.name for path in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid(recipe: Path) -> None:
    assert isinstance(load_config(recipe), RunConfig)


def test_no_two_recipes_share_a_run_folder() -> None:
    folders = [load_config(path).folder for path in RECIPES]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_misspelt_key_is_refused_with_its_path_and_the_nearest_name(
    recipe: Path, tmp_path: Path
) -> None:
    tree = OmegaConf.load(recipe)
    assert isinstance(tree, DictConfig)
    path = next(path for path in leaves(tree) if path.startswith("environment."))
    *parents, name = path.split(".")
    node = tree
    for parent in parents:
        node = node[parent]
    node[f"{name}x"] = node.pop(name)
    copy = tmp_path / recipe.name
    OmegaConf.save(tree, copy)
    with pytest.raises(ConfigError) as caught:
        load_config(copy)
    message = str(caught.value)
    assert f"{copy}: unknown key '{path}x'; did you mean '{name}'?" in message
    assert "\n" not in message


def test_an_override_is_checked_like_a_key() -> None:
    demo = ROOT / "recipes" / "demo_cpu.yaml"
    rl = load_config(demo, ["rl.num_steps=3", "rl.num_steps=4"]).rl
    assert rl is not None
    assert rl.num_steps == 4
    with pytest.raises(ConfigError, match=r"'rl\.num_step'; did you mean 'num_steps'"):
        load_config(demo, ["rl.num_step=3"])
    with pytest.raises(ConfigError, match=r"key 'rl\.num_steps'.*given: 'many'"):
        load_config(demo, ["rl.num_steps=many"])
    with pytest.raises(ConfigError, match=r"key 'rl\.temperature'.*finite number"):
        load_config(demo, ["rl.temperature=.inf"])
    with pytest.raises(ConfigError, match="write KEY=VALUE"):
        load_config(demo, ["rl.num_steps"])


def test_only_the_compact_prompt_shows_history_that_can_be_learned() -> None:
    demo = ROOT / "recipes" / "demo_cpu.yaml"
    with pytest.raises(ConfigError, match=r"learn_history reads the prompt `compact`"):
        load_config(demo, ["warm_start.learn_history=true", "environment.prompt=full"])


def test_rewards_of_several_kinds_go_with_every_advantage() -> None:
    demo = ROOT / "recipes" / "demo_cpu.yaml"
    preset = ["reward.preset=mtsql_r1"]
    assert set(get_args(RLConfig.model_fields["advantage"].annotation)) == set(MODES)
    modes = [f"rl.advantage={mode}" for mode in MODES]
    for override in (*modes, "reward.attribution=last"):
        assert load_config(demo, [*preset, override]).reward.generation == 0.8
    with pytest.raises(ConfigError, match=r"key 'reward\.preset'"):
        load_config(demo, ["reward.preset=r1"])


def test_what_the_ranks_cannot_share_is_refused_before_any_work() -> None:
    demo = ROOT / "recipes" / "selftaught_demo_cpu.yaml"
    with pytest.raises(ConfigError, match=r"warm_start\.batch_size is 8, but 7 ranks"):
        load_config(demo, ["machine.gpus_per_node=7", "warm_start.num_ranks=null"])
    with pytest.raises(ConfigError, match=r"machine\.tensor_parallel is 4, which does not divide"):
        load_config(demo, ["machine.gpus_per_node=6", "machine.tensor_parallel=4"])
    rounds = ["selftaught.fine_tune.batch_size=10", "selftaught.fine_tune.num_ranks=4"]
    with pytest.raises(
        ConfigError, match=r"selftaught\.fine_tune\.batch_size is 10, but 4 ranks.*num_ranks"
    ):
        load_config(demo, rounds)
    assert load_config(demo, [*rounds, "selftaught.fine_tune.num_ranks=5"]).selftaught is not None


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs_in_every_dialect(recipe: Path) -> None:
    for dialect in get_args(DialectName):
        for prompt in get_args(PromptName):
            overrides = [f"environment.dialect={dialect}", f"environment.prompt={prompt}"]
            if prompt != "compact" and load_config(recipe).warm_start is not None:
                overrides.append("warm_start.learn_history=false")
            environment = load_config(recipe, [*overrides, "environment.max_schema_tokens=500"])
            assert environment.environment.dialect == dialect
    with pytest.raises(ConfigError, match=r"key 'environment\.dialect'.*given: 'mtsql-r1'"):
        load_config(recipe, ["environment.dialect=mtsql-r1"])


def test_every_dialect_is_a_choice_and_its_default_is_not_changed() -> None:
    assert get_args(DialectName) == tuple(DIALECTS)
    defaults = EnvironmentConfig()
    assert (defaults.dialect, defaults.prompt) == ("actions", "full")
    assert defaults.max_schema_tokens is None


def test_a_recipe_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such recipe"):
        load_config(tmp_path / "nothing.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not readable as YAML"):
        load_config(broken)


def test_training_with_predicted_history_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"environment\.history: training plays with gold history"
    ):
        load_config(ROOT / "recipes" / "demo_cpu.yaml", ["environment.history=predicted"])
