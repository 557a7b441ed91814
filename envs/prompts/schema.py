"""The database as a turn's prompt shows it: schema, example values, budget, named values."""

from collections.abc import Sequence
from functools import partial

from mtsql.config.environment import EnvironmentConfig
from mtsql.dialogue import TurnSpec
from mtsql.shown.budget import CountTokens, fit_schema
from mtsql.shown.examples import Examples, example_values
from mtsql.shown.hints import Hint, value_hints
from mtsql.shown.schema import compact_schema, full_schema, m_schema
from mtsql.sql.records import QueryLimits, SqlExecutor


async def shown_hints(
    spec: TurnSpec, executor: SqlExecutor, config: EnvironmentConfig, limits: QueryLimits
) -> list[list[Hint]]:
    """The stored values that each question of the dialogue names, this one last.

    Empty if the recipe does not want them.
    """
    if not config.value_hints:
        return []
    questions = [*(past.question for past in spec.history), spec.turn.question]
    return [
        await value_hints(executor, spec.db_id, spec.schema, question, limits=limits)
        for question in questions
    ]


async def shown_schema(
    spec: TurnSpec,
    executor: SqlExecutor,
    config: EnvironmentConfig,
    limits: QueryLimits,
    count_tokens: CountTokens,
    hints: Sequence[Sequence[Hint]] = (),
) -> str:
    """The text that replaces `$schema`; only `m_schema` asks the database.

    Args:
        hints: of each question; their columns stay in a budget as those that a question names.
    """
    examples: Examples = {}
    render = compact_schema if config.prompt == "compact" else full_schema
    if config.prompt == "m_schema":
        examples = await example_values(
            executor, spec.db_id, spec.schema, limit=config.example_values, limits=limits
        )
        render = partial(m_schema, examples=examples)
    if config.max_schema_tokens is None:
        return render(spec.schema)
    values = [hint for some in hints for hint in some]
    named = {(hint.table.name, hint.column): (hint.text,) for hint in values}
    return fit_schema(
        spec.schema,
        render,
        budget=config.max_schema_tokens,
        count=count_tokens,
        about=[
            spec.turn.question,
            *(text for past in spec.history for text in (past.question, past.sql)),
            *(hint.text for hint in values),
        ],
        examples={**examples, **named},
    )
