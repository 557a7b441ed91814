"""A recipe, typed: OmegaConf reads YAML and dotted overrides, pydantic decides, once, at the door.

Every key is documented here, beside its default. A misspelt key is refused with its path and the
nearest right name.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, cast, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from mtsql.config_section import Section
from mtsql.errors import ConfigError
from mtsql.sql.records import QueryLimits
from mtsql.supervised_config import FineTuneConfig, SelfTaughtConfig, WarmStartConfig

HistoryMode = Literal["gold", "predicted"]
DataSource = Literal["embedded", "sparc", "cosql", "spider"]
DialectName = Literal["actions", "mtsql_r1", "cocte", "short_horizon"]
PromptName = Literal["compact", "full", "m_schema"]


class DataConfig(Section):
    """Which dialogues, and where they lie."""

    source: DataSource = "embedded"
    """`embedded` is generated offline in seconds; the others read official releases."""
    source_dir: Path | None = None
    """Folder of the release (holds sparc/, cosql/ or spider/); not used by `embedded`."""
    folder: Path | None = None
    """Prepared dataset folder; made when it is missing. Default: RUN_DIR/data."""
    seed: int = 1
    """Seed of the embedded generator and of the validation split carved from train."""
    num_train_dialogues: PositiveInt | None = None
    """Embedded: how many to generate. Real data: use only the first ones (None: all)."""
    num_valid_dialogues: PositiveInt | None = None
    num_test_dialogues: PositiveInt | None = None
    num_test_ood_dialogues: PositiveInt | None = None


class TinyModelConfig(Section):
    """A Qwen3 and a byte-level BPE tokenizer, both trained from scratch."""

    vocab_size: PositiveInt = 2048
    hidden_size: PositiveInt = 192
    num_layers: PositiveInt = 4
    num_heads: PositiveInt = 6
    num_kv_heads: PositiveInt = 2
    head_dim: int = Field(default=32, ge=32, multiple_of=32)
    """vLLM's CPU attention works on multiples of 32."""
    intermediate_size: PositiveInt = 512
    max_position: PositiveInt = 2048


class ModelConfig(Section):
    """The policy's starting point: one of the two keys."""

    tiny: TinyModelConfig | None = None
    """Train a tiny model from scratch (the embedded default)."""
    path: str | None = None
    """A Hugging Face model folder, e.g. a local copy of Qwen3-1.7B."""
    thinking: bool = False
    """Passed to chat templates that know `enable_thinking` (Qwen3)."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.tiny is None) == (self.path is None):
            raise ValueError("set exactly one of model.tiny and model.path")
        return self


class EnvironmentConfig(Section):
    """One turn as the agent lives it."""

    dialect: DialectName = "actions"
    """How the actions stand on the wire. `actions`: a tool for each. `mtsql_r1`: the tools and tags
    of MTSQL-R1's checkpoints. `cocte`: the query grows as a chain of views. `short_horizon`: one
    message that holds SQL only, for baselines."""
    prompt: PromptName = "full"
    """`compact` holds schema, history and question only, and replies are bare JSON in every
    dialect; `full` adds the task and the rules; `m_schema` shows example values of each column
    too."""
    max_schema_tokens: PositiveInt | None = None
    """Budget of the schema in the prompt; what the question and the history do not touch is left
    out first, and the prompt says how much is missing. None: the whole schema."""
    example_values: NonNegativeInt = 3
    """Values of each column that `m_schema` shows."""
    history: HistoryMode = "gold"
    """What memory holds of earlier turns in training."""
    max_steps: PositiveInt = 8
    """Model messages in one turn; the last one is announced."""
    max_malformed: PositiveInt = 2
    """Unreadable messages in a row that end the turn."""
    max_prompt_tokens: PositiveInt = 4000
    max_response_tokens: PositiveInt = 8000
    """All steps of a turn together, observations included."""
    max_step_tokens: PositiveInt = 1000
    """One model message."""
    call_timeout_s: PositiveFloat = 300.0
    """One model call or one environment step; a longer one is an infrastructure fault."""
    preview_rows: PositiveInt = 5
    """Rows that an observation shows; the count is always given."""
    preview_cell_chars: PositiveInt = 60
    preview_chars: PositiveInt = 2000
    """All previewed cells of one observation together."""


class SqlConfig(Section):
    """The pool of database processes, one on each node."""

    num_workers: PositiveInt = 2
    timeout_s: PositiveFloat = 5.0
    max_vm_steps: PositiveInt = 50_000_000
    max_rows: PositiveInt = 10_000
    max_cells: PositiveInt = 1_000_000
    max_bytes: PositiveInt = 8_000_000
    memory_mb: PositiveInt = 1024
    """Address space of one worker."""
    cache_mb: PositiveInt = 64

    def pool(self) -> dict[str, int]:
        """The keyword arguments of a pool: local or, through Ray, one on each node."""
        return {
            "num_workers": self.num_workers,
            "memory_mb": self.memory_mb,
            "cache_bytes": self.cache_mb * 1_000_000,
        }

    def limits(self) -> QueryLimits:
        return QueryLimits(
            timeout_s=self.timeout_s,
            max_vm_steps=self.max_vm_steps,
            max_rows=self.max_rows,
            max_cells=self.max_cells,
            max_bytes=self.max_bytes,
        )


REWARD_PRESETS: Mapping[str, Mapping[str, object]] = {
    "mtsql_r1": {
        "ex": 1.0,
        "em": 1.0,
        "verify": 0.1,
        "coherence": 0.1,
        "generation": 0.8,
        "verdicts": "mean",
    }
}
"""Named sets of the keys below; `mtsql_r1`: EX + EM + 0.1 V + 0.1 C + 0.8 G, from 0 to 3."""


class RewardConfig(Section):
    """Weights of the reward's parts, and how they are given out."""

    preset: Literal["mtsql_r1"] | None = None
    """Fills the keys that are not given beside it; see REWARD_PRESETS."""
    ex: NonNegativeFloat = 1.0
    em: NonNegativeFloat = 1.0
    verify: NonNegativeFloat = 0.1
    """Process reward of an execution verdict that agrees with gold, on the step's last token."""
    coherence: NonNegativeFloat = 0.0
    """The same for a memory verdict that agrees with the measured coherence."""
    generation: NonNegativeFloat = 0.0
    """Times what a proposal gains in clause F1 over the proposal before it, on the step that makes
    it; over a trajectory this sums to the F1 of the last proposal."""
    verdicts: Literal["each", "mean"] = "mean"
    """`each`: every verdict that counts pays its weight. `mean`: all verdicts of one kind share it,
    so that a mistake made on purpose, found and mended, pays no more than a right first proposal.
    """
    verdict_table: Literal["gold", "reference"] = "gold"
    """`gold`: a verdict is right if "pass" stands for a result that matches gold. `reference`: the
    table of MTSQL-R1's code, which never asks gold and pays "pass" on whatever runs; for
    comparisons only."""
    coherent_from: PositiveFloat = Field(default=1.0, le=1)
    """Coherence (clause F1 with values) from which on a proposal counts as coherent."""
    attribution: Literal["steps", "last"] = "steps"
    """`steps`: each reward lies on the step that earned it. `last`: all of them on the last step,
    one number for a trajectory."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        keys = cast("dict[str, object]", given)
        preset = keys.get("preset")
        return {**REWARD_PRESETS.get(preset, {}), **keys} if isinstance(preset, str) else keys


class CurriculumConfig(Section):
    """Which turns come next: those whose outcome is uncertain teach most."""

    enabled: bool = True
    floor: PositiveFloat = 0.05
    """Least weight of a difficulty band, against 0.25 for a band with success 0.5."""
    decay: NonNegativeFloat = Field(default=0.8, le=1)
    """How much of a band's past counts after each step."""


class RLConfig(Section):
    """Group-relative policy optimisation through verl's V1 trainer."""

    num_steps: PositiveInt = 24
    turns_per_step: PositiveInt = 16
    group_size: int = Field(default=8, ge=2)
    """Trajectories for the same turn, compared with each other."""
    temperature: PositiveFloat = 1.0
    learning_rate: PositiveFloat = 1e-6
    advantage: Literal["grpo", "grpo_steps", "grpo_togo"] = "grpo_steps"
    """`grpo`: one scalar for a trajectory. `grpo_steps`: process rewards stay with their step, and
    are compared with each other, so they must be of one kind. `grpo_togo`: a step answers for the
    process rewards from it to the end, of whatever kinds."""
    kl_coef: NonNegativeFloat = 0.0
    """Weight of the KL loss against the warm start; 0 loads no reference model."""
    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    max_batch_tokens: PositiveInt = 16384
    """Tokens in one forward pass of the learner."""
    save_every: PositiveInt = 10
    curriculum: CurriculumConfig = CurriculumConfig()


class EvaluationConfig(Section):
    """Greedy decoding through vLLM and the same environment."""

    histories: tuple[HistoryMode, ...] = ("gold", "predicted")
    splits: tuple[str, ...] = ("test", "test_ood")
    num_bootstrap: PositiveInt = 2000
    """Samples of dialogues for the 95 % intervals."""
    max_concurrent: PositiveInt = 64
    """Dialogues played at the same time."""


class MachineConfig(Section):
    """Where it runs."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    num_nodes: PositiveInt = 1
    gpus_per_node: PositiveInt = 1
    """On a CPU machine: learner ranks."""
    learner_threads: PositiveInt = 2
    """On a CPU machine: threads of the learner, which its ranks share, and of vLLM's engine."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    rollout_memory_share: PositiveFloat = Field(default=0.6, le=1)
    """Share of a GPU's memory for vLLM's weights and cache."""
    rollout_cache_gb: PositiveInt = 1
    """vLLM's key-value cache on a CPU machine."""
    max_running: PositiveInt = 128
    """Sequences that one vLLM replica decodes together."""
    tensor_parallel: PositiveInt = 1
    """GPUs that one vLLM replica takes; a divisor of gpus_per_node."""
    agent_workers: PositiveInt = 1
    """Ray actors that play trajectories."""
    ray_address: str | None = None
    """None starts a local Ray; `auto` joins the running cluster (`ray job submit`)."""


class RunConfig(Section):
    """One experiment, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 1
    run_dir: Path | None = None
    """Default: runs/NAME."""
    data: DataConfig = DataConfig()
    model: ModelConfig
    environment: EnvironmentConfig = EnvironmentConfig()
    sql: SqlConfig = SqlConfig()
    warm_start: WarmStartConfig | None = WarmStartConfig()
    """None: what follows starts from model.path as it is."""
    selftaught: SelfTaughtConfig | None = None
    """None: RL starts from the warm start."""
    reward: RewardConfig = RewardConfig()
    rl: RLConfig | None = RLConfig()
    """None: stop after the warm start."""
    evaluation: EvaluationConfig = EvaluationConfig()
    machine: MachineConfig = MachineConfig()

    @property
    def folder(self) -> Path:
        return self.run_dir if self.run_dir is not None else Path("runs") / self.name

    @property
    def data_folder(self) -> Path:
        return self.data.folder if self.data.folder is not None else self.folder / "data"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (
            self.data.source != "embedded"
            and self.data.source_dir is None
            and self.data.folder is None
        ):
            raise ValueError(
                f"data.source is {self.data.source!r}: "
                "set data.source_dir to the folder of the release"
            )
        if self.model.tiny is not None and self.warm_start is None:
            raise ValueError("model.tiny starts from random weights: keep warm_start")
        if (
            self.rl is not None
            and self.rl.advantage == "grpo_steps"
            and self.reward.attribution == "steps"
            and self.reward.generation
        ):
            raise ValueError(
                "rl.advantage 'grpo_steps' compares verdicts with verdicts: with reward.generation "
                "set rl.advantage to grpo_togo or grpo"
            )
        if self.selftaught is not None and self.selftaught.replay and self.warm_start is None:
            raise ValueError(
                "selftaught.replay repeats the warm start's scripts: keep warm_start, or set "
                "selftaught.replay=0"
            )
        fine_tunes: dict[str, FineTuneConfig] = {}
        if self.warm_start is not None:
            fine_tunes["warm_start"] = self.warm_start
        if self.selftaught is not None:
            fine_tunes["selftaught.fine_tune"] = self.selftaught.fine_tune
        for key, one in fine_tunes.items():
            num_ranks = one.num_ranks or self.machine.gpus_per_node
            if one.batch_size % num_ranks:
                raise ValueError(
                    f"{key}.batch_size is {one.batch_size}, but {num_ranks} ranks share it: "
                    f"make it a multiple, or set {key}.num_ranks"
                )
        machine = self.machine
        if machine.gpus_per_node % machine.tensor_parallel:
            raise ValueError(
                f"machine.tensor_parallel is {machine.tensor_parallel}, which does not divide "
                f"machine.gpus_per_node {machine.gpus_per_node}: set one of them"
            )
        environment = self.environment
        room = environment.max_prompt_tokens + environment.max_response_tokens
        if self.model.tiny is not None and room > self.model.tiny.max_position:
            raise ValueError(
                f"environment.max_prompt_tokens + max_response_tokens is {room}, beyond "
                f"model.tiny.max_position {self.model.tiny.max_position}"
            )
        return self


def load_config(recipe: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe and its dotted overrides.

    Args:
        recipe: a YAML file with the keys of `RunConfig`.
        overrides: `rl.num_steps=40` and the like; later ones win.

    Raises:
        ConfigError: one line that names the file, the key and the fix.
    """
    if not recipe.is_file():
        raise ConfigError(f"{recipe}: no such recipe; `ls recipes/*.yaml` lists those that ship")
    try:
        tree = OmegaConf.load(recipe)
        for override in overrides:
            if "=" not in override:
                raise ConfigError(f"override {override!r}: write KEY=VALUE, e.g. rl.num_steps=40")
        tree = OmegaConf.merge(tree, OmegaConf.from_dotlist(list(overrides)))
        plain = OmegaConf.to_container(tree, resolve=True)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{recipe}: not readable as YAML: {line}{error.problem}") from error
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, OSError) as error:
        raise ConfigError(
            f"{recipe}: not readable as YAML: {str(error).splitlines()[0]}"
        ) from error
    try:
        return RunConfig.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(f"{recipe}: {explain(error, RunConfig)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake in one line: the key's path, what is wrong, and the nearest right name."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    more = "" if error.error_count() == 1 else f" (and {error.error_count() - 1} more)"
    if first["type"] == "extra_forbidden":
        names = _keys_at(model, path[:-1])
        near = difflib.get_close_matches(path[-1], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
        return f"unknown key {key!r}; {hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"{message}{more}"
    given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
    return f"key {key!r}: {message}{given}{more}"


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for name in path:
        if name not in model.model_fields:
            return []
        annotation = model.model_fields[name].annotation
        options = [annotation, *get_args(annotation)]
        sections = [
            part for part in options if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)
