"""One turn as the agent lives it: the wire, the prompt, the limits."""

from typing import Literal

from pydantic import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from mtsql.config.section import Section

HistoryMode = Literal["gold", "predicted"]
DialectName = Literal["actions", "mtsql_r1", "cocte", "short_horizon"]
PromptName = Literal["compact", "full", "m_schema"]


class EnvironmentConfig(Section):
    """One turn as the agent lives it."""

    dialect: DialectName = "actions"
    """How the actions stand on the wire. `actions`: a tool for each. `mtsql_r1`: the tools and tags
    of MTSQL-R1's checkpoints. `cocte`: the query grows as a chain of views. `short_horizon`: one
    message that holds SQL only, for baselines."""
    prompt: PromptName = "full"
    """`compact` holds schema, history and question only (in `short_horizon` as a conversation), and
    replies are bare JSON in every dialect; `full` adds the task and the rules; `m_schema` shows
    example values of each column too."""
    max_schema_tokens: PositiveInt | None = None
    """Budget of the schema in the prompt; what the question and the history do not touch is left
    out first, and the prompt says how much is missing. None: the whole schema."""
    example_values: NonNegativeInt = 3
    """Values of each column that `m_schema` shows."""
    value_hints: bool = False
    """The prompt ends with the stored texts that the question names, and their columns:
    `city.name = 'ROME'` for "Rome". A column with more than `sql.max_rows` different texts gives
    none. The demo leaves them off: its questions spell values otherwise than its databases do, so
    that a policy has to look, and hints would look for it."""
    name_hints: bool = False
    """An error about a name shows which tables have the column, else the columns of those that the
    query reads, or the tables that there are (SQLite; other engines name candidates themselves). A
    small model repeats itself without."""
    history: HistoryMode = "gold"
    """What memory holds of earlier turns in training."""
    max_steps: PositiveInt = 8
    """Model messages in one turn; the last one is announced."""
    max_malformed: PositiveInt = 2
    """Unreadable messages in a row that end the turn."""
    max_prompt_tokens: PositiveInt = 4000
    """A turn with a longer prompt ends before its first message."""
    max_response_tokens: PositiveInt = 8000
    """All steps of a turn together, observations included."""
    max_step_tokens: PositiveInt = 1000
    """One model message."""
    call_timeout_s: PositiveFloat = 300.0
    """One model call or one environment step; a longer one is an infrastructure fault."""
    preview_rows: PositiveInt = 5
    """Rows that an observation shows; the count is always given."""
    preview_cell_chars: PositiveInt = 60
    """Of one previewed cell; a longer one is cut."""
    preview_chars: PositiveInt = 2000
    """All previewed cells of one observation together."""
