"""Verdicts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One prediction against its gold; None means it could not be judged."""

    ex: bool | None
    em: bool | None
    status: str
    """The prediction's QueryStatus, or "gold_failed", "no_answer", "infra_fault"."""
    message: str = ""
