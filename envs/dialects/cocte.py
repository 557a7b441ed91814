"""The `cocte` dialect: a proposal is a chain of views."""

from collections.abc import Sequence

from sqlglot import exp

from envs.dialects.base import Known, ProposalError, Rules
from mtsql.chains.chain import Chain, Proposal, View, view_problem
from mtsql.protocol import COCTE as COCTE_WIRE
from mtsql.protocol import ActionName, ToolCall
from mtsql.query.reading import parse_query
from mtsql.query.scopes import definition_of


def chain_of(call: ToolCall, current: Proposal | None, known: Known) -> Chain:
    """`propose` adds a view to the current chain, `correct` replaces one: the last, or the one that
    it names, and then those after it are gone. A view of an earlier turn that the new one reads
    comes into the chain before it.
    """
    views: tuple[View, ...] = current.views if isinstance(current, Chain) else ()
    before, name = views, call.view or ""
    if call.name is ActionName.CORRECT:
        names = [view.name.lower() for view in views]
        if name and name.lower() not in names:
            raise ProposalError(f"name: the chain has no view {name}; correct one of its own")
        place = names.index(name.lower()) if name else len(views) - 1
        before, name = views[:place], views[place].name
    view = View(name=name, sql=call.sql or "")
    if why := view_problem(view, taken=[*known.tables, *(one.name for one in before)]):
        raise ProposalError(why)
    later = {one.name.lower() for one in views[len(before) :]}
    used = _with_earlier(view, before, known, later)
    return Chain((*before, *used, view))


def _with_earlier(view: View, before: Sequence[View], known: Known, later: set[str]) -> list[View]:
    """The views of earlier turns that the view needs, in an order in which they can stand.

    Raises:
        ProposalError: it reads itself, a view after it, or what is nowhere.
    """
    tables = {table.lower() for table in known.tables}
    there = {one.name.lower() for one in before}
    needed: dict[str, View] = {}

    def bring(reader: View, earlier: Sequence[View]) -> None:
        for name in _read_names(reader.sql):
            key = name.lower()
            if key in tables | there or key in needed:
                continue
            if key == view.name.lower():
                raise ProposalError(f"sql: {view.name} reads itself; only WITH RECURSIVE may")
            if key in later:
                raise ProposalError(f"sql: {name} comes after {view.name}; read what is before it")
            place = next(
                (place for place, one in enumerate(earlier) if one.name.lower() == key), None
            )
            if place is None:
                raise ProposalError(
                    f"sql: {name} is neither a table nor a view of the chain or an earlier turn"
                )
            # A turn's views stand latest first: what it reads comes after it in the list.
            bring(earlier[place], earlier[place + 1 :])
            needed[key] = earlier[place]

    bring(view, known.earlier)
    return list(needed.values())


def _read_names(sql: str) -> list[str]:
    """The tables and views that a query reads, not those that it defines; [] if it is no query."""
    tree = parse_query(sql)
    if tree is None:
        return []  # the database says what is wrong with it
    return [
        table.name
        for table in tree.find_all(exp.Table)
        if isinstance(table.this, exp.Identifier) and not table.db and definition_of(table) is None
    ]


COCTE = Rules(wire=COCTE_WIRE, propose=chain_of, shows_chains=True, view="result")
