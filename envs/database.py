"""A turn's database: what its statements lead to, as observations and as judgements."""

from collections.abc import Sequence

from mtsql.chains.chain import Chain
from mtsql.chains.digest import ViewDigest, digest_view, observe_digest
from mtsql.chains.truth import Truth, view_truth
from mtsql.config.environment import EnvironmentConfig
from mtsql.dialogue import PastTurn, TurnSpec
from mtsql.evaluation.judge import JudgeItem, judge_many
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import OFFICIAL, Rules
from mtsql.shown.missing import missing_name
from mtsql.shown.results import observe_result, preview_cell
from mtsql.shown.stored import lookups
from mtsql.sql.records import (
    QueryLimits,
    QueryRequest,
    QueryResult,
    QueryStatus,
    SqlExecutor,
    suspicion,
)


class TurnDatabase:
    """Runs, previews and judges; holds no state of the turn."""

    def __init__(
        self,
        spec: TurnSpec,
        executor: SqlExecutor,
        config: EnvironmentConfig,
        limits: QueryLimits,
        rules: Rules = OFFICIAL,
    ) -> None:
        self._spec = spec
        self._executor = executor
        self._config = config
        self._limits = limits
        self._rules = rules

    async def run(self, sql: str) -> QueryResult:
        (result,) = await self._run_all([sql])
        return result

    async def digest(self, chain: Chain) -> ViewDigest:
        """The chain run on top of what is kept of it, and what its last view shows."""
        spec = self._spec
        return await digest_view(self._executor, spec.db_id, chain, spec.schema, self._limits)

    async def observe(
        self, sql: str, result: QueryResult, digest: ViewDigest | None = None
    ) -> dict[str, object]:
        """The result as the agent sees it; of a suspicious one, what the columns store as well, and
        of an error about a name, where to look, if the recipe wants it.

        Args:
            digest: of a view, which begins the observation; None: it is a query.
        """
        observation = self._preview(result) if digest is None else self._preview_digest(digest)
        if suspicion(result):
            observation |= await self._stored_values(sql)
        if self._config.name_hints and result.status is not QueryStatus.OK:
            observation |= missing_name(sql, result.kind or "", result.message, self._spec.schema)
        return observation

    async def previews(
        self, turns: Sequence[PastTurn]
    ) -> list[tuple[PastTurn, dict[str, object] | None]]:
        """Earlier turns with their results; None for one without an answer, or not to be had."""
        results = iter(await self._run_all([turn.sql for turn in turns if turn.sql]))
        found: list[tuple[PastTurn, dict[str, object] | None]] = []
        for turn in turns:
            result = next(results) if turn.sql else None
            if result is None or result.status is QueryStatus.INFRA_FAULT:
                found.append((turn, None))
            else:
                found.append((turn, self._preview(result)))
        return found

    async def judge(self, proposals: Sequence[str]) -> Sequence[Judgement]:
        """One judgement against gold for each proposal."""
        if not proposals:
            return ()
        spec = self._spec
        return await judge_many(
            self._executor,
            [
                JudgeItem(
                    db_id=spec.db_id,
                    gold_sql=spec.turn.gold_sql,
                    pred_sql=sql,
                    schema=spec.schema,
                    limits=self._limits,
                    rules=self._rules,
                )
                for sql in proposals
            ],
        )

    async def truth(self, chain: Chain) -> Truth:
        """Of the chain's last view, against gold."""
        spec, gold = self._spec, self._spec.turn.gold_sql
        found = await view_truth(
            self._executor, spec.db_id, chain, gold, spec.schema, limits=self._limits
        )
        return found.truth

    async def _run_all(self, statements: Sequence[str]) -> list[QueryResult]:
        return await self._executor.execute_many(
            [
                QueryRequest(db_id=self._spec.db_id, sql=sql, limits=self._limits)
                for sql in statements
            ]
        )

    async def _stored_values(self, sql: str) -> dict[str, object]:
        """What the columns hold that the query compared with a text value; {} when it did not."""
        wanted = lookups(sql, self._spec.schema)
        results = await self._run_all([one.sql for one in wanted])
        stored: dict[str, list[object]] = {}
        for one, result in zip(wanted, results, strict=True):
            if result.status is QueryStatus.OK:
                shown = stored.setdefault(one.column, [])
                for row in result.rows:
                    value = preview_cell(row[0], self._config.preview_cell_chars)
                    if value not in shown:
                        shown.append(value)
        return {"stored": stored} if stored else {}

    def _preview_digest(self, digest: ViewDigest) -> dict[str, object]:
        return observe_digest(
            digest,
            preview_rows=self._config.preview_rows,
            preview_cell_chars=self._config.preview_cell_chars,
            preview_chars=self._config.preview_chars,
        )

    def _preview(self, result: QueryResult) -> dict[str, object]:
        return observe_result(
            result,
            preview_rows=self._config.preview_rows,
            preview_cell_chars=self._config.preview_cell_chars,
            preview_chars=self._config.preview_chars,
        )
