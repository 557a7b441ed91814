"""The schema as a turn's prompt shows it: rendering, example values, budget."""

from functools import partial

from mtsql.config.environment import EnvironmentConfig
from mtsql.dialogue import TurnSpec
from mtsql.shown.budget import CountTokens, fit_schema
from mtsql.shown.examples import Examples, example_values
from mtsql.shown.schema import compact_schema, full_schema, m_schema
from mtsql.sql.records import QueryLimits, SqlExecutor


async def shown_schema(
    spec: TurnSpec,
    executor: SqlExecutor,
    config: EnvironmentConfig,
    limits: QueryLimits,
    count_tokens: CountTokens,
) -> str:
    """The text that replaces `$schema`; only `m_schema` asks the database."""
    examples: Examples = {}
    render = compact_schema if config.prompt == "compact" else full_schema
    if config.prompt == "m_schema":
        examples = await example_values(
            executor, spec.db_id, spec.schema, limit=config.example_values, limits=limits
        )
        render = partial(m_schema, examples=examples)
    if config.max_schema_tokens is None:
        return render(spec.schema)
    return fit_schema(
        spec.schema,
        render,
        budget=config.max_schema_tokens,
        count=count_tokens,
        about=[
            spec.turn.question,
            *(text for past in spec.history for text in (past.question, past.sql)),
        ],
        examples=examples,
    )
