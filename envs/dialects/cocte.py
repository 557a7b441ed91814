"""The `cocte` dialect: a proposal is a chain of views, and a view has no verdict."""

from collections.abc import Collection

from envs.dialects.base import ProposalError, Rules
from mtsql.chains.chain import Chain, Proposal, View, view_problem
from mtsql.protocol import COCTE as COCTE_WIRE
from mtsql.protocol import ActionName, ToolCall


def chain_of(call: ToolCall, current: Proposal | None, tables: Collection[str]) -> Chain:
    """`propose` adds a view to the current chain, `correct` replaces its last one."""
    views: tuple[View, ...] = current.views if isinstance(current, Chain) else ()
    before = views if call.name is ActionName.PROPOSE else views[:-1]
    name = call.view or (views[-1].name if views else "")
    view = View(name=name, sql=call.sql or "")
    if why := view_problem(view, taken=[*tables, *(one.name for one in before)]):
        raise ProposalError(why)
    return Chain((*before, view))


COCTE = Rules(wire=COCTE_WIRE, propose=chain_of, judges_results=False, view="result")
