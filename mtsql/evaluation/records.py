"""Verdicts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One prediction against its gold; None means it could not be judged."""

    ex: bool | None
    em: bool | None
    status: str
    """The prediction's QueryStatus, or "gold_failed", "no_answer", "infra_fault", "too_many"."""
    message: str = ""
    ex_strict: bool | None = None
    """As `ex`, with DISTINCT kept and columns in place; None also when it was not asked for."""
    is_empty: bool = False
    """Neither query gave a row: they match, and it says little."""
