"""An audit for the terminal."""

from collections import Counter

from rich.table import Table

from mtsql.audit.audit import DEPARTURES, FACTS, Audit


def audit_table(audit: Audit) -> Table:
    """Findings by kind and their precision, then what was found of each kind of planted error."""
    measured = audit.measured
    caption = (
        f"{measured.num_planted} planted errors: recall {_share(measured.overall_recall)}, "
        f"precision {_share(measured.overall_precision)} in the whole set, "
        f"{_share(measured.balanced_precision)} with as many untouched turns"
    )
    for kind, count in audit.muted.items():
        caption += f"\nleft out: {kind}, it would be found {count} times"
    table = Table(title=f"{audit.num_turns} turns", caption=caption, caption_justify="left")
    table.add_column("finding")
    table.add_column("turns", justify="right")
    table.add_column("precision", justify="right")
    counts = Counter(one.kind for one in audit.findings)
    for kind in (*FACTS, *DEPARTURES):
        table.add_row(kind, str(counts[kind]), _share(measured.precision[kind]))
    table.add_section()
    for kind, recall in measured.recall.items():
        table.add_row(f"planted {kind}", "", f"found {_share(recall)}")
    return table


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
