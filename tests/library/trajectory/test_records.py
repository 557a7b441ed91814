"""Classes of results, whatever the cells and messages say; an ending and its fault."""

import pytest

from mtsql.sql.records import QueryResult, QueryStatus, ResultClass, class_of
from mtsql.trajectory.records import Ending, Fault, FaultKind, Trajectory


def result(*rows, truncated=False):
    columns = ("a", "b")[: len(rows[0]) if rows else 1]
    return QueryResult(status=QueryStatus.OK, columns=columns, rows=rows, truncated=truncated)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (result(), "empty"),
        (result((None,)), "all_null"),
        (result((None, None), (None, None)), "all_null"),
        (result((0,)), "zero"),
        (result((0.0,)), "zero"),
        (result((0, 0)), "ok"),  # two columns: no count
        (result((0,), (0,)), "ok"),
        (result((None, 1)), "ok"),
        (result(("0",)), "ok"),
        (result(("",)), "ok"),
        (result(("no rows",)), "ok"),
        (result(("error: no such table",)), "ok"),
        (result(("[]",)), "ok"),
        (result((1,), truncated=True), "cut"),
        (result((None,), truncated=True), "all_null"),
        (QueryResult(status=QueryStatus.ERROR, message="no rows"), "error"),
        (QueryResult(status=QueryStatus.REFUSED), "refused"),
        (QueryResult(status=QueryStatus.INTERRUPTED), "timeout"),
        (QueryResult(status=QueryStatus.CAPPED), "capped"),
        (QueryResult(status=QueryStatus.INFRA_FAULT), None),
    ],
)
def test_the_class_of_a_result(shown, expected):
    assert class_of(shown) == (None if expected is None else ResultClass(expected))


def test_a_trajectory_has_a_fault_if_and_only_if_it_ends_as_one():
    facts = {"turn_id": "d/0", "steps": (), "proposals": (), "judgements": ()}
    fault = Fault(kind=FaultKind.SCORER, message="no scores")
    assert Trajectory(**facts, ending=Ending.INFRA_FAULT, fault=fault).fault is fault
    assert Trajectory(**facts, ending=Ending.ANSWERED).fault is None
    with pytest.raises(ValueError, match="d/0: ends as infra_fault, with fault None"):
        Trajectory(**facts, ending=Ending.INFRA_FAULT)
    with pytest.raises(ValueError, match="d/0: ends as answered, with fault"):
        Trajectory(**facts, ending=Ending.ANSWERED, fault=fault)
