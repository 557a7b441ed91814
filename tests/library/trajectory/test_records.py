"""Classes of results: typed facts, whatever the cells and messages say."""

import pytest

from mtsql.sql.records import QueryResult, QueryStatus, ResultClass, class_of


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
