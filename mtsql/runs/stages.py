"""The stages of a run: their names, titles, order, what they keep and where they compute.

data, warm_start, evaluate_warm_start
round_N_sample, round_N_select, round_N_fine_tune, round_N_evaluate    for each self-taught round
rl, evaluate_rl
evaluate                                            what `mtsql eval` asks for, outside a run
prm_label, prm_train, prm_evaluate                  what `mtsql prm` asks for, in RUN/prm
"""

import re
from dataclasses import dataclass
from typing import Literal

from mtsql.config.run import RunConfig

Part = Literal["before", "round", "after", "alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageKind:
    """What all stages of one kind have in common."""

    key: str
    """Names the kind; in a round the stage's name is `round_N_KEY`."""
    title: str
    part: Part
    """Of the run: before, within or after the self-taught rounds, or outside of any run."""
    learns: bool = False
    """Keeps what it has so far when it is interrupted."""
    needs_gpu_node: bool = False
    """Computes in its own process, which on a cluster must lie on a node with GPUs."""
    policy: str | None = None
    """Whose evaluation it is; None in a round, and for a stage that evaluates no policy."""


KINDS = (
    StageKind(key="data", title="data", part="before"),
    StageKind(
        key="warm_start", title="warm start", part="before", learns=True, needs_gpu_node=True
    ),
    StageKind(
        key="evaluate_warm_start",
        title="evaluate warm start",
        part="before",
        needs_gpu_node=True,
        policy="warm_start",
    ),
    StageKind(key="sample", title="sample", part="round", learns=True, needs_gpu_node=True),
    StageKind(key="select", title="select", part="round", needs_gpu_node=True),
    StageKind(key="fine_tune", title="fine-tune", part="round", learns=True, needs_gpu_node=True),
    StageKind(key="evaluate", title="evaluate", part="round", needs_gpu_node=True),
    # verl's own task runner finds the GPUs.
    StageKind(key="rl", title="reinforcement learning", part="after", learns=True),
    StageKind(
        key="evaluate_rl", title="evaluate RL", part="after", needs_gpu_node=True, policy="rl"
    ),
    StageKind(key="evaluate", title="evaluate", part="alone", needs_gpu_node=True),
    StageKind(key="prm_label", title="label steps", part="alone", learns=True),
    StageKind(
        key="prm_train", title="train reward models", part="alone", learns=True, needs_gpu_node=True
    ),
    StageKind(key="prm_evaluate", title="judge reward models", part="alone", needs_gpu_node=True),
)
"""Every kind of stage, in the order of a run."""


@dataclass(frozen=True, slots=True)
class Stage:
    kind: StageKind
    round: int | None = None
    """From 1; None outside of the rounds."""

    @property
    def name(self) -> str:
        """As files call it, e.g. `round_2_fine_tune`."""
        key = self.kind.key
        return key if self.round is None else f"round_{self.round}_{key}"

    @property
    def title(self) -> str:
        """In words, e.g. `round 2: fine-tune`."""
        title = self.kind.title
        return title if self.round is None else f"round {self.round}: {title}"

    @property
    def policy(self) -> str | None:
        """Whose evaluation it is, e.g. `round_2`; None if it evaluates no policy of a run."""
        if self.round is not None and self.kind.key == "evaluate":
            return round_policy(self.round)
        return self.kind.policy


def stage_named(name: str) -> Stage:
    """The stage that files and commands call so.

    Raises:
        ValueError: no stage is called so.
    """
    found = re.fullmatch(r"round_([1-9]\d*)_(\w+)", name)
    number, key = (int(found[1]), found[2]) if found else (None, name)
    for kind in KINDS:
        if kind.key == key and (kind.part == "round") == (number is not None):
            return Stage(kind, number)
    raise ValueError(f"no stage is called {name!r}")


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages that a recipe asks for, in order."""
    left_out = {
        key
        for key, section in (("warm_start", config.warm_start), ("rl", config.rl))
        if section is None
    }
    if config.rl is None:
        left_out.add("evaluate_rl")
    rounds = 0 if config.selftaught is None else config.selftaught.rounds

    def part(name: Part, number: int | None = None) -> list[Stage]:
        kinds = [kind for kind in KINDS if kind.part == name and kind.key not in left_out]
        return [Stage(kind, number) for kind in kinds]

    taught = [stage for number in range(1, rounds + 1) for stage in part("round", number)]
    return [*part("before"), *taught, *part("after")]


def round_policy(number: int) -> str:
    """What files call the policy of a self-taught round."""
    return f"round_{number}"


def round_of_policy(policy: str) -> int | None:
    """2 for `round_2`; None for a policy that no round has made."""
    found = re.fullmatch(r"round_(\d+)", policy)
    return int(found[1]) if found else None


def policy_title(policy: str) -> str:
    return {"warm_start": "warm start", "rl": "RL"}.get(policy, policy.replace("_", " "))


def policy_order(policy: str) -> int:
    """The order in which a run makes its policies."""
    number = round_of_policy(policy)
    if number is not None:
        return number
    return {"warm_start": 0, "rl": 1_000_000}.get(policy, 2_000_000)
