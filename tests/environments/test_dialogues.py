"""Whole turns from files, in every dialect: what the model says, what is done, what it reads."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from envs.turn import TurnEnv
from helpers.shops import SALES_FIRST, SALES_SECOND, write_sales
from helpers.turns import POOLS
from mtsql.config.environment import EnvironmentConfig
from mtsql.protocol import DIALECTS, Action, Answer, ParseFailure
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits
from mtsql.trajectory.records import Ending, Trajectory

FILES = sorted((Path(__file__).parent / "dialogues").glob("*.yaml"))
DIALOGUES = [
    pytest.param(path.stem, dialogue, id=f"{path.stem}: {dialogue['name']}")
    for path in FILES
    for dialogue in yaml.safe_load(path.read_text(encoding="utf-8"))
]


def words(action: Action) -> str:
    """`verify execution fail`, `propose`, `answer`, `failure`."""
    if isinstance(action, Answer):
        return "answer"
    if isinstance(action, ParseFailure):
        return "failure"
    parts = (str(action.name), action.view, action.target, action.verdict)
    return " ".join(part for part in parts if part)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sales(tmp_path_factory.mktemp("shops") / "shops.sqlite")


def play(database: Path, dialect: Any, dialogue: dict[str, Any]) -> tuple[list[Any], Trajectory]:
    config = EnvironmentConfig(dialect=dialect, **dialogue.get("options", {}))

    async def run(pool: LocalPool) -> tuple[list[Any], Trajectory]:
        spec = (SALES_FIRST, SALES_SECOND)[dialogue["turn"]]
        env = TurnEnv(spec, pool, config, QueryLimits())
        await env.start()
        results = [await env.step(step["says"]) for step in dialogue["steps"]]
        is_over = results[-1].ending is not None
        trajectory = await env.finish(None if is_over else Ending.MAX_TOKENS)
        return [result.observation for result in results], trajectory

    return POOLS.run(database, run)


def test_every_dialect_has_its_dialogues() -> None:
    assert {path.stem for path in FILES} == set(DIALECTS)


@pytest.mark.parametrize(("dialect", "dialogue"), DIALOGUES)
def test_a_dialogue(dialect: str, dialogue: dict[str, Any], database: Path) -> None:
    observations, trajectory = play(database, dialect, dialogue)
    for step, told, observation in zip(
        trajectory.steps, dialogue["steps"], observations, strict=True
    ):
        assert observation == step.observation == told.get("reads")
        assert ", ".join(words(action) for action in step.actions) == told["does"]
        assert step.is_accepted is told.get("accepted", True)
        shown = step.result_class
        assert told.get("status") == (shown and ("ok" if shown.has_run else shown))
        assert step.num_ignored == told.get("ignored", 0)
        assert step.lacks_verdict is told.get("lacks_verdict", False)
    assert trajectory.ending == dialogue["ending"]
    assert list(trajectory.statements) == dialogue["proposals"]
    assert [judgement.ex for judgement in trajectory.judgements] == dialogue["right"]
    assert list(trajectory.truths) == dialogue.get("truths", [])


@pytest.mark.parametrize(("dialect", "dialogue"), DIALOGUES)
def test_no_part_of_an_observation_acts(dialect: str, dialogue: dict[str, Any]) -> None:
    # A model that copies what it read, from anywhere to anywhere, does nothing by it.
    parse = DIALECTS[dialect].parse
    for text in {step["reads"] for step in dialogue["steps"] if "reads" in step}:
        cuts = [0, *(index for index, letter in enumerate(text) if letter in "<>{}\n"), len(text)]
        for start in cuts:
            for end in cuts:
                for part in (text[start:end], text[start : end + 1]):
                    reading = parse(part)
                    assert isinstance(reading.actions[0], ParseFailure), part
